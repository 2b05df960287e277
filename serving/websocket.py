"""uvicorn's WebSocket protocol with two things added for peers that do not read, or are not being read.

A close waits for the write buffer to drain, which a peer that stopped reading never lets happen: its connection
would be held for as long as the peer likes, so it can be dropped at once. And a peer whose audio waits unread can
leave without being noticed, so the kernel can be asked.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

ABORT = "chorus.abort"
"""Key of the scope's extensions under which the handler finds a function that drops the TCP connection."""
PEER_LEFT = "chorus.peer_left"
"""Key of a function that tells whether the peer has ended its side, without reading what it sent before."""

TCP_STATES_OF_A_PEER = frozenset((1, 4, 5))
"""ESTABLISHED, FIN_WAIT1 and FIN_WAIT2 (Linux, net/tcp_states.h): the peer has sent neither FIN nor RST."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Adds `ABORT` and `PEER_LEFT` to the scope's extensions, and drops a peer that answers no ping."""

    def handle_connect(self, event: Request) -> None:
        """Make the scope as uvicorn does, then add the extensions."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # absent where the handshake itself was refused
            extensions: dict[str, Any] = cast("dict[str, Any]", self.scope)["extensions"]
            extensions[ABORT] = self._abort
            extensions[PEER_LEFT] = self._peer_left

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

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, and remember when: it is a sign of life."""
        self._received_at = self.loop.time()
        super().data_received(data)

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
