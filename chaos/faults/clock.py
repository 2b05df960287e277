"""The wall clock jumps. Containers share this machine's, so libfaketime gives them one of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chaos.fault import Fault
from chaos.stack import FOLDER, FRONT, ChaosError, Stack, process_of, shell, up

LIBRARY = "/chaos/libfaketimeMT.so.1"
"""The one for processes with threads: in the other they parse the clock's file into the same buffers at once."""
CLOCK = FOLDER / "clock"
JUMPS = ("+1h", "-1h")
EACH_S = 10.0


@asynccontextmanager
async def _clocks_of_their_own(stack: Stack) -> AsyncIterator[dict[str, str]]:
    if not (FOLDER / Path(LIBRARY).name).exists():
        raise ChaosError("libfaketime is missing: apt-get install libfaketime, or leave this fault out")
    CLOCK.write_text("+0\n", encoding="ascii")
    await up(stack, CHAOS_PRELOAD=LIBRARY)
    try:
        for container in stack.containers:
            if Path(LIBRARY).name not in await shell("cat", f"/proc/{await process_of(container)}/maps"):
                raise ChaosError(f"{container} has not loaded libfaketime")
        yield FRONT
    finally:
        await asyncio.shield(up(stack))


async def _jump(_stack: Stack) -> None:
    for jump in JUMPS:
        _set(jump)
        await asyncio.sleep(EACH_S)


async def _right(_stack: Stack) -> None:
    _set("+0")


def _set(offset: str) -> None:
    """In one step: a file that is half written would be no time at all."""
    new = CLOCK.with_suffix(".new")
    new.write_text(offset + "\n", encoding="ascii")
    os.replace(new, CLOCK)


FAULTS = [
    Fault(
        name="clock",
        what="the wall clock of replicas and nginx jumps an hour ahead, after 10 s two hours back, then to the truth",
        inject=_jump,
        during_s=0,
        heal=_right,
        around=_clocks_of_their_own,
    ),
]
