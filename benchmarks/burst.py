"""What a burst onto a full cluster meets: how it is spread, how it is refused, and how soon there is room again.

    python -m benchmarks.burst [--asr-url ws://127.0.0.1:8000] [--tts-url ws://127.0.0.1:8003]

Against two replicas of each service, fifty streams each (`docker compose up -d --scale asr=2 --scale tts=2`), one
service after the other, streams that are silent:

1. 80 connect within two seconds. Each replica must have 40.
2. 20 more connect. All must be accepted.
3. 100 more come within two seconds. All must be answered 503 with `Retry-After`, before the upgrade.
4. 50 leave, and 50 others come at once, each again every 50 ms until it is accepted. All must be in within a second.

The 95th percentile of connecting, to `ready`, must be at most 200 ms in 1 and 2. Everybody must be greeted as somebody
else, and nobody may lose the connection. Exit status: 0 when all of that is so, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from chorus.aio import Stream, connect_asr, connect_tts
from chorus.connect import ASR_URL, TTS_URL
from chorus.errors import ChorusError, Refused
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
BURST_S = 2.0
EARLY, FULL, BEYOND, LEAVING = 80, 100, 100, 50
"""Who come in the first burst; whom two replicas hold; who come then; who leave."""
KNOCK_S = 0.05
ROOM_WITHIN_S = 1.0
CONNECT_WITHIN_S = 0.2
GIVE_UP_S = 30.0

Connect = Callable[[], AbstractAsyncContextManager[Stream[Any, Any]]]


@dataclass
class Burst:
    """What one service did."""

    connect_s: list[float] = field(default_factory=list)
    spread: dict[str, int] = field(default_factory=dict)
    """Streams of the first burst by replica."""
    accepted: int = 0
    refused_s: list[float] = field(default_factory=list)
    """From the attempt to the 503."""
    retry_after: dict[str, int] = field(default_factory=dict)
    """How many of those were told to come again after so many seconds."""
    room_s: float = 0.0
    """From the leaving of the fifty to the last of the others' `ready`."""
    faults: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Caller:
    """A stream that stays until it is told to leave."""

    stream: Stream[Any, Any]
    stack: AsyncExitStack

    async def leave(self) -> None:
        """Close the connection."""
        await self.stack.aclose()


async def call(connect: Connect) -> Caller:
    """Open a stream. Raises what connecting raises."""
    stack = AsyncExitStack()
    return Caller(await stack.enter_async_context(connect()), stack)


async def arrive(connect: Connect, people: int, burst: Burst) -> list[Caller]:
    """So many come, evenly over the burst's time."""
    callers: list[Caller] = []

    async def come(number: int) -> None:
        await asyncio.sleep(BURST_S * number / people)
        began = time.monotonic()
        try:
            callers.append(await call(connect))
        except (ChorusError, OSError) as error:
            burst.faults.append(f"{number + 1} of {people} was not accepted: {error}")
            return
        burst.connect_s.append(time.monotonic() - began)

    await asyncio.gather(*(come(number) for number in range(people)))
    return callers


async def knock_in_vain(connect: Connect, burst: Burst) -> None:
    """So many come whom nobody can take."""
    hints: Counter[str] = Counter()

    async def come(number: int) -> None:
        await asyncio.sleep(BURST_S * number / BEYOND)
        began = time.monotonic()
        try:
            caller = await call(connect)
        except Refused as refused:
            burst.refused_s.append(time.monotonic() - began)
            hints[f"{refused.retry_after:g}" if refused.retry_after is not None else "none"] += 1
            if refused.status != 503 or refused.retry_after is None:
                burst.faults.append(f"{number + 1} beyond: {refused}, Retry-After {refused.retry_after}")
        except (ChorusError, OSError) as error:
            burst.faults.append(f"{number + 1} beyond was not answered: {error}")
        else:
            burst.faults.append(f"{number + 1} beyond was accepted")
            await caller.leave()

    await asyncio.gather(*(come(number) for number in range(BEYOND)))
    burst.retry_after = dict(hints)


async def insist(connect: Connect) -> Caller:
    """Come again until there is room. Raises `TimeoutError`."""
    async with asyncio.timeout(GIVE_UP_S):
        while True:
            try:
                return await call(connect)
            except Refused:
                await asyncio.sleep(KNOCK_S)


async def measure(connect: Connect) -> Burst:
    """All four, and everybody leaves."""
    burst = Burst()
    callers = await arrive(connect, EARLY, burst)
    burst.spread = dict(Counter(caller.stream.protocol.ready.instance for caller in callers))
    if sorted(burst.spread.values()) != [EARLY // 2, EARLY // 2]:
        burst.faults.append(f"spread: {burst.spread}")
    callers += await arrive(connect, FULL - EARLY, burst)
    burst.accepted = len(callers)
    await knock_in_vain(connect, burst)
    leavers, callers = callers[:LEAVING], callers[LEAVING:]
    began = time.monotonic()
    newcomers = asyncio.gather(*(insist(connect) for _ in leavers))
    await asyncio.gather(*(caller.leave() for caller in leavers))
    callers += await newcomers
    burst.room_s = time.monotonic() - began
    ids = {caller.stream.protocol.ready.connection_id for caller in callers}
    if len(ids) != len(callers):
        burst.faults.append(f"{len(callers)} streams were greeted with {len(ids)} ids")
    lost = sum(caller.stream.socket.close_code is not None for caller in callers)
    if lost:
        burst.faults.append(f"{lost} connections were lost meanwhile")
    await asyncio.gather(*(caller.leave() for caller in callers))
    if (p95 := percentile(burst.connect_s, 0.95) or 0) > CONNECT_WITHIN_S:
        burst.faults.append(f"connecting took {p95 * 1000:.0f} ms (p95)")
    if burst.room_s > ROOM_WITHIN_S:
        burst.faults.append(f"the fifty were in after {burst.room_s:.2f} s")
    return burst


def table(found: dict[str, Burst]) -> str:
    """The result as Markdown."""

    def milliseconds(values: list[float]) -> str:
        return " / ".join(f"{(percentile(values, share) or 0) * 1000:.0f}" for share in (0.5, 0.95, 1))

    rows: list[tuple[str, Callable[[Burst], object]]] = [
        (f"{EARLY} within {BURST_S:g} s, by replica", lambda each: " / ".join(map(str, each.spread.values()))),
        (f"of {FULL} accepted", lambda each: each.accepted),
        ("connecting, p50 / p95 / worst, ms", lambda each: milliseconds(each.connect_s)),
        (f"of {BEYOND} more refused with 503", lambda each: len(each.refused_s)),
        ("`Retry-After`, s", lambda each: ", ".join(each.retry_after)),
        ("refusing, p50 / p95 / worst, ms", lambda each: milliseconds(each.refused_s)),
        (f"{LEAVING} leave, {LEAVING} others are in after, s", lambda each: f"{each.room_s:.2f}"),
        ("faults", lambda each: len(each.faults)),
    ]
    head = f"| | {' | '.join(found)} |\n| --- |{' ---: |' * len(found)}\n"
    return head + "".join(f"| {name} | {' | '.join(str(of(each)) for each in found.values())} |\n" for name, of in rows)


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether all was as it must be."""
    parser = argparse.ArgumentParser(description="What a burst onto a full cluster meets.")
    parser.add_argument("--asr-url", default=ASR_URL)
    parser.add_argument("--tts-url", default=TTS_URL)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "burst", help="without suffix")
    asked = parser.parse_args()

    async def both() -> dict[str, Burst]:
        return {
            "ASR": await measure(lambda: connect_asr(asked.asr_url)),
            "TTS": await measure(lambda: connect_tts(asked.tts_url)),
        }

    found = asyncio.run(both())
    text = f"Two replicas of each service, silent streams; {machine.in_words()}\n\n{table(found)}"
    print(text, end="")
    faults = [f"{service}: {fault}" for service, burst in found.items() for fault in burst.faults]
    print("\n".join(faults), file=sys.stderr)
    machine.write_result(asked.output, text, {service: asdict(burst) for service, burst in found.items()})
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
