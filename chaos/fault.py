"""A fault, and how it is run: people come, it is injected, lasts, is healed, and everything is as before."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from benchmarks.asr_reconnect import Heard
from benchmarks.speech import Speech
from chaos import checks
from chaos.people import Noticed, People, told, words
from chaos.stack import FRONT, ChaosError, Stack, save_logs, until_serving

BEGAN = time.monotonic()
LEAD_S = 3.0
"""People have come and speak before anything happens."""

Step = Callable[[Stack], Awaitable[None]]
Check = Callable[[Stack], Awaitable[list[str]]]


async def _nothing(_stack: Stack) -> None:
    """Heals by itself."""


async def _no_more(_stack: Stack) -> list[str]:
    return []


@dataclass(frozen=True)
class Fault:
    """Something that happens to a stack."""

    name: str
    """As on the command line."""
    what: str
    """What is done, for the table."""
    inject: Step
    during_s: float
    """From the injection to the heal; longer where `inject` itself waits."""
    heal: Step = _nothing
    """Also run where the injection failed, or was interrupted."""
    check: Check = _no_more
    """What else must hold after it; what does not."""
    restarts: Callable[[Stack], list[str]] = lambda _stack: []
    """The containers that end and are started anew by it; no other may."""
    around: Callable[[Stack], AbstractAsyncContextManager[dict[str, str]]] = lambda _stack: nullcontext(FRONT)
    """Lasts from before people come until all has been checked, and gives where they connect."""
    more_mb: float = 0.0
    """What a process may have grown by for good, MiB, with a reason."""
    short: bool = False
    """Whether it is part of the short form in `make test`."""


@dataclass
class Row:
    """What came of one fault."""

    name: str
    what: str
    seconds: float = 0.0
    clients: str = ""
    """What people noticed."""
    words_lost: int = 0
    """Lost or doubled, at seams."""
    serving_s: float | None = None
    """From the heal until every replica serves."""
    idle_s: float | None = None
    """From the end of the last stream until no replica counts one."""
    capacity_s: float | None = None
    """From then until as many streams are taken as before."""
    memory: str = ""
    """Of the processes, before and after, MiB."""
    descriptors: str = ""
    restarted: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    noticed: Noticed | None = None

    @property
    def sound(self) -> bool:
        """Whether all held."""
        return not self.complaints


Alone = list[tuple[Speech, Heard]]
"""What each speaker says, and what is heard of it while nothing happens."""


async def run_fault(fault: Fault, stack: Stack, alone: Alone, limit_s: float) -> Row:
    """Let it happen under the speakers of `alone` and as many listeners, and check everything after it."""
    row = Row(fault.name, fault.what)
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            await _run(fault, stack, alone, row)
    except TimeoutError:
        row.complaints.append(f"not over after {limit_s:.0f} s")
    except ChaosError as error:
        row.complaints.append(str(error))
    except Exception as error:  # the faults after it are still to be run
        traceback.print_exc()
        row.complaints.append(f"{type(error).__name__}: {error}")
    row.seconds = round(time.monotonic() - began, 1)
    return row


async def _run(fault: Fault, stack: Stack, alone: Alone, row: Row) -> None:
    async with fault.around(stack) as urls, logs_kept(stack, row):
        before, born = await checks.footprint(stack), await checks.births(stack)
        async with People([speech for speech, _ in alone], len(alone), urls) as people:
            row.noticed = people.noticed
            await asyncio.sleep(LEAD_S)
            progress("    injecting")
            try:
                await fault.inject(stack)
                await asyncio.sleep(fault.during_s)
            finally:
                await asyncio.shield(fault.heal(stack))
            progress("    healed")
            row.serving_s = round(await until_serving(stack.all, checks.SERVING_WITHIN_S), 1)
        judge(row, people.noticed, alone)
        people.noticed.heard.clear()  # every final of every speaker: more than anybody wants in the result
        progress("    everybody has left")
        row.idle_s = round(await checks.until_idle(stack), 1)
        row.capacity_s = round(await checks.until_full_capacity(stack), 1)
        await checks.until_idle(stack)
        row.complaints += await fault.check(stack)
        row.restarted = [name for name, pid in (await checks.births(stack)).items() if pid != born[name]]
        expected = fault.restarts(stack)
        row.complaints += [f"{name} was restarted" for name in row.restarted if name not in expected]
        row.complaints += [f"{name} was not restarted" for name in expected if name not in row.restarted]
        after, left = await checks.until_back(stack, before, fault.more_mb)
        row.complaints += left
        row.memory = f"{_memory(before)} → {_memory(after)}"
        row.descriptors = f"{_descriptors(before)} → {_descriptors(after)}"


@asynccontextmanager
async def logs_kept(stack: Stack, row: Row) -> AsyncIterator[None]:
    """Keep what the containers said where something did not hold: soon they are replaced, or put away."""
    ended = False
    try:
        yield
        ended = True
    finally:
        if not (ended and row.sound):
            place = await asyncio.shield(save_logs(stack, row.name))
            progress(f"    what the containers said: {place}")


def judge(row: Row, noticed: Noticed, alone: Alone) -> None:
    """Add what people noticed, and what of it must not be."""
    heard = words(alone, noticed)
    row.words_lost = len(heard.slips)
    row.complaints += noticed.unseen + noticed.broken + heard.broken + heard.slips + heard.heard_twice + heard.uncovered
    if noticed.lost_seconds:
        row.complaints.append(f"speakers lost {noticed.lost_seconds:.2f} s")
    if not noticed.replies:
        row.complaints.append("no listener heard a reply")
    parts = [
        f"{len(noticed.heard)} speakers: {told(noticed.interruptions) or 'no connection lost'}",
        f"{noticed.replies} replies; {told(noticed.cut_replies) or 'none cut'}",
        f"{noticed.connects} connects, {noticed.refused} refused (503), the slowest {noticed.slowest_connect_s:.1f} s",
    ]
    if noticed.failed_connects:
        parts.append(f"connects that failed: {told(noticed.failed_connects)}")
    row.clients = "; ".join(parts)


def _memory(found: checks.Footprint) -> str:
    return f"{sum(each.rss_mb for processes in found.values() for each in processes):.0f}"


def _descriptors(found: checks.Footprint) -> str:
    return f"{sum(each.descriptors for processes in found.values() for each in processes)}"


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)
