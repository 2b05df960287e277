"""A TCP relay that delays what it passes on, both ways and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHUNK_BYTES = 64 * 1024
CHUNKS_ON_THE_WAY = 256
"""Then the relay reads no further, as a link that is full."""


@dataclass
class Relay:
    """Its delay may change while connections go on."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to each chunk at random, up to so much."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of one connection, to its end, which arrives as late as everything else."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_ON_THE_WAY)

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            writer.close()

        delivering = asyncio.create_task(deliver())
        due = 0.0
        try:
            while True:
                try:
                    data = await reader.read(CHUNK_BYTES)
                except OSError:
                    data = b""  # reset: the other side learns of an end
                due = max(due, loop.time() + self.delay_s + random.uniform(0, self.jitter_s))
                await queue.put((due, data))
                if not data:
                    break
            await delivering
        except OSError:
            writer.close()
        finally:
            delivering.cancel()

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Relay to that address from a port of 127.0.0.1."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection(host, port)
            except OSError:
                writer.close()
                return
            for one, other in ((reader, far_writer), (far_reader, writer)):
                task = asyncio.create_task(self.carry(one, other))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
