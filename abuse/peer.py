"""A raw TCP client: sends bytes, well-formed or not, and reads HTTP answers and frames until the connection ends.

What comes back is parsed by the websockets library, strictly: a server's frame that breaks RFC 6455 raises.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from abuse import frames

CONNECT_S = 20.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The example of RFC 6455 section 1.3."""
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MOST_ANSWER_BYTES = 16 * 1024 * 1024

End = Literal["eof", "reset", "timeout"]
"""The peer has closed, has dropped the connection, or says nothing."""


class BrokenAnswer(Exception):
    """What came back is neither HTTP nor a frame that a server may send."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def error(self) -> dict[str, Any] | None:
        """The protocol's error object, where the body is one."""
        try:
            found = json.loads(self.body)["error"]
        except (ValueError, TypeError, KeyError):
            return None
        return found if isinstance(found, dict) else None


@dataclass
class Heard:
    """What a stream has said, in the order of its frames."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    """Text frames, as JSON."""
    audio_bytes: int = 0
    pongs: list[bytes] = field(default_factory=list)
    close: tuple[int, str] | None = None
    """Code and reason of the close frame; 1005 where it has none."""
    end: End | None = None
    """How the connection ended, once it has."""


class Peer:
    """One connection to a server; blocks, each time at most so long as it is told."""

    def __init__(self, host: str, port: int, *, timeout_s: float = CONNECT_S) -> None:
        """Connect. Raises `OSError`."""
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout_s = timeout_s
        self._host = f"{host}:{port}"
        self._reader = StreamReader()
        self._parser: Generator[None, None, Frame] | None = None
        self._buffer = b""
        self.heard = Heard()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def drop(self) -> None:
        """End the connection with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def finish(self) -> None:
        """End our side of the connection (FIN), and go on reading."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended already

    def send(self, data: bytes) -> bool:
        """Send all of it; False where the connection does not take it any more."""
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def send_slowly(self, data: bytes, *, size: int = 1, pause_s: float = 0.0) -> bool:
        """Send it in pieces of `size` bytes."""
        for start in range(0, len(data), size):
            if not self.send(data[start : start + size]):
                return False
            if pause_s:
                time.sleep(pause_s)
        return True

    # HTTP

    def upgrade(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """A faultless handshake; the answer has been checked where it is 101."""
        self.send(upgrade_request(path, headers, host=self._host))
        answer = self.answer()
        if answer.status == 101:
            wanted = base64.b64encode(hashlib.sha1((KEY + GUID).encode()).digest()).decode()
            if answer.headers.get("sec-websocket-accept") != wanted:
                raise BrokenAnswer(f"Sec-WebSocket-Accept is {answer.headers.get('sec-websocket-accept')!r}")
            if "sec-websocket-extensions" in answer.headers:
                raise BrokenAnswer("an extension was accepted that was not offered")
        return answer

    def answer(self, *, head: bool = False) -> Answer:
        """Read an HTTP answer, with `head` one without a body. Raises `BrokenAnswer` and `OSError`."""
        while b"\r\n\r\n" not in self._buffer:
            if not (data := self._receive(self._timeout_s)):
                raise ConnectionError(f"the connection ended after {self._buffer[:80]!r}")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        try:
            protocol, status, *_ = lines[0].split(" ", 2)
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
            code, length = int(status), int(headers.get("content-length", "0"))
        except ValueError:
            raise BrokenAnswer(f"not HTTP: {raw[:200]!r}") from None
        if not protocol.startswith("HTTP/1."):
            raise BrokenAnswer(f"not HTTP: {raw[:200]!r}")
        if head or code in (204, 304) or 100 <= code < 200:
            if code == 100:
                return self.answer(head=head)
            return Answer(code, headers, b"")
        chunked = headers.get("transfer-encoding", "") == "chunked"
        while b"0\r\n\r\n" not in self._buffer if chunked else len(self._buffer) < length:
            if not (data := self._receive(self._timeout_s)):
                raise BrokenAnswer(f"{len(self._buffer)} bytes of a body of {length}")
            self._buffer += data
        if chunked:
            body, _, self._buffer = self._buffer.partition(b"0\r\n\r\n")
        else:
            body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(code, headers, body)

    def _receive(self, timeout_s: float) -> bytes:
        """Some bytes, none at the end. Raises `TimeoutError` and `ConnectionError`."""
        self._socket.settimeout(max(timeout_s, 0.001))
        return self._socket.recv(65536)

    # Frames

    def next_frame(self, timeout_s: float) -> Frame | None:
        """The next frame, noted in `heard`; None where none comes, `heard.end` telling why. Raises `BrokenAnswer`."""
        if self.heard.end in ("eof", "reset"):
            return None
        self.heard.end = None
        until = time.monotonic() + timeout_s
        if self._buffer:
            self._reader.feed_data(self._buffer)
            self._buffer = b""
        while True:
            try:
                if self._parser is None:
                    self._parser = Frame.parse(self._reader.read_exact, mask=False, max_size=MOST_ANSWER_BYTES)
                next(self._parser)
            except StopIteration as parsed:
                self._parser = None
                found: Frame = parsed.value
                self._note(found)
                return found
            except ProtocolError as error:
                raise BrokenAnswer(f"a frame that no server may send: {error}") from error
            try:
                data = self._receive(until - time.monotonic())
            except TimeoutError:
                self.heard.end = "timeout"
                return None
            except OSError:
                self.heard.end = "reset"
                return None
            if not data:
                self.heard.end = "eof"
                return None
            self._reader.feed_data(data)

    def _note(self, found: Frame) -> None:
        if self.heard.close is not None:
            raise BrokenAnswer(f"a frame after the close frame: {found}")
        payload = bytes(found.data)
        if found.opcode is Opcode.TEXT:
            try:
                message = json.loads(payload)
            except ValueError as error:
                raise BrokenAnswer(f"a text frame that is not JSON: {payload[:200]!r}") from error
            if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                raise BrokenAnswer(f"a message without a type: {payload[:200]!r}")
            self.heard.messages.append(message)
        elif found.opcode is Opcode.BINARY:
            self.heard.audio_bytes += len(payload)
        elif found.opcode is Opcode.PING:
            self.send(frames.pong(payload))
        elif found.opcode is Opcode.PONG:
            self.heard.pongs.append(payload)
        elif found.opcode is Opcode.CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            self.heard.close = (code, payload[2:].decode())
        else:
            raise BrokenAnswer(f"a fragment: {found}")

    def read_to_end(self, timeout_s: float) -> Heard:
        """Read until the connection ends, or nothing more comes in time."""
        until = time.monotonic() + timeout_s
        while self.next_frame(max(0.001, until - time.monotonic())) is not None:
            pass
        return self.heard

    def read_to_close(self, timeout_s: float) -> Heard:
        """Read until the close frame, the connection's end, or nothing more comes in time."""
        until = time.monotonic() + timeout_s
        while self.heard.close is None and self.next_frame(max(0.001, until - time.monotonic())) is not None:
            pass
        return self.heard

    def read_until(self, kind: str, timeout_s: float) -> dict[str, Any] | None:
        """Read until a message of this type; None where the connection ends, or none comes in time."""
        until = time.monotonic() + timeout_s
        while (found := self.next_frame(max(0.001, until - time.monotonic()))) is not None:
            if found.opcode is Opcode.TEXT and (newest := self.heard.messages[-1])["type"] == kind:
                return newest
        return None


def upgrade_request(path: str, headers: Iterable[tuple[str, str]] = (), *, host: str = "chorus") -> bytes:
    """The bytes of a faultless opening handshake."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
