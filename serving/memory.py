"""Gives memory that was freed back to the system, which glibc's allocator puts off for ever.

Engines allocate and free arrays of many sizes on several threads, and what they leave in the allocator's arenas goes
back only by chance: after a load had ended, one call took a replica from 564 to 234 MiB.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from functools import partial

EVERY_S = 5.0
M_MMAP_THRESHOLD = -3  # malloc.h


def trimmer() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None with another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def take_from_the_system(least_bytes: int) -> None:
    """Let blocks of that size and more be mapped one by one, so that each goes back when it is freed.

    By itself glibc takes them from its heaps once it has seen a few of them freed, and of a thread's heap `malloc_trim`
    leaves what is at the end (`mallopt(3)`, `M_MMAP_THRESHOLD`). Does nothing with another C library.
    """
    if (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        set_option(M_MMAP_THRESHOLD, least_bytes)


async def keep_trimmed() -> None:
    """Give memory back now and then, until cancelled."""
    if (trim := trimmer()) is not None:
        await keep_giving_back(partial(trim, 0))


async def keep_giving_back(give_back: Callable[[], object]) -> None:
    """Call it now and then, on a thread of its own, until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(give_back)
