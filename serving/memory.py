"""Gives memory that was freed back to the system, which glibc's allocator puts off for ever.

Engines allocate and free arrays of many sizes on several threads, and what they leave in the allocator's arenas goes
back only by chance: after a load had ended, one call took a replica from 564 to 234 MiB.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

EVERY_S = 5.0


def trimmer() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None with another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


async def keep_trimmed() -> None:
    """Give memory back now and then, on a thread of its own, until cancelled."""
    trim = trimmer()
    while trim is not None:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(trim, 0)
