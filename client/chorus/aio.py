"""asyncio driver.

    async with connect_asr("ws://127.0.0.1:8000", language="en") as stream:
        await stream.send(stream.protocol.audio(samples))
        await stream.send(stream.protocol.close())
        async for event in stream:
            ...

One task may send while another iterates. Cancelling either is safe; a frame may then be lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from chorus.asr import AsrProtocol
from chorus.asr import Event as AsrEvent
from chorus.connect import ASR_URL, MAX_FRAME_BYTES, PING_TIMEOUT_S, TTS_URL, close_of, handshake_error, stream_url
from chorus.contract import StreamProtocol
from chorus.errors import ConnectionLost
from chorus.tts import Event as TtsEvent
from chorus.tts import TtsProtocol
from chorus.wire import asr as asr_wire
from chorus.wire import tts as tts_wire

P = TypeVar("P", bound=StreamProtocol[Any])
E = TypeVar("E")


class Stream(Generic[P, E]):
    """An open stream. `protocol` makes the frames to `send`; iterating gives events to the end of the stream."""

    def __init__(self, protocol: P, socket: ClientConnection) -> None:
        self.protocol = protocol
        self.socket = socket

    async def send(self, frame: str | bytes) -> None:
        """Send a frame; waits while the server takes no more. Raises `ConnectionLost`.

        Why the connection ended is told to whoever receives: what the server said before may be unread.
        """
        try:
            await self.socket.send(frame)
        except ConnectionClosed as error:
            raise ConnectionLost(*close_of(error)) from None

    async def receive(self) -> E:
        """The next event. Raises `StreamError`, `ConnectionLost` (also after `done`), `ContractViolation`."""
        event = await self._next()
        if event is None:
            raise ConnectionLost(1000, "the stream is over")
        return event

    async def __aiter__(self) -> AsyncIterator[E]:
        """Every event up to `done` and the close after it. Raises as `receive`."""
        while (event := await self._next()) is not None:
            yield event

    async def _next(self) -> E | None:
        try:
            frame = await self.socket.recv()
        except ConnectionClosed as error:
            failure = self.protocol.closed(*close_of(error))
            if failure is not None:
                raise failure from None
            return None
        event: E = self.protocol.receive(frame)
        return event


AsrStream = Stream[AsrProtocol, AsrEvent]
TtsStream = Stream[TtsProtocol, TtsEvent]


@asynccontextmanager
async def connect_asr(
    url: str = ASR_URL, *, strict: bool = True, headers: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[AsrStream]:
    """Open a recognition stream; `ready` has been received.

    `strict` is `StreamProtocol`'s; a setting of None is not sent. Raises `Refused`, `ConnectionLost`, `OSError`.
    """
    async with _open(stream_url(url, asr_wire.PATH, settings), headers) as socket:
        stream: AsrStream = Stream(AsrProtocol(strict=strict), socket)
        await stream.receive()
        yield stream


@asynccontextmanager
async def connect_tts(
    url: str = TTS_URL, *, strict: bool = True, headers: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[TtsStream]:
    """Open a synthesis stream; as `connect_asr`."""
    async with _open(stream_url(url, tts_wire.PATH, settings), headers) as socket:
        stream: TtsStream = Stream(TtsProtocol(strict=strict), socket)
        await stream.receive()
        yield stream


@asynccontextmanager
async def _open(url: str, headers: Mapping[str, str] | None) -> AsyncIterator[ClientConnection]:
    try:
        # No compression, as the protocol says; no proxy, which would be asked even for this very machine.
        socket = await connect(
            url,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            proxy=None,
            additional_headers=headers,
            ping_timeout=PING_TIMEOUT_S,
        )
    except InvalidHandshake as error:
        raise handshake_error(error) from None
    try:
        yield socket
    finally:
        await socket.close()
