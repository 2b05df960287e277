"""Driver for threads: `with connect_asr(...) as stream`, then send, and iterate over events.

One thread may send while another iterates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from chorus.aio import E, P, lost
from chorus.asr import AsrProtocol
from chorus.asr import Event as AsrEvent
from chorus.connect import ASR_URL, MAX_FRAME_BYTES, TTS_URL, refusal, stream_url
from chorus.tts import Event as TtsEvent
from chorus.tts import TtsProtocol
from chorus.wire import asr as asr_wire
from chorus.wire import tts as tts_wire


class Stream(Generic[P, E]):
    """An open stream. `protocol` makes the frames to `send`; iterating gives events until `done`."""

    def __init__(self, protocol: P, socket: ClientConnection) -> None:
        self.protocol = protocol
        self.socket = socket

    def send(self, frame: str | bytes) -> None:
        """Send a frame. Raises `ConnectionLost`."""
        try:
            self.socket.send(frame)
        except ConnectionClosed as error:
            raise lost(error) from None

    def receive(self) -> E:
        """The next event. Raises `ConnectionLost`, `ServerError`, `ContractViolation`."""
        try:
            frame = self.socket.recv()
        except ConnectionClosed as error:
            raise lost(error) from None
        event: E = self.protocol.receive(frame)
        return event

    def __iter__(self) -> Iterator[E]:
        while self.protocol.done is None:
            yield self.receive()


AsrStream = Stream[AsrProtocol, AsrEvent]
TtsStream = Stream[TtsProtocol, TtsEvent]


@contextmanager
def connect_asr(url: str = ASR_URL, **settings: Any) -> Iterator[AsrStream]:
    """Open a recognition stream; `ready` has been received. Raises `Refused`, `OSError`, `ConnectionLost`."""
    with _open(stream_url(url, asr_wire.PATH, settings)) as socket:
        stream: AsrStream = Stream(AsrProtocol(), socket)
        stream.receive()
        yield stream


@contextmanager
def connect_tts(url: str = TTS_URL, **settings: Any) -> Iterator[TtsStream]:
    """Open a synthesis stream; `ready` has been received. Raises `Refused`, `OSError`, `ConnectionLost`."""
    with _open(stream_url(url, tts_wire.PATH, settings)) as socket:
        stream: TtsStream = Stream(TtsProtocol(), socket)
        stream.receive()
        yield stream


@contextmanager
def _open(url: str) -> Iterator[ClientConnection]:
    try:
        socket = connect(url, compression=None, max_size=MAX_FRAME_BYTES, proxy=None)
    except InvalidStatus as error:
        raise refusal(error) from None
    try:
        yield socket
    finally:
        socket.close()
