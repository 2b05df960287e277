"""What both of a person's streams have in common: connecting, trying again, and telling what went wrong."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from chorus.connect import stream_url
from chorus.contract import StreamProtocol
from chorus.errors import ChorusError, ConnectionLost, Refused, StreamError
from chorus.reconnect import ReconnectingAsrProtocol
from chorus.wire.common import CloseCode, Ready
from loadtest import events, sockets
from loadtest.events import OfUser, Service
from loadtest.scene import Scene
from loadtest.sockets import Socket

FULL = 503
FIRST_DELAY_S = 0.25
"""Longest wait after a first failed attempt; the longest of each later one is twice as long."""
LONGEST_DELAY_S = 8.0
SILENT_S = 35.0
"""The server pings every 10 s, and nginx ends a dead stream after 25 s: one that is silent for longer is cut."""
PING_TIMEOUT = "ping timeout"
"""Within the reason of a close by a server that was not answered."""
MOST_UNSENT = 4 * 1024 * 1024
"""Bytes that a server may leave unread: two minutes of speech. Beyond it the connection is given up."""
CLOSES_WITHIN_S = 15.0
"""So long the rest of a stream may take after `close`."""
AWAY_S = (1.0, 5.0)
"""How long somebody who has hung up, or whose stream has failed for good, stays away."""


class Line(ABC):
    """A person's stream of one service, over any number of connections. `run` lives it until `close`."""

    service: Service
    path: str

    def __init__(self, scene: Scene, name: str, choice: random.Random, bytes_per_s: float | None = None) -> None:
        self.opened = asyncio.Event()
        """Whether there has been a connection since the last hang-up; a lost one is replaced by itself."""
        self._scene = scene
        self._name = name
        self._random = choice
        self._bytes_per_s = bytes_per_s
        self._socket: Socket | None = None
        """Of the connection that is ready; None while there is none."""
        self._ready: Ready | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[ChorusError | None] | None = None
        self._protocol: StreamProtocol[Any] | ReconnectingAsrProtocol
        """Of the present stream; `_begin` makes it."""
        self._violations = 0
        """Of the protocol object, told so far."""
        self._closing = False
        self._hung_up = False

    async def run(self, *, patient: bool = True) -> None:
        """Open the stream and keep it open, until `close` has been answered.

        Raises `Refused` when the service is full and the person is not `patient`.
        """
        again = False
        try:
            while not self._closing:
                await self._open(patient, again)
                self.opened.set()
                await self._live()
                self.opened.clear()
                patient, again = True, True
                if not self._closing:
                    await asyncio.sleep(self._random.uniform(*AWAY_S))
        finally:
            self._drop()

    def hang_up(self) -> None:
        """End the connection, if there is one, without a word; `run` opens another one some seconds later."""
        if self._socket is not None:
            self._hung_up = True
            self._socket.abort()

    def look(self, now: float) -> None:
        """To be called every second: give up what does not live any more."""
        socket = self._socket
        if socket is None:
            return
        if now - socket.heard_at > SILENT_S and self._bytes_per_s is None:
            self.fail(f"nothing came for {SILENT_S:.0f} s, not even a ping")
            socket.abort()
        elif socket.unsent > MOST_UNSENT:
            self.fail(f"{socket.unsent} bytes were not taken")
            socket.abort()

    @abstractmethod
    def close(self) -> None:
        """Ask for the rest, and `run` to end after it."""

    @abstractmethod
    async def _live(self) -> None:
        """From the first connection to the end of the stream."""

    @abstractmethod
    def _begin(self) -> None:
        """A stream begins that knows nothing of those before."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Of the next connection."""

    @abstractmethod
    def _url(self) -> str: ...

    @abstractmethod
    def _receive(self, at: float, frame: str | bytes) -> None: ...

    async def _open(self, patient: bool, again: bool) -> None:
        """Try until there is a connection. Raises `Refused` as `run`."""
        attempts = 0
        while True:
            self._begin()
            try:
                return await self._attempt(again)
            except Refused as error:
                if error.status == FULL and not patient:
                    raise
                delay = (error.retry_after or 0.0) + self.delay(attempts)
            except (ChorusError, OSError):
                delay = self.delay(attempts)
            attempts += 1
            await asyncio.sleep(delay)

    def delay(self, attempts: int) -> float:
        """Seconds to wait after so many failures: at random, so that many do not return at once."""
        return self._random.uniform(0.0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempts, 10)))

    async def _attempt(self, again: bool) -> None:
        """One connection, up to `ready`; tells what came of it. Raises `ChorusError`, `OSError`."""
        loop, within = asyncio.get_running_loop(), self._scene.settings.connect_within_s
        greeted: asyncio.Future[None] = loop.create_future()
        ended: asyncio.Future[ChorusError | None] = loop.create_future()
        self._ready, self._greeted, self._ended, self._hung_up = None, greeted, ended, False
        begun = time.monotonic()
        url = stream_url(self._url(), self.path, self._settings())
        socket = None
        try:

            def on_end(code: int | None, reason: str) -> None:
                if self._ended is ended:  # else it has been given up before it was ready
                    self._on_end(code, reason)

            socket = await sockets.connect(url, self._receive, on_end, within, bytes_per_s=self._bytes_per_s)
            await asyncio.wait((greeted, ended), timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if not greeted.done() and not ended.done():
                raise TimeoutError(f"no greeting after {within:g} s")
            if not greeted.done() and ended.done():
                raise ended.result() or ConnectionLost(1000, "closed before it began")
        except BaseException as error:
            self._ended = None
            if socket is not None:
                socket.abort()
            if isinstance(error, ChorusError | OSError):
                self._tell_attempt(error, time.monotonic() - begun)
            raise
        self._socket = socket
        assert self._ready is not None
        self._scene.isolation.connected(self._name, self.service, self._ready.connection_id)
        self._tell(events.Connected, took=time.monotonic() - begun, again=again)

    def _tell_attempt(self, error: ChorusError | OSError, took: float) -> None:
        if isinstance(error, Refused) and error.status == FULL:
            self._tell(events.Refused, took=took, status=error.status, retry_after=error.retry_after)
        elif isinstance(error, ConnectionLost) and error.close_code == CloseCode.GOING_AWAY:
            self._tell(events.Lost, what=str(error))
        else:
            self.fail(f"no connection: {error or type(error).__name__}")

    def _on_greeted(self, ready: Ready) -> None:
        self._ready = ready
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)

    def _on_end(self, code: int | None, reason: str) -> None:
        self._socket = None
        meaning = self._protocol.closed(code, reason)
        self._tell_violations()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(meaning)

    async def _until_ended(self) -> ChorusError | None:
        """The end of the present connection, told to the records; None where either side wanted it."""
        assert self._ended is not None
        failure = await self._ended
        if failure is None or self._hung_up:
            return None
        if self._promised(failure):
            self._tell(events.Lost, what=str(failure), promised=True)
        elif isinstance(failure, ConnectionLost):
            self._tell(events.Lost, what=str(failure))
        elif isinstance(failure, StreamError):
            self.fail(str(failure))
        return failure

    def _promised(self, failure: ChorusError) -> bool:
        """Whether the protocol promises that end to a slow reader, and this is one."""
        if self._bytes_per_s is None:
            return False
        if isinstance(failure, ConnectionLost):
            return failure.close_code == CloseCode.INTERNAL and PING_TIMEOUT in failure.reason
        return isinstance(failure, StreamError) and failure.code == "too_slow"

    def _drop(self) -> None:
        """Leave the connection, if there is one."""
        self._ended = None
        if self._socket is not None:
            self._socket.abort()
            self._socket = None

    def _send(self, frame: str) -> None:
        if self._socket is not None:
            self._socket.send(frame)

    def _tell(self, kind: Callable[..., OfUser], *, of: Ready | None = None, **fields: Any) -> None:
        """Of the present connection, or of the one that began with `of`."""
        ready = of or self._ready
        record: Any = kind(
            at=self._scene.now(),
            user=self._name,
            service=self.service,
            connection_id=ready.connection_id if ready is not None else "",
            instance=ready.instance if ready is not None else "",
            **fields,
        )
        self._scene.emit(record)

    def fail(self, what: str) -> None:
        """Tell of something that must not happen."""
        self._tell(events.Failed, what=what)

    def _tell_violations(self) -> None:
        """Tell those that have not been told."""
        known = self._protocol.violations
        for what in known[self._violations :]:
            self.fail(f"broken promise: {what}")
        self._violations = len(known)
