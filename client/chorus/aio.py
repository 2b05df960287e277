"""asyncio driver: `async with connect_asr(...) as stream`, then send, and iterate over events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chorus.asr import AsrProtocol
from chorus.asr import Event as AsrEvent
from chorus.connect import ASR_URL, MAX_FRAME_BYTES, TTS_URL, refusal, stream_url
from chorus.errors import ConnectionLost
from chorus.tts import Event as TtsEvent
from chorus.tts import TtsProtocol
from chorus.wire import asr as asr_wire
from chorus.wire import tts as tts_wire

E_co = TypeVar("E_co", covariant=True)
E = TypeVar("E")
P = TypeVar("P", bound="_Protocol[Any]")


class _Protocol(Protocol[E_co]):
    done: Any

    def receive(self, frame: str | bytes) -> E_co: ...


class Stream(Generic[P, E]):
    """An open stream. `protocol` makes the frames to `send`; iterating gives events until `done`."""

    def __init__(self, protocol: P, socket: ClientConnection) -> None:
        self.protocol = protocol
        self.socket = socket

    async def send(self, frame: str | bytes) -> None:
        """Send a frame. Raises `ConnectionLost`."""
        try:
            await self.socket.send(frame)
        except ConnectionClosed as error:
            raise lost(error) from None

    async def receive(self) -> E:
        """The next event. Raises `ConnectionLost`, `ServerError`, `ContractViolation`."""
        try:
            frame = await self.socket.recv()
        except ConnectionClosed as error:
            raise lost(error) from None
        event: E = self.protocol.receive(frame)
        return event

    async def __aiter__(self) -> AsyncIterator[E]:
        while self.protocol.done is None:
            yield await self.receive()


AsrStream = Stream[AsrProtocol, AsrEvent]
TtsStream = Stream[TtsProtocol, TtsEvent]


@asynccontextmanager
async def connect_asr(url: str = ASR_URL, **settings: Any) -> AsyncIterator[AsrStream]:
    """Open a recognition stream; `ready` has been received. Raises `Refused`, `OSError`, `ConnectionLost`."""
    async with _open(stream_url(url, asr_wire.PATH, settings)) as socket:
        stream: AsrStream = Stream(AsrProtocol(), socket)
        await stream.receive()
        yield stream


@asynccontextmanager
async def connect_tts(url: str = TTS_URL, **settings: Any) -> AsyncIterator[TtsStream]:
    """Open a synthesis stream; `ready` has been received. Raises `Refused`, `OSError`, `ConnectionLost`."""
    async with _open(stream_url(url, tts_wire.PATH, settings)) as socket:
        stream: TtsStream = Stream(TtsProtocol(), socket)
        await stream.receive()
        yield stream


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[ClientConnection]:
    try:
        socket = await connect(url, compression=None, max_size=MAX_FRAME_BYTES, proxy=None)
    except InvalidStatus as error:
        raise refusal(error) from None
    try:
        yield socket
    finally:
        await socket.close()


def lost(error: ConnectionClosed) -> ConnectionLost:
    """What websockets says of a connection that ended, as ours."""
    close = error.rcvd
    return ConnectionLost(close.code if close else None, close.reason if close else "")
