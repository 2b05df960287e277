"""A replica has no file descriptor left."""

from __future__ import annotations

import asyncio
import resource

from chaos.fault import Fault
from chaos.faults.process import HURT
from chaos.stack import Stack, descriptors, process_of
from chorus.aio import connect_asr, connect_tts
from chorus.errors import ChorusError

SPARE = 1
"""So many more than it has open now."""
TRIES = 20
_before: dict[int, tuple[int, int]] = {}
"""The limits of each process."""


async def _exhaust(_stack: Stack) -> None:
    for replica in HURT:
        pid = await process_of(replica.container)
        _before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + SPARE, _before[pid][1]))

    async def knock(replica_url: str, asr: bool) -> None:
        try:
            async with (connect_asr if asr else connect_tts)(replica_url):
                await asyncio.sleep(5)
        except (ChorusError, OSError):
            pass  # to be refused, or not to be heard at all, is what this is for

    # On the replicas' own ports, where no other replica can help.
    await asyncio.gather(*(knock(each.url, each.service == "asr") for each in HURT for _ in range(TRIES)))


async def _allow(_stack: Stack) -> None:
    for pid, limits in _before.items():
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        except ProcessLookupError:
            pass  # that it has ended is told by another check
    _before.clear()


FAULTS = [
    Fault(
        name="descriptors",
        what="one replica of each service may open one file descriptor more, and 20 clients come to it",
        inject=_exhaust,
        during_s=10,
        heal=_allow,
    ),
]
