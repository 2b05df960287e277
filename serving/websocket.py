"""uvicorn's WebSocket protocol with what it lacks for peers that mean no good, or are not being read.

A close waits for the write buffer to drain, which a peer that stopped reading never lets happen: its connection
would be held for as long as the peer likes, so it can be dropped at once. And a peer whose audio waits unread can
leave without being noticed, so the kernel can be asked.

Handshakes that can't be are refused in the protocol's words, also those that uvicorn would leave without an answer. A
message takes the memory of its bytes in however many fragments it comes, and pongs wait for a peer that does not read
them one at a time.

What is left of a connection holds nothing that holds it: it would wait for the garbage collection that comes once
thousands have ended.
"""

from __future__ import annotations

import codecs
import logging
import socket
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHeader, InvalidUpgrade
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from serving.errors import error_body

ABORT = "chorus.abort"
"""Key of the scope's extensions under which the handler finds a function that drops the TCP connection."""
PEER_LEFT = "chorus.peer_left"
"""Key of a function that tells whether the peer has ended its side, without reading what it sent before."""

TCP_STATES_OF_A_PEER = frozenset((1, 4, 5))
"""ESTABLISHED, FIN_WAIT1 and FIN_WAIT2 (Linux, net/tcp_states.h): the peer has sent neither FIN nor RST."""

QUIET_S = 0.5
"""A peer that broke the protocol is heard out, until it has been silent for so long …"""
LINGER_S = 5.0
"""… or for so long at most."""
PONG_BYTE = bytes([0x80 | Opcode.PONG])
"""The first of a pong."""


class Handshake(ServerProtocol):
    """The library's side of a server: stricter about the opening, and refusing it with JSON."""

    def process_request(self, request: Request) -> tuple[str, str | None, str | None]:
        """As the library does, and ask for what else RFC 6455 section 4.2.1 wants."""
        if len(request.headers.get_all("Host")) != 1:
            raise InvalidHeader("Host")
        versions = request.headers.get_all("Sec-WebSocket-Version")
        if len(versions) == 1 and versions != ["13"]:
            raise InvalidUpgrade("Sec-WebSocket-Version", versions[0])  # 426: another one will do
        return super().process_request(request)

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        """A refusal in the protocol's words; whatever else is wrong, it says which version would be right."""
        code = "internal" if status >= 500 else "too_large" if status in (414, 431) else "bad_message"
        response = super().reject(status, error_body(code, text.partition("\n")[0]))
        response.headers["Content-Type"] = "application/json"
        response.headers["Sec-WebSocket-Version"] = "13"
        return response


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One peer's connection, from its handshake on; `ABORT` and `PEER_LEFT` are in its scope's extensions."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = Handshake(max_size=self.config.ws_max_size, logger=logging.getLogger("uvicorn.error"))
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._message = bytearray()
        """What has come of a message in fragments."""
        self._late_pong: bytes | None = None
        self._lingering_since: float | None = None

    def handle_connect(self, event: Request) -> None:
        """Make the scope as uvicorn does, then add the extensions."""
        if not event.path.startswith("/"):
            event.path = _origin_form(event.path)
        super().handle_connect(event)
        if hasattr(self, "scope"):  # absent where the handshake itself was refused
            extensions: dict[str, Any] = cast("dict[str, Any]", self.scope)["extensions"]
            extensions[ABORT] = self._abort
            extensions[PEER_LEFT] = self._peer_left

    async def run_asgi(self) -> None:
        """As uvicorn does; what the scope has of this object, which has the scope, is taken out."""
        try:
            await super().run_asgi()
        finally:
            cast("dict[str, Any]", self.scope)["extensions"].clear()

    async def send(self, message: Any) -> None:
        """Send as uvicorn does; a denial is an answer too, where uvicorn would log a handshake left open."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def _abort(self) -> None:
        self.handshake_complete = True  # uvicorn would log one left open, and answer it
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        """As uvicorn does; nothing has been received yet."""
        super().connection_made(transport)
        self._received_at = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn does; the library's parser, a generator that holds what holds it, is done."""
        super().connection_lost(exc)
        self.conn.parser.close()

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, and remember when: it is a sign of life."""
        if self._lingering_since is not None:
            self._linger()
            return
        self._received_at = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse_unreadable()

    def _refuse_unreadable(self) -> None:
        """Answer a handshake that the library could not parse, which uvicorn would leave open for good."""
        self.handshake_complete = True
        answer = b"".join(self.conn.data_to_send())
        if not answer:
            answer = self.conn.reject(400, "Failed to open a WebSocket connection: not a valid request").serialize()
        self.transport.write(answer)
        self.transport.close()

    def handle_text(self, event: Frame) -> None:
        """As uvicorn does, of UTF-8."""
        self._utf8.reset()
        if self._sound(event):
            super().handle_text(event)

    def handle_cont(self, event: Frame) -> None:
        """Append to what came before: a list of fragments, which may be empty, would know no bound."""
        if self.curr_msg_data_type == "text" and not self._sound(event):
            return
        if self.frames:
            self._message = bytearray(self.frames.pop())
        self._message += event.data
        if event.fin:
            self.frames = [bytes(self._message)]
            self._message = bytearray()
            self.send_receive_event_to_app()

    def _sound(self, event: Frame) -> bool:
        """Whether the text is UTF-8 as far as it has come; else the connection is failed, without a line in the log."""
        if self.close_sent:
            return False
        try:
            self._utf8.decode(event.data, event.fin)
        except UnicodeDecodeError as error:
            if self.conn.state is State.OPEN:  # else the peer's own close frame came with it, and has had its answer
                self.conn.send_close(CloseCode.INVALID_DATA, error.reason)
            self.handle_parser_exception()
            return False
        return True

    def handle_parser_exception(self) -> None:
        """Tell the peer how it broke the protocol, and hear it out.

        A socket that is closed on what the peer still sends resets the connection, and what was said last is lost.
        """
        if self._lingering_since is not None or self.transport.is_closing():
            return
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._lingering_since = self.loop.time()
        self._linger()

    def _linger(self) -> None:
        """Close once the peer is silent. The timer is uvicorn's: it leaves a connection open that has one."""
        assert self._lingering_since is not None
        if self.close_timer is not None:
            self.close_timer.cancel()
        end = min(self.loop.time() + QUIET_S, self._lingering_since + LINGER_S)
        self.close_timer = self.loop.call_at(end, self.transport.abort)

    def handle_ping(self) -> None:
        """Answer; while the peer does not read, only the newest pong waits for it (RFC 6455 section 5.5.3)."""
        for data in self.conn.data_to_send():
            if self.writable.is_set() or not data.startswith(PONG_BYTE):
                self.transport.write(data)
            else:
                self._late_pong = data

    def resume_writing(self) -> None:
        """As uvicorn does; the peer reads again."""
        super().resume_writing()
        if self._late_pong is not None and not self.close_sent:
            self.transport.write(self._late_pong)
        self._late_pong = None

    def keepalive_timeout(self) -> None:
        """Drop the connection: the close frame of uvicorn's own handler would wait for the dead peer.

        A peer that sends faster than it is read has its answer to the ping behind all that it sent before: as long as
        there is something of it to read, it lives.
        """
        if self._received_at > self.ping_sent_at or (self.read_paused and not self._peer_left()):
            self.send_keepalive_ping()
            return
        super().keepalive_timeout()
        self.transport.abort()

    def _peer_left(self) -> bool:
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.is_closing():
            return True
        state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state not in TCP_STATES_OF_A_PEER


def _origin_form(address: str) -> str:
    """Path and query of an address that came with its host, which uvicorn would take for the path (RFC 9112 3.2.2)."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"  # where there is nothing
    return f"/{parts.path.lstrip('/')}" + (f"?{parts.query}" if parts.query else "")
