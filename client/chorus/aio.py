"""asyncio driver.

    async with connect_asr("ws://127.0.0.1:8000", language="en") as stream:
        await stream.send(stream.protocol.audio(samples))
        await stream.send(stream.protocol.close())
        async for event in stream:
            ...

One task may send while another iterates. Cancelling either is safe; a frame may then be lost.

`reconnecting_asr` in the place of `connect_asr` goes on over another connection when one is lost, and loses no word;
cancelling loses no frame there.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from asyncio import sleep
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Generic, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from chorus.asr import AsrProtocol
from chorus.asr import Event as AsrEvent
from chorus.connect import (
    ASR_URL,
    SOCKET_OPTIONS,
    TTS_URL,
    close_of,
    handshake_error,
    request_headers,
    stream_url,
    tls_context,
)
from chorus.contract import StreamProtocol
from chorus.errors import ChorusError, ConnectionLost
from chorus.reconnect import PATIENCE_S, ReconnectingAsrProtocol
from chorus.reconnect import Event as ReconnectingAsrEvent
from chorus.resend import DEFAULT_BYTES
from chorus.tts import Event as TtsEvent
from chorus.tts import TtsProtocol
from chorus.wire import asr as asr_wire
from chorus.wire import tts as tts_wire

P = TypeVar("P", bound=StreamProtocol[Any])
E = TypeVar("E")
EVENTS_AHEAD = 256
"""Events of a reconnecting stream that may wait for whoever iterates; then the server is read no further."""
READY_S = 10.0
"""How long a new connection of such a stream may take to say `ready`."""


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
    url: str = ASR_URL,
    *,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    strict: bool = True,
    headers: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[AsrStream]:
    """Open a recognition stream; `ready` has been received.

    `key` is the API key, by default the environment's `CHORUS_API_KEY`; `ca` the file of CA certificates to trust at a
    `wss` address, by default the environment's `CHORUS_CA_FILE`, then the system's; `strict` is `StreamProtocol`'s; a
    setting of None is not sent. Raises `Refused`, `ConnectionLost`, `OSError`, `ValueError`.
    """
    address = stream_url(url, asr_wire.PATH, settings)
    async with _open(address, request_headers(key, headers), tls_context(address, ca)) as socket:
        stream: AsrStream = Stream(AsrProtocol(strict=strict), socket)
        await stream.receive()
        yield stream


@asynccontextmanager
async def connect_tts(
    url: str = TTS_URL,
    *,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    strict: bool = True,
    headers: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[TtsStream]:
    """Open a synthesis stream; as `connect_asr`."""
    address = stream_url(url, tts_wire.PATH, settings)
    async with _open(address, request_headers(key, headers), tls_context(address, ca)) as socket:
        stream: TtsStream = Stream(TtsProtocol(strict=strict), socket)
        await stream.receive()
        yield stream


class ReconnectingAsrStream:
    """As `Stream`, over any number of connections. `protocol` makes the frames to `send`."""

    def __init__(
        self,
        protocol: ReconnectingAsrProtocol,
        url: str,
        headers: Mapping[str, str] | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.protocol = protocol
        self.socket: ClientConnection | None = None
        """Of the newest connection."""
        self._url = url
        self._headers = headers
        self._tls = tls
        self._events: deque[ReconnectingAsrEvent] = deque()
        self._changed = asyncio.Condition()
        """Told of whatever one of the waits in this class is for."""
        self._write_failed = False
        self._over = False
        self._failure: Exception | None = None

    async def send(self, frame: str | bytes) -> None:
        """Send a frame; waits while the server takes no more. Raises `ConnectionLost` once the stream is over.

        Without a connection it waits only when `resend_bytes` of audio wait already. Cancelled, it has still taken
        the frame.
        """
        if not self._over:
            self.protocol.hand_over(frame)
            await self._until(lambda: self._over or self.protocol.has_room)
        if self._over:
            raise ConnectionLost(1000, "the stream is over")

    async def receive(self) -> ReconnectingAsrEvent:
        """The next event. Raises `ChorusError` or `OSError`, the last one, where reconnecting did not help."""
        event = await self._next()
        if event is None:
            raise ConnectionLost(1000, "the stream is over")
        return event

    async def __aiter__(self) -> AsyncIterator[ReconnectingAsrEvent]:
        """Every event up to `done` and the close after it. Raises as `receive`."""
        while (event := await self._next()) is not None:
            yield event

    async def connect(self) -> None:
        """Open a connection that is ready. Raises `ChorusError`, `OSError`."""
        url = stream_url(self._url, asr_wire.PATH, self.protocol.connection_settings())
        socket = await _connect(url, self._headers, self._tls)
        try:
            async with asyncio.timeout(READY_S):
                frame = await socket.recv()
        except ConnectionClosed as error:
            raise ConnectionLost(*close_of(error)) from None
        except BaseException:
            socket.transport.abort()
            raise
        self.socket = socket
        self.protocol.connected(monotonic())
        await self._tell(self.protocol.receive(frame))

    async def run(self) -> None:
        """Live from the first connection, which has been opened, to the end of the stream."""
        try:
            while (failure := await self._converse()) is not None:
                await self._reconnect(failure)
        except Exception as error:
            self._failure = error
        finally:
            self._over = True
            await self._until(lambda: True)

    async def _converse(self) -> ChorusError | None:
        """Write and receive until the connection ends; None where that is the stream's end."""
        assert self.socket is not None
        self._write_failed = False
        writing = asyncio.create_task(self._write(self.socket))
        try:
            while True:
                # One that is known to be lost is read to its end whatever waits: a sender may wait for the next.
                await self._until(lambda: len(self._events) < EVENTS_AHEAD or self._write_failed)
                await self._tell(self.protocol.receive(await self.socket.recv()))
        except ConnectionClosed as error:
            return self.protocol.closed(*close_of(error))
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                frame = self.protocol.next_frame()
                if frame is not None:
                    await socket.send(frame)
                await self._until(lambda: not self.protocol.idle)
        except ConnectionClosed:
            self._write_failed = True
            await self._until(lambda: True)

    async def _reconnect(self, failure: ChorusError | OSError) -> None:
        """Try until there is a connection. Raises the last failure."""
        delay = self.protocol.retry_in(failure, monotonic())
        await self._tell(self.protocol.interrupted(failure))
        while True:
            await sleep(delay)
            try:
                return await self.connect()
            except (ChorusError, OSError) as error:
                delay = self.protocol.retry_in(error, monotonic())

    async def _tell(self, event: ReconnectingAsrEvent | None) -> None:
        if event is not None:
            self._events.append(event)
        await self._until(lambda: True)

    async def _next(self) -> ReconnectingAsrEvent | None:
        await self._until(lambda: bool(self._events) or self._over)
        if self._events:
            return self._events.popleft()
        if self._failure is not None:
            raise self._failure
        return None

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Tell the others that something has changed, then wait until the condition holds."""
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(condition)


@asynccontextmanager
async def reconnecting_asr(
    url: str = ASR_URL,
    *,
    patience_s: float = PATIENCE_S,
    resend_bytes: int = DEFAULT_BYTES,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    strict: bool = True,
    headers: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[ReconnectingAsrStream]:
    """Open a recognition stream that reconnects by itself; `ready` has been received.

    Its events are `AsrStream`'s with `Interrupted` and `Resumed` among them. `patience_s` is how long it tries to
    reconnect, `resend_bytes` how much audio it keeps to send again. The first connection is tried once, so that a
    wrong address is told at once; the rest is as with `connect_asr`.
    """
    protocol = ReconnectingAsrProtocol(settings, strict=strict, patience_s=patience_s, resend_bytes=resend_bytes)
    tls = tls_context(stream_url(url, asr_wire.PATH, {}), ca)
    stream = ReconnectingAsrStream(protocol, url, request_headers(key, headers), tls)
    try:
        await stream.connect()
        await stream.receive()
        running = asyncio.create_task(stream.run())
        try:
            yield stream
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    finally:
        if stream.socket is not None:
            await stream.socket.close()


@asynccontextmanager
async def _open(
    url: str, headers: Mapping[str, str] | None, tls: ssl.SSLContext | None
) -> AsyncIterator[ClientConnection]:
    socket = await _connect(url, headers, tls)
    try:
        yield socket
    finally:
        await socket.close()


async def _connect(url: str, headers: Mapping[str, str] | None, tls: ssl.SSLContext | None) -> ClientConnection:
    try:
        return await connect(url, additional_headers=headers, ssl=tls, **SOCKET_OPTIONS)
    except InvalidHandshake as error:
        raise handshake_error(error) from None
