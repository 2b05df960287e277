"""One client's stream: an id, a session, a bounded outbox, one reader and one writer."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from chorus.wire.common import CloseCode, encode
from serving.errors import IdleTimeout, Internal, StreamError, TooSlow
from serving.logs import fields
from serving.metrics import ConnectionMetrics
from serving.outbox import AudioFrame, CloseFrame, Outbox, OutboxFull, TextFrame
from serving.websocket import ABORT, PEER_LEFT

log = logging.getLogger(__name__)

SLOW_READER_GRACE_S = 5.0
"""How long a reader that was too slow may take to read why its stream ends."""
CLOSE_HANDSHAKE_S = 15.0
"""How long a peer may take to answer the close frame, what is still in its socket's buffer included."""
IDLE_CHECKS = 10
"""How often within the idle timeout a stream is asked whether its client only listens."""
PEER_CHECK_S = 0.5
"""How often a stream that is not being read is asked whether its client has left."""


class Session(Protocol):
    """The protocol logic of one stream, free of I/O; every method runs on the event loop and never blocks.

    What it says goes to its `Connection`, also later, from an engine's results.
    """

    def start(self) -> None:
        """Send `ready`."""

    def receive_text(self, text: str) -> None:
        """Take a text frame. Raises `StreamError` for a mistake of the client."""

    def receive_audio(self, data: bytes) -> None:
        """Take a binary frame. Raises `StreamError` for a mistake of the client."""

    def owes(self) -> bool:
        """Whether something that was accepted is still to come: a client that waits for it is not idle."""

    def drain(self) -> None:
        """The replica goes away: finish what was accepted, then close with 1012."""

    def hurry(self) -> None:
        """The drain's time is nearly over: end what is open now, deliver its result, then close with 1012."""

    def cut(self) -> None:
        """The drain's time is over: say what will not be delivered, and close with 1012."""

    def released(self) -> None:
        """The connection has ended: cancel everything of it. Called once, and last."""

    def totals(self) -> dict[str, Any]:
        """What the stream did, for the line that is logged at its end."""


class Connection:
    """Everything that belongs to one client, and to nobody else.

    A result that an engine computed for this stream is given to this object, never looked up by a position:
    that is what keeps two clients' bytes apart.
    """

    def __init__(
        self,
        websocket: WebSocket,
        *,
        outbox_bytes: int,
        idle_timeout_s: float,
        metrics: ConnectionMetrics,
        key: str | None = None,
    ) -> None:
        """`key` is the name of the client's API key, for the log."""
        self.id = str(uuid.uuid4())
        self._websocket = websocket
        self._outbox = Outbox(outbox_bytes)
        self._idle_timeout_s = idle_timeout_s
        self._metrics = metrics
        self._key = key
        self._last_heard = time.monotonic()
        self._close_code: int = CloseCode.CLIENT_GONE
        self._may_read = asyncio.Event()
        self._may_read.set()

    def send(self, message: msgspec.Struct, *, owner: object = None) -> None:
        """Queue a message, with an owner one about a request's audio. A full outbox ends the stream with `too_slow`."""
        self._put(TextFrame(encode(message), owner))

    def send_audio(self, data: bytes, *, owner: object, seconds: float) -> None:
        """Queue a binary frame of a request. An outbox that is full ends the stream with `too_slow`."""
        self._put(AudioFrame(data, owner, seconds))

    def take_back(self, owner: object) -> float:
        """Remove the request's audio that has not reached the socket, and what announces it; returns its seconds."""
        return self._outbox.take_back(owner)

    def fail(self, error: StreamError) -> None:
        """Tell the client of a mistake; a fatal one ends the stream."""
        self._metrics.errors.labels(error.code).inc()
        if error.close_code is None:
            self.send(error.to_message())
        else:
            slow = isinstance(error, TooSlow)
            close = CloseFrame(error.close_code, error.code)
            self._outbox.close(close, encode(error.to_message()), discard=slow)
            if slow:
                self._abort_in(SLOW_READER_GRACE_S)
            elif isinstance(error, IdleTimeout):
                self._abort_in(CLOSE_HANDSHAKE_S)  # it may not read either: then the close frame never leaves

    def close(self, code: CloseCode, reason: str = "") -> None:
        """End the stream once everything queued has been sent."""
        self._outbox.close(CloseFrame(code, reason))

    @property
    def closing(self) -> bool:
        """Whether the end has been queued: nothing more reaches the client."""
        return self._outbox.closed

    def _put(self, frame: TextFrame | AudioFrame) -> None:
        try:
            self._outbox.put(frame)
        except OutboxFull:
            waiting = self._outbox.bytes_waiting
            self.fail(TooSlow(f"the client reads too slowly: {waiting} bytes are waiting for it"))

    async def run(self, session: Session) -> None:
        """Serve the stream until either side ends it."""
        started = time.monotonic()
        self._metrics.active.inc()
        try:
            session.start()
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(session), name=f"reader {self.id}")
                idle = tasks.create_task(self._watch_idle(session), name=f"idle {self.id}")
                writer = tasks.create_task(self._write(), name=f"writer {self.id}")
                # Whichever of the two ends first ends the stream.
                await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
                for task in (reader, idle, writer):
                    task.cancel()
        finally:
            session.released()
            self._metrics.active.dec()
            self._metrics.count_closed(self._close_code)
            log.info(
                "stream ended",
                extra=fields(
                    connection_id=self.id,
                    close_code=int(self._close_code),
                    seconds=round(time.monotonic() - started, 3),
                    request_id=self._websocket.headers.get("x-request-id"),
                    key=self._key,
                    **session.totals(),
                ),
            )

    def read_on(self, go_on: bool) -> None:
        """Stop or go on reading the client; what it sends meanwhile waits on its side of the socket."""
        if go_on:
            self._may_read.set()
        else:
            self._may_read.clear()

    async def _read(self, session: Session) -> None:
        receive = self._websocket.receive
        while True:
            if not self._may_read.is_set():
                await self._pause_reading()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._client_left(message.get("code", CloseCode.CLIENT_GONE))
                return
            self._last_heard = time.monotonic()
            if self._outbox.closed:
                continue  # the end is on its way; what the client still says is not accepted
            audio = message.get("bytes")
            try:
                if audio is not None:
                    session.receive_audio(audio)
                else:
                    session.receive_text(message["text"])
            except StreamError as error:
                self.fail(error)
            except Exception:
                log.exception("a message could not be handled", extra=fields(connection_id=self.id))
                self.fail(Internal("the service failed on this message; the stream is closed"))

    def _client_left(self, code: int) -> None:
        # 1005 and 1006 never travel: they stand for a close without a code, and for a lost connection.
        if not self._outbox.closed:
            self._close_code = CloseCode.CLIENT_GONE if code in (1005, 1006) else code

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._outbox.get()
                if isinstance(frame, AudioFrame):
                    await self._websocket.send_bytes(frame.data)
                elif isinstance(frame, TextFrame):
                    await self._websocket.send_text(frame.data)
                else:
                    self._close_code = frame.code
                    await self._websocket.close(frame.code, frame.reason)
                    self._abort_in(CLOSE_HANDSHAKE_S)
                    return
        except (WebSocketDisconnect, WebSocketDisconnected):
            return  # the client left; the reader learns of it too

    async def _pause_reading(self) -> None:
        """Wait until the session wants more, or the client has left: a socket not read would not tell."""
        peer_left: Callable[[], bool] | None = self._extension(PEER_LEFT)
        while not self._may_read.is_set():
            try:
                async with asyncio.timeout(PEER_CHECK_S):
                    await self._may_read.wait()
            except TimeoutError:
                self._last_heard = time.monotonic()  # it is we who do not listen
                if peer_left is not None and peer_left():
                    self._abort_in(0)
                    return

    async def _watch_idle(self, session: Session) -> None:
        while (left := self._last_heard + self._idle_timeout_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._idle_timeout_s / IDLE_CHECKS))
            if session.owes():
                self._last_heard = time.monotonic()
        self.fail(IdleTimeout(f"no message for {self._idle_timeout_s:g} s"))

    def _abort_in(self, seconds: float) -> None:
        """Drop the TCP connection then; harmless where it has ended by itself before."""
        abort: Callable[[], None] | None = self._extension(ABORT)
        if abort is not None:
            asyncio.get_running_loop().call_later(seconds, abort)

    def _extension(self, name: str) -> Any:
        return self._websocket.scope.get("extensions", {}).get(name)
