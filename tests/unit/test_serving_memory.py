"""Freed memory goes back to the system."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving import memory
from tests.conftest import eventually

pytestmark = pytest.mark.unit


async def test_memory_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another thread than the event loop's, which it may hold up for a while; until it is cancelled."""
    threads: list[int] = []

    def trim(_keep: int) -> int:
        threads.append(threading.get_ident())
        return 1

    monkeypatch.setattr(memory, "EVERY_S", 0.001)
    monkeypatch.setattr(memory, "trimmer", lambda: trim)
    task = asyncio.create_task(memory.keep_trimmed())
    await eventually(lambda: len(threads) > 2)
    assert threading.get_ident() not in threads
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_another_c_library_has_nothing_to_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """musl has no malloc_trim: then it is left alone."""
    monkeypatch.setattr(memory, "trimmer", lambda: None)
    await asyncio.wait_for(memory.keep_trimmed(), timeout=5)


def test_another_c_library_takes_blocks_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """musl has no mallopt either."""
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _name: object())
    memory.take_from_the_system(2**20)
