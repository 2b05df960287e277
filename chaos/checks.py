"""What must hold after a fault: nobody is left in the books, all capacity is there, memory and descriptors are back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from chaos.stack import (
    FRONT,
    SERVICES,
    ChaosError,
    Stack,
    descriptors,
    health,
    process_of,
    processes_of,
    rss_mb,
)
from chorus.aio import connect_asr, connect_tts
from chorus.errors import ChorusError, Refused

IDLE_WITHIN_S = 30.0
"""From the end of the last stream until no replica counts one."""
SERVING_WITHIN_S = 150.0
"""Docker waits longer from restart to restart; a corrupted model costs several."""
CAPACITY_WITHIN_S = 45.0
"""nginx leaves out a replica that failed for `NGINX_FAIL_TIMEOUT_S`, 30 s."""
BACK_WITHIN_S = 45.0
"""The allocator's memory is given back every 5 s; Docker's health checks come and go."""
MORE_MEMORY = 1.05
"""A process may be so much larger than before, and still be where it was …"""
SLACK_MB = 12.0
"""… and so many MiB beyond that, which nginx's few and Python's own pools come to."""
CONNECT = {"asr": connect_asr, "tts": connect_tts}


@dataclass(frozen=True)
class Process:
    """What a process takes."""

    rss_mb: float
    descriptors: int


Footprint = dict[str, list[Process]]
"""Of each container; nginx has several processes."""


async def footprint(stack: Stack) -> Footprint:
    """What every process of the stack takes now."""
    found: Footprint = {}
    for container in stack.containers:
        pids = await processes_of(container)
        found[container] = [Process(round(rss_mb(pid), 1), descriptors(pid)) for pid in pids]
    return found


async def births(stack: Stack) -> dict[str, int]:
    """The process of each container, which is another one after a restart. Raises `ChaosError`."""
    return {container: await process_of(container) for container in stack.containers}


def grown(before: Footprint, now: Footprint, more_mb: float = 0.0) -> list[str]:
    """What is larger than it was; nothing where memory and descriptors are back."""
    found = []
    for container, processes in before.items():
        if len(processes) != len(now[container]):
            found.append(f"{container}: {len(now[container])} processes, before {len(processes)}")
            continue
        for one, other in zip(processes, now[container], strict=True):
            if other.descriptors > one.descriptors:
                found.append(f"{container}: {other.descriptors} descriptors, before {one.descriptors}")
            if other.rss_mb > one.rss_mb * MORE_MEMORY + SLACK_MB + more_mb:
                found.append(f"{container}: {other.rss_mb:.0f} MiB, before {one.rss_mb:.0f}")
    return found


async def until_back(stack: Stack, before: Footprint, more_mb: float = 0.0) -> tuple[Footprint, list[str]]:
    """The footprint once it is as before, or after `BACK_WITHIN_S` what is not."""
    began = time.monotonic()
    while True:
        now = await footprint(stack)
        left = grown(before, now, more_mb)
        if not left or time.monotonic() - began > BACK_WITHIN_S:
            return now, left
        await asyncio.sleep(1)


async def until_idle(stack: Stack, within_s: float = IDLE_WITHIN_S) -> float:
    """Seconds until no replica counts a stream. Raises `ChaosError`."""
    began = time.monotonic()
    while True:
        counted = {replica.container: (await health(replica))["active_connections"] for replica in stack.all}
        spent = time.monotonic() - began
        if not any(counted.values()):
            return spent
        if spent > within_s:
            raise ChaosError(f"streams are counted {within_s:.0f} s after the last has ended: {counted}")
        await asyncio.sleep(0.2)


async def fill(stack: Stack, service: str) -> str | None:
    """Open every stream that there is room for, and one more; what is not as it has to be."""
    async with AsyncExitStack() as open_streams:
        connect = CONNECT[service]

        async def one() -> str | None:
            try:
                await open_streams.enter_async_context(connect(FRONT[service]))
            except (ChorusError, OSError) as error:
                return str(error) or type(error).__name__
            return None

        failures = [failure for failure in await asyncio.gather(*(one() for _ in range(stack.streams))) if failure]
        if failures:
            return f"{service}: {len(failures)} of {stack.streams} streams were refused: {failures[0]}"
        try:
            await open_streams.enter_async_context(connect(FRONT[service]))
        except Refused as refused:
            told = refused.status == 503 and refused.retry_after is not None
            return None if told else f"{service}: one stream too many was answered {refused}"
        except (ChorusError, OSError) as error:
            return f"{service}: one stream too many was answered {error!r}"
        return f"{service}: one stream more than there is room for was accepted"


async def until_full_capacity(stack: Stack) -> float:
    """Seconds until both services take as many streams as they should, and no more. Raises `ChaosError`."""
    began = time.monotonic()
    while True:
        failures = [failure for service in SERVICES if (failure := await fill(stack, service))]
        if not failures:
            return time.monotonic() - began
        if time.monotonic() - began > CAPACITY_WITHIN_S:
            raise ChaosError("; ".join(failures))
        await until_idle(stack)
        await asyncio.sleep(1)
