"""What is still to be made for a listener, by when, and whether all of it can be.

Who always does first what is due first is late only where every order would be (Jackson 1955): to know whether
everybody can be served in time it is enough to try that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tts.chunks import FIRST_FRAMES, JOIN_FRAMES, chunk, without_crumbs
from tts.pace import Pace

SPARE_S = 0.05
"""How long before a listener runs dry the next chunk is to be ready: costs vary, and it has a way to go."""
PIECEWISE_S = 10.0
"""How far ahead every chunk is looked at; what comes later is looked at in ever longer stretches."""

NEXT_FRAMES = 96
"""Of a chunk for somebody who listens already, where time is short: smaller ones spend half of it on their overlaps."""

Job = tuple[float, float]
"""When it is due, monotonic seconds, and what it costs, seconds of computing."""
Jobs = npt.NDArray[np.float64]
"""Many of them, (2, n): times above, costs below. A hundred listeners have a thousand, looked at for each call."""


@dataclass(frozen=True)
class Piece:
    """Text that is spoken in one go, or what is left of it."""

    pace: Pace
    characters: float
    """Those whose front has not run; 0 once it has."""
    frames: int
    """Of all of it, known or expected."""
    done: int = 0
    """Frames that were rendered."""

    @property
    def seconds(self) -> float:
        """How long the rest sounds."""
        return (self.frames - self.done) * self.pace.frame_s.value

    @property
    def front_cost(self) -> float:
        """Seconds of computing until its frames are known."""
        return self.pace.front_s(self.characters) if self.characters else 0.0

    def cost(self, start: int, size: int) -> float:
        """Seconds of computing for these frames in one chunk."""
        return chunk(start, size, self.frames).work * self.pace.chunk_s.value

    def joins_cost(self, frames: int) -> float:
        """Seconds of computing that so many frames cost more in chunks than in one."""
        return (frames - 1) // NEXT_FRAMES * JOIN_FRAMES * self.pace.chunk_s.value

    @property
    def full_cost(self) -> float:
        """Seconds of computing for all of it, in chunks as they are where time is short."""
        return self.front_cost + self.frames * self.pace.chunk_s.value + self.joins_cost(self.frames)

    def first_cost(self, size: int = FIRST_FRAMES) -> float:
        """Seconds of computing until its next sound is there."""
        return self.front_cost + self.cost(self.done, size)


def jobs(pieces: Iterable[Piece], now: float, plays_until: float, first: int = NEXT_FRAMES) -> Iterator[Job]:
    """What is to be made for a listener who has audio until then: `first` frames, then as where time is short.

    Whatever of it has been done, the rest is what it was: so what was foreseen to be in time stays so.
    """
    size = first
    for piece in pieces:
        cost, start, frame_s = piece.front_cost, piece.done, piece.pace.frame_s.value
        while (left := piece.frames - start) > 0:
            if plays_until > now + PIECEWISE_S:
                taken = without_crumbs(max(NEXT_FRAMES, int((plays_until - now) / 2 / frame_s)), left)
                cost += piece.joins_cost(taken)
                # Due when the last of it is: whatever comes before that is a part of it, at about the same pace.
                due = plays_until + max(0, taken - NEXT_FRAMES) * frame_s
            else:
                taken, due = without_crumbs(size, left), plays_until
            yield due - SPARE_S, cost + piece.cost(start, taken)
            plays_until += taken * frame_s
            start, cost, size = start + taken, 0.0, NEXT_FRAMES


def gather(some: Iterable[Job]) -> Jobs:
    """Jobs as an array."""
    return np.array(list(some), np.float64).reshape(-1, 2).T


def together(parts: Iterable[Jobs]) -> Jobs:
    """The jobs of several listeners."""
    return np.concatenate([np.empty((2, 0)), *parts], axis=1)


def later(some: Jobs, seconds: float) -> Jobs:
    """The same jobs, due so much later."""
    moved: Jobs = some + np.array([[seconds], [0.0]])
    return moved


def lateness(some: Jobs, now: float, workers: int) -> float:
    """By how many seconds the latest is late, where the most urgent is done first; 0 or less: everything is in time.

    Each is begun at the latest when all that is more urgent has been shared out among the workers (Graham 1966).
    """
    if not some.size:
        return float("-inf")
    due, cost = some[:, np.lexsort((some[1], some[0]))]
    begun = now + (np.cumsum(cost) - cost) / workers
    return float(np.max(begun + cost - due))
