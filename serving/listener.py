"""A uvicorn server whose listening socket can be opened and closed while its connections go on."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from chorus.wire.common import MAX_MESSAGE_BYTES
from serving.http import HttpProtocol
from serving.websocket import WebSocketProtocol

PING_S = 10.0
"""A peer is pinged this often, and dropped when it does not answer for as long again."""
BACKLOG = 1024
RECEIVE_BYTES = 256 * 1024
"""What the kernel may hold of one connection that is not read, 8 s of 16 kHz audio (Linux doubles it for its own
needs). Its own bound is up to 32 MiB, behind which a peer's answer to a ping waits for minutes."""
SHUTDOWN_S = 3


class Listener:
    """One port of a replica."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._address = (host, port)
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._ticks: asyncio.Task[None] | None = None
        self.port: int | None = None
        """The bound port while open."""

    @property
    def sockets(self) -> int:
        """WebSockets that exist now, whatever state they are in."""
        return sum(isinstance(each, WebSocketProtocol) for each in self._server.server_state.connections)

    async def open(self) -> None:
        """Start to accept connections; does nothing when open. Raises `OSError` when the port is taken."""
        if self.port is not None:
            return
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)  # inherited by its connections
            sock.bind(self._address)
            sock.setblocking(False)
            await self._server.startup(sockets=[sock])
        except BaseException:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        if self._ticks is None:
            self._ticks = asyncio.create_task(self._server.main_loop(), name="uvicorn ticks")

    def close(self) -> None:
        """Refuse new connections from now on; those that are open go on."""
        if self.port is None:
            return
        for server in self._server.servers:
            # uvloop's Server.close() also closes its listening sockets; a connect is then refused at once.
            server.close()
        self._server.servers.clear()
        self.port = None

    async def stop(self) -> None:
        """Close the port, end what is left of its connections (WebSockets with 1012), and wait for them."""
        self.close()
        if self._ticks is not None:
            self._server.should_exit = True
            await self._ticks
            await self._server.shutdown()
