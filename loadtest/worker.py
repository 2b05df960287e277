"""A Locust worker's side: a crew of people in a process of its own, whose records go to Locust and to the master."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gevent
import msgspec
from pydantic import ValidationError

from loadtest.crew_process import CrewFailed, CrewProcess
from loadtest.events import Event, Lag, Population, encode
from loadtest.messages import TO_MASTER, Outbox, PrepareOrder, Send
from loadtest.orders import Progress
from loadtest.rows import rows
from loadtest.settings import Kind, LoadSettings

log = logging.getLogger(__name__)

FLUSH_S = 1.0
BATCH = 1000
"""Records of one message, some 300 kB."""
OUTBOX = 50_000
"""Records that wait for a master that does not take them: minutes of 100 people, 15 MB."""
MOST_FAILURES = 200
"""Different texts of failures that are told to Locust, which keeps each for good; the report has them all."""


class Crew(Protocol):
    """What is used of `CrewProcess`."""

    def prepare(self, people: Mapping[Kind, int], first: int, on_progress: Callable[[Progress], None]) -> None:
        """As its."""

    def start(self, kind: Kind, name: str) -> None:
        """As its."""

    def stop(self, name: str) -> None:
        """As its."""

    def arrive(self, per_minute: float, turns: int, first: int, step: int) -> None:
        """As its."""

    def close(self) -> None:
        """As its."""


MakeCrew = Callable[[Callable[[Event], None], LoadSettings, str, Callable[[str], None]], Crew]


class Worker:
    """One crew a run. `handle` takes the master's orders, `come` and `leave` Locust's users."""

    def __init__(self, send: Send, fire: Callable[..., object], make_crew: MakeCrew = CrewProcess) -> None:
        """`send` to the master, raising `ConnectionError`; `fire` is Locust's event `request`."""
        self._send = send
        self._fire = fire
        self._make_crew = make_crew
        self._run = ""
        self._crew: Crew | None = None
        self._outbox = Outbox(OUTBOX)
        self._free: dict[str, deque[int]] = {}
        """Numbers of people who are not there, the one that left longest ago first."""
        self._next = 0
        self._failures: set[str] = set()
        self._people = 0
        self._cpu = (time.monotonic(), time.process_time())

    def handle(self, order: Mapping[str, Any]) -> None:
        """One of the master's orders; what takes long runs beside."""
        match order["what"]:
            case "prepare":
                gevent.spawn(self._prepare, order)
            case "arrive" if order["run"] == self._run:
                self._try(lambda crew: crew.arrive(order["per_minute"], order["turns"], order["first"], order["step"]))
            case "finish":
                gevent.spawn(self._finish, order["run"])

    def come(self, kind: Kind) -> str:
        """A person comes; returns its name, for `leave`."""
        free = self._free.setdefault(kind, deque())
        if free:
            number = free.popleft()
        else:
            number, self._next = self._next, self._next + 1
        name = f"{kind}-{number}"
        self._try(lambda crew: crew.start(kind, name))
        return name

    def leave(self, name: str) -> None:
        """That person leaves."""
        kind, _, number = name.rpartition("-")
        self._free[kind].append(int(number))
        if self._crew is not None:
            try:
                self._crew.stop(name)
            except CrewFailed:
                pass  # told when it ended

    def flush_for_ever(self) -> None:
        """Sends what has been collected, every second."""
        while True:
            gevent.sleep(FLUSH_S)
            self.flush()

    def flush(self) -> None:
        """Sends what has been collected; what can't be sent waits."""
        while len(self._outbox):
            lines = self._outbox.take(BATCH)
            try:
                self._tell("records", lines=lines, dropped=self._outbox.dropped, people=self._people)
            except ConnectionError as error:
                log.warning("the master can't be told: %s", error)
                self._outbox.put_back(lines)
                return

    def close(self) -> None:
        """Everybody leaves, and the crew ends; its last records are collected."""
        if self._crew is not None:
            crew, self._crew = self._crew, None
            crew.close()

    def _prepare(self, order: PrepareOrder) -> None:
        self.close()
        self._outbox.clear()
        self._failures.clear()
        self._run = order["run"]
        people, first = order["people"], order["first"]
        self._free = {kind: deque(range(first, first + count)) for kind, count in people.items()}
        self._next = first + 1_000_000  # people beyond those prepared: numbers that no worker was given
        try:
            settings = LoadSettings(**order["changes"])
            crew = self._crew = self._make_crew(self._collect, settings, order["worker"], self._trouble)
            crew.prepare(people, first, self._progress)  # type: ignore[arg-type]  # kinds came as text
        except (CrewFailed, OSError, ValidationError) as error:
            self._trouble(str(error))
        else:
            self._tell("prepared")

    def _finish(self, run: str) -> None:
        if run != self._run:
            return  # it came after the run began
        self.close()
        self.flush()
        self._tell("finished")

    def _collect(self, event: Event) -> None:
        if isinstance(event, Lag):
            event = msgspec.structs.replace(event, cpu=event.cpu + self._own_cpu())
        self._outbox.put(encode(event))
        if isinstance(event, Population):
            self._people = event.users
        for row in rows(event):
            failure = self._few(row.failure)
            exception = Exception(failure) if failure else None
            self._fire(
                request_type=row.kind,
                name=row.name,
                response_time=row.ms,
                response_length=0,
                exception=exception,
                context={},
            )

    def _own_cpu(self) -> float:
        """Share of one core that this process took since it was last asked; its crew tells its own."""
        before, self._cpu = self._cpu, (time.monotonic(), time.process_time())
        return (self._cpu[1] - before[1]) / max(1e-9, self._cpu[0] - before[0])

    def _few(self, failure: str | None) -> str | None:
        if failure is None or failure in self._failures:
            return failure
        if len(self._failures) >= MOST_FAILURES:
            return "others: see the report"
        self._failures.add(failure)
        return failure

    def _progress(self, told: Progress) -> None:
        self._tell("progress", done=told.done, total=told.total, of=told.what)

    def _trouble(self, why: str) -> None:
        log.error("%s", why)
        self._tell("trouble", why=why)

    def _try(self, order: Callable[[Crew], None]) -> None:
        if self._crew is None:
            return  # it ended, which was told then
        try:
            order(self._crew)
        except CrewFailed as error:
            self._trouble(str(error))

    def _tell(self, what: str, **more: object) -> None:
        self._send(TO_MASTER, {"what": what, "run": self._run, **more})
