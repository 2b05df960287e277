"""A WebSocket as cheap as can be: the websockets package's protocol without I/O over an asyncio transport.

No task, queue or future is behind a frame: what comes is handed to a callback, and what has been prepared is written.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from chorus.connect import MAX_FRAME_BYTES, handshake_error, request_headers, tls_context
from chorus.errors import ConnectionLost

OnFrame = Callable[[float, str | bytes], None]
"""Gets a whole message, and when it came (`time.monotonic`)."""
OnEnd = Callable[[int | None, str], None]
"""Gets code and reason of the peer's close; without one, None and what is known."""


def prepare(payload: bytes) -> bytes:
    """A client's binary WebSocket frame (RFC 6455 5.2). The key is zero, so masking leaves the payload as it is."""
    length = len(payload)
    if length < 126:
        head = bytes((0x82, 0x80 | length))
    elif length < 1 << 16:
        head = bytes((0x82, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x82, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


async def connect(
    url: str, on_frame: OnFrame, on_end: OnEnd, within_s: float, *, bytes_per_s: float | None = None
) -> Socket:
    """Open a connection; `on_end` is called once for one that was opened. `bytes_per_s` bounds how fast it is read.

    The API key is the environment's (`CHORUS_API_KEY`), as that of any client. Raises `Refused`, `ConnectionLost`,
    `OSError` (as is `TimeoutError`), `ValueError` for a key or a file of certificates that can't be one.
    """
    uri = parse_uri(url)
    context = trusted(f"{'wss' if uri.secure else 'ws'}://{uri.host}:{uri.port}")
    protocol = ClientProtocol(uri, max_size=MAX_FRAME_BYTES)
    socket = Socket(protocol, on_frame, on_end, request_headers(None, None), bytes_per_s)
    try:
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().create_connection(lambda: socket, uri.host, uri.port, ssl=context)
            await socket.opened
    except TimeoutError:
        socket.abort()
        raise TimeoutError(f"no connection after {within_s:g} s") from None
    except BaseException:
        socket.abort()
        raise
    return socket


@cache
def trusted(origin: str) -> ssl.SSLContext | None:
    """What any client trusts there; read once for each origin, as that takes as long as many frames."""
    return tls_context(origin)


class Socket(asyncio.Protocol):
    """One connection. `connect` makes it."""

    def __init__(
        self,
        protocol: ClientProtocol,
        on_frame: OnFrame,
        on_end: OnEnd,
        headers: Mapping[str, str],
        bytes_per_s: float | None = None,
    ) -> None:
        """`headers` go with the handshake."""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard_at = time.monotonic()
        """When the newest bytes came, pings included."""
        self._protocol = protocol
        self._headers = headers
        self._on_frame = on_frame
        self._on_end = on_end
        self._bytes_per_s = bytes_per_s
        self.resting_until = 0.0
        """When a slow reader reads on (`time.monotonic`)."""
        self._resuming: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._message = bytearray()
        """The fragments so far of one that comes in several."""
        self._binary = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand over every whole message; the protocol object answers pings and closes."""
        now = self.heard_at = time.monotonic()
        self._protocol.receive_data(data)
        self._handle_events(now)
        if self._bytes_per_s is not None:
            self._rest(len(data) / self._bytes_per_s)

    def eof_received(self) -> None:
        """A refusal without a length ends here."""
        self._protocol.receive_eof()
        self._handle_events(time.monotonic())

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more will come."""
        self._transport = None
        if self._resuming is not None:
            self._resuming.cancel()
        if not self.opened.done():
            self.opened.set_exception(ConnectionLost(None, str(error or "closed before it was opened")))
        elif not self.opened.cancelled() and self.opened.exception() is None:
            close = self._protocol.close_rcvd
            if close is not None:
                self._on_end(close.code, close.reason)
            else:
                self._on_end(None, str(error or self._protocol.parser_exc or ""))

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def write(self, prepared: bytes) -> None:
        """Send a frame that `prepare` made."""
        if self._transport is not None:
            self._transport.write(prepared)

    def send(self, frame: str | bytes) -> None:
        """Send a message."""
        if isinstance(frame, bytes):
            self.write(prepare(frame))
        elif self._transport is not None and self._protocol.close_rcvd is None:
            self._protocol.send_text(frame.encode())
            self._flush()

    def read_fast(self) -> None:
        """Read as fast as it comes from now on."""
        self._bytes_per_s = None
        if self._resuming is not None:
            self._resuming.cancel()
            self._read_on()

    def abort(self) -> None:
        """End the connection without a word, and with a reset where something is unread or unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _handle_events(self, now: float) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._on_event(now, event)
            elif isinstance(event, Response) and not self.opened.done():
                failure = self._protocol.handshake_exc
                if failure is None:
                    self.opened.set_result(None)
                elif isinstance(failure, InvalidHandshake):
                    self.opened.set_exception(handshake_error(failure))
                else:
                    self.opened.set_exception(ConnectionLost(None, str(failure)))
        self._flush()

    def _on_event(self, now: float, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._binary = frame.opcode is Opcode.BINARY
            if frame.fin:
                self._hand_over(now, bytes(frame.data))
            else:
                self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT:
            self._message += frame.data
            if frame.fin:
                self._hand_over(now, bytes(self._message))

    def _hand_over(self, now: float, message: bytes) -> None:
        self._on_frame(now, message if self._binary else message.decode())

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if self._transport is None:
                return
            if data:
                self._transport.write(data)
            else:
                self._transport.close()

    def _rest(self, seconds: float) -> None:
        """Read nothing for a while; what comes meanwhile waits with the peer."""
        if self._transport is None or self._resuming is not None:
            return
        self._transport.pause_reading()
        self.resting_until = time.monotonic() + seconds
        self._resuming = asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        self._resuming = None
        if self._transport is not None:
            self._transport.resume_reading()
