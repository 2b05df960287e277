"""uvicorn's WebSocket protocol with one thing added: a peer that does not read can be let go of at once.

Without it a close waits for the write buffer to drain, which a peer that stopped reading never lets happen, and
its connection would be held for as long as the peer likes.
"""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

ABORT = "chorus.abort"
"""Key of the scope's extensions under which the handler finds a function that drops the TCP connection."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Adds `scope["extensions"]["chorus.abort"]`, and drops a peer that answers no ping."""

    def handle_connect(self, event: Request) -> None:
        """Make the scope as uvicorn does, then add the extension."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # absent where the handshake itself was refused
            extensions: dict[str, Any] = cast("dict[str, Any]", self.scope)["extensions"]
            extensions[ABORT] = self.transport.abort

    def keepalive_timeout(self) -> None:
        """Drop the connection: the close frame of uvicorn's own handler would wait for the dead peer."""
        super().keepalive_timeout()
        self.transport.abort()
