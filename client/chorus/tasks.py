"""Two things that every asyncio client needs: sending beside receiving, and reading what may block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

from chorus.errors import ConnectionLost

T = TypeVar("T")
READ_AHEAD = 8
"""Items that a blocking source is read ahead by."""


async def send_and_receive(send: Coroutine[Any, Any, None], receive: Coroutine[Any, Any, None]) -> None:
    """Run both to their end. The receiver's failure comes before the sender's: it knows why a stream ended."""
    sender, receiver = asyncio.create_task(send), asyncio.create_task(receive)
    try:
        await asyncio.wait((sender, receiver), return_when=asyncio.FIRST_EXCEPTION)
        if sender.done() and not sender.cancelled() and isinstance(sender.exception(), ConnectionLost):
            await asyncio.wait((receiver,))  # what the server said before it closed is still to be read
    finally:
        for task in (sender, receiver):
            task.cancel()
        results = await asyncio.gather(receiver, sender, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def from_thread(items: Iterable[T]) -> AsyncIterator[T]:
    """The items of an iterable whose next item may have to be waited for, such as a pipe's blocks.

    Its thread is a daemon: a read that never returns holds up neither a cancelled task nor the program's end.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue()
    room = threading.Semaphore(READ_AHEAD)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None, last: bool) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, (item, error, last))
        except RuntimeError:
            stopped.set()  # the loop has closed: nobody waits any more

    def read() -> None:
        try:
            for item in items:
                put(item, None, False)
                room.acquire()
                if stopped.is_set():
                    return
        except BaseException as error:
            put(None, error, True)
        else:
            put(None, None, True)

    threading.Thread(target=read, name="source", daemon=True).start()
    try:
        while True:
            item, error, last = await queue.get()
            room.release()
            if error is not None:
                raise error
            if last:
                return
            assert item is not None
            yield item
    finally:
        stopped.set()
        room.release()
