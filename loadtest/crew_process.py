"""A crew as a child process, for a parent that is no asyncio program, such as Locust's.

    crew = CrewProcess(on_event=collect, settings=settings, worker="worker-1")
    crew.prepare(split(settings.mix, 60), on_progress=show)     # blocks
    crew.start("voice", "voice-1")
    crew.stop_all()
    crew.close()

Plain pipes and one reading thread: with gevent's monkey patches in force both are its own, and nothing blocks its loop.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

import msgspec

from loadtest.events import Event
from loadtest.orders import (
    Arrive,
    End,
    Left,
    Order,
    Prepare,
    Prepared,
    Progress,
    Start,
    Stop,
    StopAll,
    Trouble,
    encode,
    read_told,
)
from loadtest.settings import ROOT, Kind, LoadSettings

END_S = 20.0
"""How long a crew may take to end: its people close their streams in order."""


class CrewFailed(Exception):
    """The crew has ended, or told why it can't do what it was asked."""


class CrewProcess:
    """`python -m loadtest.crew`, started at once; its messages to people go to this process's standard error."""

    def __init__(
        self,
        on_event: Callable[[Event], None],
        settings: LoadSettings,
        worker: str = "crew",
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        """`on_event` gets every record, on the reading thread (greenlet). `worker` names the crew in records.

        `on_trouble` gets what `Trouble` tells while nobody waits for an answer, and that the crew ended unasked.
        """
        self._on_event = on_event
        self._on_trouble = on_trouble
        self._on_progress: Callable[[Progress], None] | None = None
        self._answered = threading.Event()
        self._waiting = False
        self._trouble = ""
        self._ending = False
        self._writing = threading.Lock()
        path = os.pathsep.join((str(ROOT), str(ROOT / "client"), os.environ.get("PYTHONPATH", "")))
        environment = {**os.environ, **settings.environment(), "PYTHONPATH": path}
        command = [sys.executable, "-m", "loadtest.crew", "--worker", worker]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, name=worker, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether the crew still runs."""
        return self._process.poll() is None

    def prepare(
        self,
        people: Mapping[Kind, int],
        first: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
        within_s: float = 3600.0,
    ) -> None:
        """As `orders.Prepare`; waits until it is done. Raises `CrewFailed`, `TimeoutError`."""
        self._on_progress = on_progress
        self._ask(Prepare(dict(people), first), within_s)

    def start(self, kind: Kind, name: str) -> None:
        """As `orders.Start`. Raises `CrewFailed`, as all orders do once the crew has ended."""
        self._send(Start(name, kind))

    def stop(self, name: str) -> None:
        """As `orders.Stop`."""
        self._send(Stop(name))

    def stop_all(self, within_s: float = END_S) -> None:
        """As `orders.StopAll`; waits until all have left. Raises `CrewFailed`, `TimeoutError`."""
        self._ask(StopAll(), within_s)

    def arrive(self, per_minute: float, turns: int, first: int = 1, step: int = 1) -> None:
        """As `orders.Arrive`: the open loop."""
        self._send(Arrive(per_minute, turns, first, step))

    def close(self) -> None:
        """Everybody leaves and the crew ends; returns when all its events have been read."""
        self._ending = True
        if self.alive:
            try:
                self._send(End())
            except CrewFailed:
                pass  # it ended meanwhile
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # an order that it did not read any more

    def _ask(self, order: Order, within_s: float) -> None:
        self._trouble, self._waiting = "", True
        self._answered.clear()
        self._send(order)
        answered = self._answered.wait(within_s)
        self._waiting = False
        if not answered:
            raise TimeoutError(f"the crew has not answered {type(order).__name__} after {within_s:.0f} s")
        if self._trouble:
            raise CrewFailed(self._trouble)

    def _send(self, order: Order) -> None:
        assert self._process.stdin is not None
        try:
            with self._writing:
                self._process.stdin.write(encode(order))
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise CrewFailed(f"the crew has ended with status {self._process.poll()}") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                told = read_told(line)
            except msgspec.MsgspecError as error:
                self._tell_trouble(f"the crew wrote {line[:200]!r}: {error}")
                continue
            match told:
                case Progress():
                    if self._on_progress is not None:
                        self._on_progress(told)
                case Prepared() | Left():
                    self._answered.set()
                case Trouble():
                    self._tell_trouble(told.what)
                case _:
                    self._on_event(told)
        status = self._process.wait()
        if not self._ending or self._waiting:
            self._tell_trouble(f"the crew has ended with status {status}")

    def _tell_trouble(self, what: str) -> None:
        if self._waiting:
            self._trouble = self._trouble or what
            self._answered.set()
        elif self._on_trouble is not None:
            self._on_trouble(what)
        else:
            print(f"crew: {what}", file=sys.stderr)
