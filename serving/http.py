"""uvicorn's HTTP protocol with bounds on a request, its size and its time, and refusals as the protocol words them.

uvicorn waits for the first byte of a request, for its end, and for its answer to be read as long as the client likes,
and keeps as many headers as it sends.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import http_error

REQUEST_S = 10.0
"""So long after the connection, or after its own first byte, a request has come to its end; nginx allows as much."""
MAX_HEAD_BYTES = 32 * 1024
"""Of a request's line and headers together; nginx passes on no more."""
ANSWER_S = 30.0
"""For a client to read on, once what it has not read is more than the socket holds; nginx allows the same."""


class HttpProtocol(HttpToolsProtocol):
    """Drops a client that does not come to the end of its request, or does not read; refuses too large a head."""

    def connection_made(self, transport: Any) -> None:
        """As uvicorn does; the first request is awaited."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._too_large = False
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn does; nothing is awaited."""
        self._request_over()
        self._answer_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._answer_timer = self.loop.call_later(ANSWER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads on."""
        self._answer_read()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, as long as the head is of a sane size."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def handle_websocket_upgrade(self) -> None:
        """As uvicorn does; it and its parser, which hold each other, are done."""
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment] # as in uvicorn where a connection is lost

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._await_request()

    def on_headers_complete(self) -> None:
        """Its head has come. Raises `ValueError`, which uvicorn answers by `send_400_response`."""
        self._head_bytes, self._in_head = 0, False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._too_large = True
            raise ValueError("the head is too large")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it has come; also called where a stream begins, whose time is its own."""
        self._request_over()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong in the protocol's words."""
        if self._too_large:
            answer = http_error(431, "too_large", "line and headers are too large")
        else:
            answer = http_error(400, "bad_message", "not an HTTP request")
        self.transport.write(answer)
        self.transport.close()

    def _should_upgrade(self) -> bool:
        # RFC 6455 section 4.2.1: HTTP/1.1 or higher. uvicorn would forget which it was.
        return self.scope["http_version"] == "1.1" and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """An answer tells the client; no need for a line in the log."""

    def _await_request(self) -> None:
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _answer_read(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _request_over(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
