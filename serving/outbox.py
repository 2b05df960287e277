"""The bounded queue between a connection's producers and its one writer."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from chorus.wire.common import CloseCode


@dataclass(frozen=True, slots=True)
class TextFrame:
    """A message for the client."""

    data: str
    owner: object = None
    """The request whose audio it announces, where it is nothing without it."""


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """Encoded audio, with what is needed to take it back while it waits."""

    data: bytes
    owner: object
    """The request that it belongs to."""
    seconds: float


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The last thing that a writer sends."""

    code: CloseCode
    reason: str = ""


Frame = TextFrame | AudioFrame | CloseFrame

FRAME_OVERHEAD_BYTES = 128
"""What a frame counts beyond its payload, so that many tiny frames are bounded too."""


class OutboxFull(Exception):
    """The reader is slower than its stream."""


class Outbox:
    """Frames waiting for the socket, at most `limit` bytes; producers never wait.

    One task calls `get`; everybody else, on the same event loop, calls `put`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: deque[Frame] = deque()
        self._ready = asyncio.Event()
        self._closed = False
        self.bytes_waiting = 0

    def put(self, frame: TextFrame | AudioFrame) -> None:
        """Queue a frame. Raises `OutboxFull`; after `close` the frame is dropped."""
        if self._closed:
            return
        size = _size(frame)
        if self.bytes_waiting + size > self._limit:
            raise OutboxFull
        self._frames.append(frame)
        self.bytes_waiting += size
        self._ready.set()

    def take_back(self, owner: object) -> float:
        """Remove the owner's audio that still waits, with what announces it; returns its seconds."""
        seconds = 0.0
        kept: deque[Frame] = deque()
        for frame in self._frames:
            if isinstance(frame, CloseFrame) or frame.owner is not owner:
                kept.append(frame)
                continue
            self.bytes_waiting -= _size(frame)
            if isinstance(frame, AudioFrame):
                seconds += frame.seconds
        self._frames = kept
        return seconds

    def close(self, frame: CloseFrame, last_words: str | None = None, *, discard: bool = False) -> None:
        """End the queue with a close frame, after `last_words`; with `discard` nothing else is still sent.

        Neither counts against the limit: a full outbox can still say why it ends. Later calls do nothing.
        """
        if self._closed:
            return
        if discard:
            self._frames.clear()
            self.bytes_waiting = 0
        if last_words is not None:
            self._frames.append(TextFrame(last_words))
            self.bytes_waiting += _size(self._frames[-1])
        self._frames.append(frame)
        self._closed = True
        self._ready.set()

    @property
    def closed(self) -> bool:
        """Whether a close frame has been queued."""
        return self._closed

    async def get(self) -> Frame:
        """The oldest frame; waits for one."""
        while not self._frames:
            self._ready.clear()
            await self._ready.wait()
        frame = self._frames.popleft()
        self.bytes_waiting -= _size(frame)
        return frame


def _size(frame: Frame) -> int:
    if isinstance(frame, CloseFrame):
        return 0
    if isinstance(frame, AudioFrame):
        return len(frame.data) + FRAME_OVERHEAD_BYTES
    # At most four bytes of UTF-8 a character, without encoding it twice to know.
    return len(frame.data) * (1 if frame.data.isascii() else 4) + FRAME_OVERHEAD_BYTES
