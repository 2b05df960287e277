"""A replica has no file descriptor left."""

from __future__ import annotations

import asyncio

from chaos.fault import Fault
from chaos.faults.process import HURT
from chaos.stack import Stack, descriptors, process_of, shell
from chorus.aio import connect_asr, connect_tts
from chorus.errors import ChorusError

SPARE = 1
"""So many more than it has open now."""
TRIES = 20
_before: dict[int, str] = {}
"""The limit of each process."""


async def _exhaust(_stack: Stack) -> None:
    for replica in HURT:
        pid = await process_of(replica.container)
        _before[pid] = await _soft_limit(pid)
        await _set_soft_limit(pid, str(descriptors(pid) + SPARE))

    async def knock(replica_url: str, asr: bool) -> None:
        try:
            async with (connect_asr if asr else connect_tts)(replica_url):
                await asyncio.sleep(5)
        except (ChorusError, OSError):
            pass  # to be refused, or not to be heard at all, is what this is for

    # On the replicas' own ports, where no other replica can help.
    await asyncio.gather(*(knock(each.url, each.service == "asr") for each in HURT for _ in range(TRIES)))


async def _allow(_stack: Stack) -> None:
    for pid, limit in _before.items():
        await _set_soft_limit(pid, limit, check=False)  # that it has ended is told by another check
    _before.clear()


async def _soft_limit(pid: int) -> str:
    limits = await shell("cat", f"/proc/{pid}/limits")
    (line,) = [each for each in limits.splitlines() if each.startswith("Max open files")]
    return line.split()[3]


async def _set_soft_limit(pid: int, limit: str, *, check: bool = True) -> None:
    """As the process's own user: root may lack the capability for others, nobody needs one for himself."""
    owner = (await shell("stat", "--format", "%u %g", f"/proc/{pid}", check=check)).split() or ["0", "0"]
    as_owner = ("setpriv", "--reuid", owner[0], "--regid", owner[1], "--clear-groups")
    await shell(*as_owner, "prlimit", "--pid", str(pid), f"--nofile={limit}:", check=check)


FAULTS = [
    Fault(
        name="descriptors",
        what="one replica of each service may open one file descriptor more, and 20 clients come to it",
        inject=_exhaust,
        during_s=10,
        heal=_allow,
    ),
]
