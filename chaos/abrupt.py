"""Thousands of clients that end without a word, and what a replica keeps of them: it must be nothing.

Three kinds of end: RST; gone without FIN, as a machine that lost its network; and a reader that is frozen, whose
connection stays open until the server has had enough. Each wave takes every slot. After the first tenth of all, and
after the last, memory and descriptors are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chaos.checks import IDLE_WITHIN_S, Process, fill
from chaos.clients import AUDIO, Wave, open_wave
from chaos.fault import progress
from chaos.stack import FRONT, SERVICES, ChaosError, Replica, Stack, descriptors, health, process_of, rss_mb
from chorus.tts import TtsProtocol

KINDS = ("reset", "vanish", "freeze")
SILENT_SHARE = 0.4
"""Of all ends; half of them of each silent kind. A server learns of a reset at once, of these by pings: 20 s a wave."""
PAUSE_S = 0.1
"""Between two waves. nginx learns a moment later than the replica that a stream has ended."""
REOPENED_WITHIN_S = 30.0
"""From the end of a wave until all slots are taken again."""
EACH_TENTH = 10
"""One in so many listeners has asked for a reply, so that engines do not do nothing else."""
MORE_MEMORY = 1.05
FEW = 1000
"""Of fewer ends the first tenth has not seen all that takes memory once, and says nothing about growth."""
TRIM_S = 7.0
"""The allocator gives memory back every 5 s."""
LEAST_SILENT = 20
"""Fewer are not worth a wave."""
TEXT = "Good morning. The sun is shining on the river, and the children are playing in the garden. " * 20


@dataclass
class Ends:
    """What came of all of them at one replica."""

    service: str
    through: str
    """`nginx` or `direct`."""
    asked: int
    opened: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """By kind of end."""
    idle_s: dict[str, float] = field(default_factory=lambda: {"reset": 0.0, "silent": 0.0})
    """The longest time from the end of a wave until the replica counted none of it."""
    reopened_s: float = 0.0
    """The longest time from the end of a wave until the next one had taken as many slots."""
    refused: list[str] = field(default_factory=list)
    first: Process | None = None
    """The replica's process after the first tenth."""
    last: Process | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether all held."""
        return not self.complaints


async def end_by_reset(wave: Wave) -> None:
    """RST."""
    for guest in wave.guests:
        guest.reset()


async def end_by_vanishing(wave: Wave) -> None:
    """Nothing of theirs arrives any more."""
    await wave.block()


async def end_by_freezing(_wave: Wave) -> None:
    """Nothing is read any more, and no ping is answered."""


END: dict[str, Callable[[Wave], Awaitable[None]]] = {
    "reset": end_by_reset,
    "vanish": end_by_vanishing,
    "freeze": end_by_freezing,
}


@dataclass(frozen=True)
class WaveEnd:
    """When a wave was ended, by the monotonic clock, and after how long the replica knew of all of it, seconds."""

    at: float
    idle_s: float


async def one_wave(ends: Ends, url: str, replica: Replica, counts: dict[str, int], before: WaveEnd | None) -> WaveEnd:
    """Open, use and end so many of each kind, after the end of another wave. Raises `ChaosError`."""
    patience_s = before.at + REOPENED_WITHIN_S - time.monotonic() if before else 0.0
    waves = {
        kind: await open_wave(ends.service, url, count, blockable=kind == "vanish", patience_s=patience_s)
        for kind, count in counts.items()
    }
    if before:
        ends.reopened_s = max(ends.reopened_s, round(time.monotonic() - before.at, 2))
    try:
        for kind, wave in waves.items():
            ends.opened[kind] += len(wave.guests)
            ends.refused += wave.refused + await _use(wave, ends.service)
        began = time.monotonic()
        for kind, wave in waves.items():
            await END[kind](wave)
        while found := (await health(replica))["active_connections"]:
            if time.monotonic() - began > IDLE_WITHIN_S:
                told = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
                raise ChaosError(f"{found} streams are counted {IDLE_WITHIN_S:.0f} s after the end of {told}")
            await asyncio.sleep(0.05)
        return WaveEnd(began, round(time.monotonic() - began, 2))
    finally:
        for wave in waves.values():
            await wave.put_away()


async def _use(wave: Wave, service: str) -> list[str]:
    """Let all of them say something; what went wrong."""
    ask = TtsProtocol().synthesize(TEXT)
    found = []
    for number, guest in enumerate(wave.guests):
        try:
            if service == "asr":
                await guest.say(AUDIO)
            elif number % EACH_TENTH == 0:
                await guest.ask(ask)
        except OSError as error:
            found.append(f"ended by itself: {error}")
    return found


async def some(
    ends: Ends, url: str, replica: Replica, count: int, slots: int, before: WaveEnd | None = None
) -> WaveEnd | None:
    """So many ends of all kinds, in waves of at most as many as there are slots; the last. Raises `ChaosError`."""
    silent = round(count * SILENT_SHARE)
    silent = silent if silent >= LEAST_SILENT else 0
    for kind, left in (("reset", count - silent), ("silent", silent)):
        while left:
            size = min(left, slots)
            counts = {"reset": size} if kind == "reset" else {"vanish": size // 2, "freeze": size - size // 2}
            before = await one_wave(ends, url, replica, counts, before)
            ends.idle_s[kind] = max(ends.idle_s[kind], before.idle_s)
            left -= size
            await asyncio.sleep(PAUSE_S)
            progress(f"    {ends.service} {ends.through}: {sum(ends.opened.values())} of {ends.asked} ends")
    return before


async def measure(replica: Replica, through: str, count: int, slots: int) -> Ends:
    """All ends at one replica, by its own port (`direct`) or through nginx."""
    ends = Ends(replica.service, through, count)
    url = FRONT[replica.service] if through == "nginx" else replica.url
    pid = await process_of(replica.container)

    async def settled() -> Process:
        await asyncio.sleep(TRIM_S)
        return Process(round(rss_mb(pid), 1), descriptors(pid))

    first = count // 10
    try:
        last = await some(ends, url, replica, first, slots)
        ends.first = await settled()
        await some(ends, url, replica, count - first, slots, last)
        ends.last = await settled()
    except ChaosError as error:
        ends.complaints.append(str(error))
        return ends
    ends.complaints += judge(ends)
    if await process_of(replica.container) != pid:
        ends.complaints.append(f"{replica.container} was restarted")
    return ends


def judge(ends: Ends) -> list[str]:
    """What is not as it has to be."""
    found = []
    assert ends.first is not None
    assert ends.last is not None
    if ends.refused:
        found.append(f"{len(ends.refused)} of {ends.asked} streams did not open, or ended: {ends.refused[0]}")
    if ends.asked >= FEW and ends.last.rss_mb > ends.first.rss_mb * MORE_MEMORY:
        found.append(f"{ends.last.rss_mb:.1f} MiB at the end, {ends.first.rss_mb:.1f} after the first tenth")
    if ends.last.descriptors != ends.first.descriptors:
        found.append(f"{ends.last.descriptors} descriptors at the end, {ends.first.descriptors} after the first tenth")
    return found


async def run_abrupt(result: list[Ends], stack: Stack, count: int, targets: list[str]) -> None:
    """Add the rows of both services, which run at once, at the first replica of each. Raises `ChaosError`.

    `direct` is by its own port; `nginx` only where there is no other replica.
    """
    if "nginx" in targets and stack.replicas != 1:
        raise ChaosError("through nginx abrupt ends are counted at the only replica of each service")
    for through in targets:
        rows = await asyncio.gather(
            *(measure(stack.of(service)[0], through, count, stack.max_connections) for service in SERVICES)
        )
        for row in rows:
            failure = await fill(stack, row.service) if row.sound else None
            row.complaints += [failure] if failure else []
        result += rows
