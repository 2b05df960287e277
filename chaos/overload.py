"""Twice as many people as there is room for, for minutes: the refused are told at once, the admitted hardly notice.

One replica of each service, one service after the other. As many people as there are slots come and go first: that is
capacity, and its 95th percentile is what the overload is compared with. Then twice as many do; who is refused comes
again after `Retry-After`, as a client would. Before and after it somebody is alone.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.asr_overload import AS_BEFORE_S, SLOWER_S
from benchmarks.listening import texts
from benchmarks.live import speak
from benchmarks.speech import Speech, speeches
from benchmarks.tts_overload import SLOWER
from chaos.checks import births, until_idle
from chaos.fault import progress
from chaos.stack import FRONT, SERVICES, ChaosError, Replica, Stack, health
from chorus.aio import connect_tts
from chorus.errors import ChorusError, Refused
from chorus.tts import Audio
from chorus.wire import tts as wire
from chorus.wire.common import Error
from loadtest.clips import Clip
from loadtest.figures import percentile

CLIPS_A_STREAM = 6
"""So many clips a speaker says before somebody else takes the slot, about a minute."""
REPLIES_A_STREAM = 10
REPLY_EVERY_S = 6.0
ARRIVE_S = 5.0
"""All arrive within so long."""
AWAY_S = 1.0
"""Between two streams of one person, on average."""
ALONE = {"asr": 2, "tts": 8}
"""Streams of somebody alone, before and after: each begins in silence, as what follows audio that still plays waits."""
REFUSED_WITHIN_S = 0.1
"""99th percentile, from the start of the connect to the answer."""
TIMES_CAPACITY = 2.0
"""The 95th percentile of those admitted may be so many times that at capacity."""


@dataclass
class Load:
    """What came of people who come and go."""

    streams: int = 0
    latencies: list[float] = field(default_factory=list)
    """Finals after the end of speech, or first audio after the text, seconds."""
    refusals: list[float] = field(default_factory=list)
    """From the connect to the 503, or from the text to `overloaded`, seconds."""
    wrong: list[str] = field(default_factory=list)
    """What must not be, whatever the load."""

    @property
    def p95(self) -> float:
        """Of the latencies."""
        return percentile(self.latencies, 0.95) or 0.0


Person = Callable[[Load], Awaitable[None]]
"""One stream, from the connect to its end. Raises `Refused`, and what goes wrong."""


@dataclass
class Overload:
    """The result for one service."""

    service: str
    slots: int
    minutes: float
    alone_before_s: float = 0.0
    capacity: Load = field(default_factory=Load)
    overload: Load = field(default_factory=Load)
    calm_s: float = 0.0
    """From the end of the last stream until nothing of the load was left."""
    alone_after_s: float | None = None
    """None where it was not as before in time."""
    restarted: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """What is not as it has to be."""
        found = self.capacity.wrong + self.overload.wrong
        refused = percentile(self.overload.refusals, 0.99)
        if refused is None:
            found.append("nobody was refused: this was no overload")
        elif refused > REFUSED_WITHIN_S:
            found.append(f"refusals took {1000 * refused:.0f} ms (p99)")
        if self.overload.p95 > TIMES_CAPACITY * self.capacity.p95:
            found.append(f"p95 of those admitted: {self.overload.p95:.2f} s, at capacity {self.capacity.p95:.2f} s")
        slower = {"asr": self.alone_before_s + SLOWER_S, "tts": self.alone_before_s * SLOWER}[self.service]
        if self.alone_after_s is None or self.alone_after_s > slower:
            found.append(f"{AS_BEFORE_S:.0f} s after the load it was not as before")
        found += [f"{name} was restarted" for name in self.restarted]
        return [f"{self.service}: {line}" for line in found]

    @property
    def sound(self) -> bool:
        """Whether all held."""
        return not self.complaints


def speakers(clips: list[Clip], count: int) -> list[Speech]:
    """What so many say in one stream each."""
    return speeches(clips, count, count * CLIPS_A_STREAM)


def speaker(speech: Speech) -> Person:
    """Somebody who says all of it, at the speed of speech."""

    async def once(load: Load) -> None:
        heard = await speak(speech, FRONT["asr"])
        load.latencies += heard.latencies
        load.wrong += heard.broken
        if heard.uncovered:
            load.wrong.append(f"{heard.uncovered} clips without a final")

    return once


def listener(said: Iterator[str], replies: int, every_s: float) -> Person:
    """Somebody who asks for so many replies, one every so often."""

    async def once(load: Load) -> None:
        async with connect_tts(FRONT["tts"], strict=False) as stream:
            began = time.monotonic()
            for number in range(replies):
                await asyncio.sleep(max(0.0, began + number * every_s - time.monotonic()))
                asked = time.monotonic()
                await stream.send(stream.protocol.synthesize(next(said)))
                first = None
                while not isinstance(event := await stream.receive(), wire.SynthesisComplete):
                    if isinstance(event, Audio) and first is None:
                        first = time.monotonic() - asked
                        load.latencies.append(first)
                    elif isinstance(event, Error):
                        if event.code != "overloaded" or event.retry_after_ms is None:
                            load.wrong.append(f"{event.code}: {event.message}")
                        load.refusals.append(time.monotonic() - asked)
                        break
            load.wrong += stream.protocol.violations

    return once


async def come_and_go(people: list[Person], load: Load, seconds: float) -> None:
    """Let all of them come again and again for so long; a stream that has begun then goes on to its end."""
    until = time.monotonic() + seconds
    moments = random.Random(len(people))

    async def one(person: Person) -> None:
        await asyncio.sleep(moments.uniform(0, ARRIVE_S))
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                await person(load)
                load.streams += 1
                wait_s = moments.uniform(0, 2 * AWAY_S)
            except Refused as refused:
                load.refusals.append(time.monotonic() - began)
                if refused.status != 503 or refused.retry_after is None:
                    load.wrong.append(str(refused))
                wait_s = (refused.retry_after or 1.0) + moments.uniform(0, AWAY_S)
            except (ChorusError, OSError) as error:
                load.wrong.append(str(error) or type(error).__name__)
                wait_s = AWAY_S
            await asyncio.sleep(wait_s)

    async with asyncio.TaskGroup() as tasks:
        for person in people:
            tasks.create_task(one(person))


async def alone(person: Person, streams: int) -> float:
    """The usual latency of somebody who has the stack to himself, seconds: the median."""
    load = Load()
    try:
        for _ in range(streams):
            await person(load)
    except Refused:
        return float("inf")
    return percentile(load.latencies, 0.5) or float("inf")


async def calm(replica: Replica) -> float | None:
    """Seconds until nothing of the load is left; None where that is not in time."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) <= AS_BEFORE_S:
        found = await health(replica)
        if not found["active_connections"] and not found["queue_depth"]:
            return spent
        await asyncio.sleep(0.1)
    return None


async def measure(stack: Stack, service: str, clips: list[Clip], minutes: float, capacity_minutes: float) -> Overload:
    """Alone, at capacity, twice that, alone again. Raises `ChaosError`."""
    slots = stack.streams
    result = Overload(service, slots, minutes)
    if service == "asr":
        people = [speaker(speech) for speech in speakers(clips, 2 * slots)]
        one = speaker(speeches(clips[:1], 1, 1)[0])
    else:
        said = texts()
        people = [listener(said, REPLIES_A_STREAM, REPLY_EVERY_S) for _ in range(2 * slots)]
        one = listener(itertools.repeat("The sun is shining on the river this morning."), 1, 0.0)
    born = await births(stack)
    await alone(one, ALONE[service])
    result.alone_before_s = await alone(one, ALONE[service])
    progress(f"  {service}: {slots} people at {slots} slots for {capacity_minutes:g} min")
    await come_and_go(people[:slots], result.capacity, capacity_minutes * 60)
    await until_idle(stack)
    progress(f"  {service}: {2 * slots} people at {slots} slots for {minutes:g} min")
    await come_and_go(people, result.overload, minutes * 60)
    calm_s = await calm(stack.of(service)[0])
    if calm_s is not None:
        result.calm_s, result.alone_after_s = round(calm_s, 2), await alone(one, ALONE[service])
    result.restarted = [name for name, pid in (await births(stack)).items() if pid != born[name]]
    return result


async def run_overload(
    result: list[Overload], stack: Stack, clips: list[Clip], minutes: float, capacity_minutes: float
) -> None:
    """Add the rows of both services, one after the other. Raises `ChaosError`."""
    if stack.replicas != 1:
        raise ChaosError("the overload is of one replica of each service")
    for service in SERVICES:
        result += [await measure(stack, service, clips, minutes, capacity_minutes)]
