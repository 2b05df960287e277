"""Driver for threads, and for gevent after its monkey patching.

    with connect_tts("ws://127.0.0.1:8003") as stream:
        stream.send(stream.protocol.synthesize("Hello."))
        stream.send(stream.protocol.close())
        for event in stream:
            ...

One thread may send while another iterates.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

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

    def send(self, frame: str | bytes) -> None:
        """Send a frame; waits while the server takes no more. Raises `ConnectionLost`.

        Why the connection ended is told to whoever receives: what the server said before may be unread.
        """
        try:
            self.socket.send(frame)
        except ConnectionClosed as error:
            raise ConnectionLost(*close_of(error)) from None

    def receive(self, timeout: float | None = None) -> E:
        """The next event. Raises `StreamError`, `ConnectionLost` (also after `done`), `ContractViolation`.

        `TimeoutError` after `timeout` seconds without one.
        """
        event = self._next(timeout)
        if event is None:
            raise ConnectionLost(1000, "the stream is over")
        return event

    def __iter__(self) -> Iterator[E]:
        """Every event up to `done` and the close after it. Raises as `receive`."""
        while (event := self._next(None)) is not None:
            yield event

    def _next(self, timeout: float | None) -> E | None:
        try:
            frame = self.socket.recv(timeout)
        except ConnectionClosed as error:
            failure = self.protocol.closed(*close_of(error))
            if failure is not None:
                raise failure from None
            return None
        event: E = self.protocol.receive(frame)
        return event


AsrStream = Stream[AsrProtocol, AsrEvent]
TtsStream = Stream[TtsProtocol, TtsEvent]


@contextmanager
def connect_asr(
    url: str = ASR_URL,
    *,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    strict: bool = True,
    headers: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[AsrStream]:
    """Open a recognition stream; `ready` has been received.

    `key` is the API key, by default the environment's `CHORUS_API_KEY`; `ca` the file of CA certificates to trust at a
    `wss` address, by default the environment's `CHORUS_CA_FILE`, then the system's; `strict` is `StreamProtocol`'s; a
    setting of None is not sent. Raises `Refused`, `ConnectionLost`, `OSError`, `ValueError`.
    """
    address = stream_url(url, asr_wire.PATH, settings)
    with _open(address, request_headers(key, headers), tls_context(address, ca)) as socket:
        stream: AsrStream = Stream(AsrProtocol(strict=strict), socket)
        stream.receive()
        yield stream


@contextmanager
def connect_tts(
    url: str = TTS_URL,
    *,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    strict: bool = True,
    headers: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[TtsStream]:
    """Open a synthesis stream; as `connect_asr`."""
    address = stream_url(url, tts_wire.PATH, settings)
    with _open(address, request_headers(key, headers), tls_context(address, ca)) as socket:
        stream: TtsStream = Stream(TtsProtocol(strict=strict), socket)
        stream.receive()
        yield stream


@contextmanager
def _open(url: str, headers: Mapping[str, str] | None, tls: ssl.SSLContext | None) -> Iterator[ClientConnection]:
    with ExitStack() as stack:
        try:
            socket = stack.enter_context(connect(url, additional_headers=headers, ssl=tls, **SOCKET_OPTIONS))
        except InvalidHandshake as error:
            raise handshake_error(error) from None
        yield socket
