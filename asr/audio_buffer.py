"""The stretch of a stream's audio that may still be needed, addressed by the stream's own sample count."""

from __future__ import annotations

import numpy as np

from serving.audio import Samples


class AudioBuffer:
    """Appends at the end, forgets at the front; an index is the number of samples since the stream's start."""

    def __init__(self) -> None:
        self._store: Samples = np.zeros(16000, np.float32)
        self._start = 0
        self._length = 0

    @property
    def start(self) -> int:
        """Index of the oldest sample held."""
        return self._start

    @property
    def end(self) -> int:
        """Index after the newest sample: how many the stream has had."""
        return self._start + self._length

    def append(self, samples: Samples) -> None:
        """Add samples at the end."""
        needed = self._length + len(samples)
        if needed > len(self._store):
            grown = np.zeros(max(needed, 2 * len(self._store)), np.float32)
            grown[: self._length] = self._store[: self._length]
            self._store = grown
        self._store[self._length : needed] = samples
        self._length = needed

    def read(self, start: int, end: int) -> Samples:
        """A copy of the samples from `start` up to `end`. Raises `IndexError` where they are not held."""
        return self.look_at(start, end).copy()

    def look_at(self, start: int, end: int) -> Samples:
        """The same without a copy, to be let go of soon: it keeps all of the audio held now. It never changes."""
        if not self._start <= start <= end <= self.end:
            raise IndexError(f"samples {start} to {end} of {self._start} to {self.end}")
        return self._store[start - self._start : end - self._start]

    def forget_before(self, index: int) -> None:
        """Give up the samples before `index`; memory follows once most of it is unused."""
        gone = min(index, self.end) - self._start
        if gone < len(self._store) // 2:
            return
        kept = self._length - gone
        store: Samples = np.zeros(max(16000, 2 * kept), np.float32)
        store[:kept] = self._store[gone : self._length]
        self._store, self._start, self._length = store, self._start + gone, kept
