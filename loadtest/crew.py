"""All people of one load generator, in one process that does nothing else: `python -m loadtest.crew [--worker NAME]`.

Orders come as JSON lines on standard input, records leave as JSON lines on standard output (`loadtest.orders`); the end
of input ends it. `loadtest.crew_process` is the parent's side.

One thread and one event loop, because that is what costs least: 60 people are 3,000 frames a second. Whether the
process kept up is in its own `Lag` records.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from itertools import cycle
from typing import Any

import msgspec
import numpy as np
import uvloop

from chorus.errors import Refused
from loadtest import events, orders
from loadtest.clips import SAMPLE_RATE
from loadtest.people import Person, texts_of
from loadtest.references import FAILURES, References, Wanted
from loadtest.scene import Scene
from loadtest.settings import Kind, LoadSettings, read_settings, shares
from loadtest.texts import sentences
from loadtest.utterances import Library, Utterance, read_folder, utterance

SPEAKING: tuple[Kind, ...] = ("voice", "caption")
SPEEDS = (0.85, 1.15)
"""Of synthesised speech: each person has its own."""
MOST_PEOPLE = 2000
"""Callers of the open loop beyond so many find no room in this process, and that is told."""
MOST_UNREAD = 64 * 1024 * 1024
"""Bytes of records that a parent may leave unread."""


class Crew:
    """The people of this process. `run` beside everything else keeps time."""

    def __init__(self, settings: LoadSettings, emit: Callable[[events.Event], None], worker: str = "crew") -> None:
        """`emit` gets every record."""
        self.settings = settings
        references = References(settings.references, settings.tts_url, settings.voice, settings.rendering)
        self.scene = Scene(settings, emit, references)
        self.failure: BaseException | None = None
        """Of this program, not of the service: the run is worth nothing."""
        self._worker = worker
        self._first = 0
        self._prepared: dict[Kind, int] = {}
        self._own: dict[tuple[str, int], list[Utterance]] = {}
        """What people say that nobody else does, with `speech_from=synthesis`."""
        self._people: dict[str, tuple[Person, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Of each person, until it has left."""
        self._arriving: asyncio.Task[None] | None = None

    async def prepare(self, people: Mapping[Kind, int], first: int, on_progress: Callable[[int, int], None]) -> None:
        """As `orders.Prepare`. Raises `references.FAILURES`, `ValueError`."""
        settings, scene = self.settings, self.scene
        self._first, self._prepared = first, dict(people)
        if any(people.get(kind) for kind in SPEAKING):
            scene.library = Library(read_folder(settings.speech), settings.utterance_s, settings.seed)
        synthesised = {
            (kind, number): self._sentences(kind, number)
            for kind in SPEAKING
            for number in range(first, first + people.get(kind, 0))
            if settings.speech_from == "synthesis"
        }
        wanted = [
            Wanted((kind, number), text)
            for kind, count in people.items()
            for number in range(first, first + count)
            for text in texts_of(kind, number, settings)
        ]
        wanted += [each for said in synthesised.values() for each in said]
        await scene.references.prepare(wanted, on_progress)
        for owner, said in synthesised.items():
            self._own[owner] = [self._spoken(each) for each in said]
        # What is prepared stays to the end: it need not be looked at by every collection, each of which is a delay.
        gc.collect()
        gc.freeze()

    def start(self, name: str, kind: Kind, turns: int | None = None) -> None:
        """A person comes. Raises `ValueError` where there is one of that name, or nothing is prepared for it to say."""
        scene = self.scene
        if name in self._people:
            raise ValueError(f"{name} is here already")
        if kind in SPEAKING and scene.library is None:
            raise ValueError(f"{name}: nothing is prepared that a {kind} user could say")
        number = self._first
        while (kind, number) in scene.players:
            number += 1
        scene.players[kind, number] = name
        person = Person(scene, kind, name, number, self._utterances(kind, number), turns)
        living = asyncio.create_task(person.live(), name=name)
        self._people[name] = (person, living)
        task = asyncio.create_task(self._until_left(person, living), name=f"{name}, to its end")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._tell_population()

    def stop(self, name: str) -> None:
        """A person leaves; nothing happens where there is none of that name (any more)."""
        if name in self._people:
            self._people[name][1].cancel()

    async def stop_all(self) -> None:
        """Everybody leaves; returns when the last has left."""
        self.arrive(0, 1)
        for name in list(self._people):
            self.stop(name)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def arrive(self, per_minute: float, turns: int, first: int = 1, step: int = 1) -> None:
        """As `orders.Arrive`."""
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
        if per_minute:
            self._arriving = asyncio.create_task(self._arrivals(per_minute, turns, first, step), name="arrivals")

    async def run(self) -> None:
        """Keep time until cancelled; tell each second how well. Raises what went wrong in this program itself."""
        ticking = asyncio.create_task(self.scene.metronome.run(), name="metronome")
        due = time.monotonic()
        try:
            while True:
                due += 1.0
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if ticking.done():
                    ticking.result()
                if self.failure is not None:
                    raise self.failure
                now = time.monotonic()
                for person, _ in list(self._people.values()):
                    for line in person.lines:
                        line.look(now)
                self._tell_lag()
        finally:
            ticking.cancel()

    async def _until_left(self, person: Person, living: asyncio.Task[None]) -> None:
        await asyncio.wait((living,))
        if not living.cancelled() and (error := living.exception()) is not None and not isinstance(error, Refused):
            self.failure = error  # a refusal has been told: a caller that finds no room goes away
        await person.leave()
        del self._people[person.name]
        del self.scene.players[person.kind, person.number]
        self._tell_population()

    async def _arrivals(self, per_minute: float, turns: int, first: int, step: int) -> None:
        choice = random.Random(f"arrivals {self.settings.seed} {first}")
        weights = shares(self.settings.mix)
        due, number = time.monotonic(), first
        while True:
            due += choice.expovariate(per_minute / 60)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            (kind,) = choice.choices(list(weights), list(weights.values()))
            if len(self._people) >= MOST_PEOPLE:
                self.failure = RuntimeError(f"{MOST_PEOPLE} callers are in this process; start more workers")
                return
            self.start(f"{kind}-{number}", kind, turns)
            number += step

    def _utterances(self, kind: Kind, number: int) -> Iterator[Utterance]:
        """What such a person says, without end: of its own, or of the library, where each kind begins elsewhere."""
        if (own := self._own.get((kind, number))) is not None:
            return cycle(own)
        if kind not in SPEAKING:
            return iter(())
        assert self.scene.library is not None
        before = sum(self._prepared.get(each, 0) for each in SPEAKING[: SPEAKING.index(kind)])
        people = sum(self._prepared.get(each, 0) for each in SPEAKING)
        return self.scene.library.utterances(before + number, max(1, people))

    def _sentences(self, kind: Kind, number: int) -> list[Wanted]:
        """What a person says with `speech_from=synthesis`, and in which manner."""
        settings = self.settings
        speed = round(random.Random(f"speed {settings.seed} {kind} {number}").uniform(*SPEEDS), 2)
        texts = sentences(kind, number, settings.seed, settings.sentences, settings.utterance_s)
        return [Wanted((kind, number), text, speed, SAMPLE_RATE) for text in texts]

    def _spoken(self, wanted: Wanted) -> Utterance:
        audio = self.scene.references.audio(wanted.owner, wanted.text)
        assert audio is not None
        return utterance(wanted.text, np.frombuffer(audio, np.int16))

    def _tell_population(self) -> None:
        self.scene.emit(events.Population(at=self.scene.now(), users=len(self._people), worker=self._worker))

    def _tell_lag(self) -> None:
        late = self.scene.metronome.look()
        self.scene.emit(
            events.Lag(
                at=self.scene.now(),
                worker=self._worker,
                users=len(self._people),
                late_p95=late.p95,
                late_worst=late.worst,
                cpu=late.cpu,
            )
        )


PREPARE_FAILURES: tuple[type[Exception], ...] = (*FAILURES, ValueError)
"""What `Crew.prepare` raises."""


class _Pipes(asyncio.Protocol):
    """The parent: each line of standard input is handed over; at its end that is told."""

    def __init__(self, on_line: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Of standard input."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)

    def connection_lost(self, error: Exception | None) -> None:
        """The parent is gone, or wants no more."""
        self._on_end()


class _Commanded:
    """A crew that follows its parent's orders."""

    def __init__(self, settings: LoadSettings, worker: str) -> None:
        self._crew = Crew(settings, self._write, worker)
        self._output: asyncio.WriteTransport | None = None
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        """Of orders that take their time."""

    async def run(self) -> None:
        """Until the parent ends it. Raises what went wrong in this program."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        self._output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
        await loop.connect_read_pipe(lambda: _Pipes(self._on_line, self._ended.set), sys.stdin)
        keeping = asyncio.create_task(self._crew.run(), name="crew")
        ending = asyncio.create_task(self._until_end(), name="end")
        try:
            await asyncio.wait((keeping, ending), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                self._trouble(f"{keeping.exception()!r}")
                keeping.result()
            for task in self._tasks:
                task.cancel()
            await self._crew.stop_all()
        finally:
            for task in (keeping, ending, *self._tasks):
                task.cancel()
            await asyncio.gather(keeping, ending, *self._tasks, return_exceptions=True)
            await self._written()

    async def _until_end(self) -> None:
        await self._ended.wait()

    def _on_line(self, line: bytes) -> None:
        try:
            self._follow(orders.read_order(line))
        except (msgspec.MsgspecError, ValueError) as error:
            self._trouble(f"{line[:200].decode(errors='replace')}: {error}")

    def _follow(self, order: orders.Order) -> None:
        match order:
            case orders.Prepare():
                self._task(self._prepare(order))
            case orders.Start():
                self._crew.start(order.name, order.kind)
            case orders.Stop():
                self._crew.stop(order.name)
            case orders.StopAll():
                self._task(self._stop_all())
            case orders.Arrive():
                self._crew.arrive(order.per_minute, order.turns, order.first, order.step)
            case orders.End():
                self._ended.set()

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, order: orders.Prepare) -> None:
        def tell(done: int, total: int) -> None:
            self._write(
                orders.Progress(at=time.time(), done=done, total=total, what="replies rendered to compare with")
            )

        try:
            await self._crew.prepare(order.people, order.first, tell)
        except PREPARE_FAILURES as error:
            self._trouble(f"the run can't be prepared: {error or type(error).__name__}")
        else:
            self._write(orders.Prepared(at=time.time()))

    async def _stop_all(self) -> None:
        await self._crew.stop_all()
        self._write(orders.Left(at=time.time()))

    def _write(self, line: orders.Told) -> None:
        if self._output is None or self._output.is_closing():
            return
        self._output.write(orders.encode(line))
        if self._output.get_write_buffer_size() > MOST_UNREAD:
            self._crew.failure = RuntimeError("the records are not read")

    def _trouble(self, what: str) -> None:
        self._write(orders.Trouble(at=time.time(), what=what))

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback has failed, so this program is wrong."""
        self._crew.failure = context.get("exception") or RuntimeError(context["message"])

    async def _written(self) -> None:
        """Until the parent has been given everything that it takes."""
        assert self._output is not None
        end = time.monotonic() + 5
        while not self._output.is_closing() and self._output.get_write_buffer_size() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self._output.close()


def main() -> None:
    """Follow the orders of standard input to its end."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.crew", description="The people of a load generator.")
    parser.add_argument("--worker", default="crew", help="its name in the records")
    asked = parser.parse_args()
    # Ctrl-C in a terminal is meant for the parent, which ends this in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_Commanded(read_settings(), asked.worker).run())


if __name__ == "__main__":
    main()
