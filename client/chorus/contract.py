"""What both services' streams have in common, free of I/O.

A protocol object turns calls into frames to send (text or bytes) and received frames into events. It does no I/O
and never waits, so asyncio, threads and gevent can all drive it; one thread may make frames while another
receives. It also checks what the server promises: a broken promise raises `ContractViolation`, or with
`strict=False` is noted in `violations` and the stream goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import msgspec

from chorus.errors import ChorusError, ConnectionLost, ContractViolation, StreamError
from chorus.wire.common import Close, CloseCode, Configured, Error, Ready, encode

E = TypeVar("E")


class StreamProtocol(ABC, Generic[E]):
    """The state of one stream; `E` are its events."""

    def __init__(self, kinds: Any, *, strict: bool) -> None:
        """`kinds` is the union of the messages that the server may send."""
        self._decoder = msgspec.json.Decoder(kinds)
        self._strict = strict
        self.ready: Ready | None = None
        self.settings: dict[str, Any] = {}
        """All settings in force, as the server last told them."""
        self.failure: Error | None = None
        """A fatal error that the server told of."""
        self.violations: list[str] = []
        """Every promise that the server broke."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether `done` has come."""

    @abstractmethod
    def receive(self, frame: str | bytes) -> E:
        """The event of a frame. Raises `ContractViolation`."""

    def configure(self, **settings: Any) -> str:
        """The frame that changes settings; answered by `configured`."""
        return msgspec.json.encode({"type": "config", **settings}).decode()

    def close(self) -> str:
        """The frame after which the server delivers the rest, sends `done` and closes."""
        return encode(Close())

    def closed(self, code: int | None, reason: str = "") -> ChorusError | None:
        """What the end of the connection means; None for a proper one. `code` is None without a close frame."""
        if self.failure is not None:
            return StreamError(self.failure.code, self.failure.message, close_code=code)
        if not self.finished:
            return ConnectionLost(code, reason)
        if code in (CloseCode.DONE, None):
            return None  # nothing is missing; a connection that drops after `done` harms nobody
        self.violations.append(f"closed with {code} after done")
        return ContractViolation(self.violations[-1]) if self._strict else None

    def _message(self, frame: str) -> Any:
        """Decode a text frame and check what holds for every stream."""
        try:
            message = self._decoder.decode(frame)
        except msgspec.MsgspecError as error:
            self._refuse(f"{error}: {frame[:200]}")
        name = type(message).__name__
        if self.ready is None and not isinstance(message, Ready):
            self._violated(f"{name} before ready")
        if self.finished or self.failure is not None:
            self._violated(f"{name} after the end of the stream")
        if isinstance(message, Ready):
            if self.ready is not None:
                self._violated("a second ready")
            self.ready, self.settings = message, message.settings
        elif isinstance(message, Configured):
            self.settings = message.settings
        elif isinstance(message, Error) and not message.recoverable:
            self.failure = message
        return message

    def _violated(self, what: str) -> None:
        self.violations.append(what)
        if self._strict:
            raise ContractViolation(what)

    def _refuse(self, what: str) -> Any:
        """As `_violated`, for a frame of which no event can be made."""
        self.violations.append(what)
        raise ContractViolation(what)
