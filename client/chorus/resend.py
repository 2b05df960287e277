"""Audio that a client would have to send again after a reconnect."""

from __future__ import annotations

import threading
from collections import deque

DEFAULT_BYTES = 8 * 1024 * 1024
"""4 minutes of 16 kHz mono in 16 bits; an utterance is at most 28 s and its final seconds behind."""


class ResendBuffer:
    """The newest audio sent, as far back as nothing is final, within a bound.

    Positions are bytes since the stream's first. The lock lets one thread send while another receives.
    """

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        """`limit` in bytes; what is older is forgotten first."""
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._lock = threading.Lock()
        self.start = 0
        """Position of the oldest byte still held."""
        self.end = 0
        """Position after the newest: how much has been sent."""

    def append(self, data: bytes) -> None:
        """Add what is about to be sent."""
        with self._lock:
            self._frames.append(data)
            self.end += len(data)
            self._forget_before(self.end - self._limit)

    def forget_before(self, position: int) -> None:
        """Drop whole frames before a position; at most one frame's bytes before it stay."""
        with self._lock:
            self._forget_before(position)

    def after(self, position: int) -> tuple[int, list[bytes]]:
        """The audio from a position on, and where it begins: later than asked where it has been forgotten."""
        with self._lock:
            begin, frames = self.start, list(self._frames)
        skip = max(0, position - begin)
        while frames and skip >= len(frames[0]):
            skip -= len(frames[0])
            begin += len(frames.pop(0))
        if frames and skip:
            frames[0] = frames[0][skip:]
            begin += skip
        return begin, frames

    def _forget_before(self, position: int) -> None:
        while self._frames and self.start + len(self._frames[0]) <= position:
            self.start += len(self._frames.popleft())
