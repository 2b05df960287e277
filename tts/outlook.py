"""What is still to be made for a listener, by when, and whether all of it can be.

Who always does first what is due first is late only where every order would be (Jackson 1955): to know whether
everybody can be served in time it is enough to try that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tts.chunks import FIRST_FRAMES, LARGEST_FRAMES, OVERLAP_FRAMES, chunk, overlap_work
from tts.pace import Pace

SPARE_S = 0.05
"""How long before a listener runs dry the next chunk is to be ready: costs vary, and it has a way to go."""
PIECEWISE_S = 10.0
"""How far ahead every chunk is looked at; of a sentence that reaches further, the rest is looked at as one."""

NEXT_FRAMES = 96
"""Of a chunk for somebody who listens already, where time is short: smaller ones spend half of it on their overlaps."""

Job = tuple[float, float]
"""When it is due, monotonic seconds, and what it costs, seconds of computing."""


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

    @property
    def full_cost(self) -> float:
        """Seconds of computing for all of it, in chunks as they are where time is short."""
        joins = (self.frames - 1) // NEXT_FRAMES
        return self.front_cost + (self.frames + overlap_work(2 * OVERLAP_FRAMES) * joins) * self.pace.chunk_s.value

    def first_cost(self, size: int = FIRST_FRAMES) -> float:
        """Seconds of computing until its next sound is there."""
        return self.front_cost + self.cost(self.done, size)


def jobs(pieces: Iterable[Piece], now: float, plays_until: float, first: int = NEXT_FRAMES) -> Iterator[Job]:
    """What is to be made for a listener who has audio until then: `first` frames, then chunks that double."""
    size = first
    for piece in pieces:
        cost, start, frame_s = piece.front_cost, piece.done, piece.pace.frame_s.value
        while (left := piece.frames - start) > 0:
            if plays_until > now + PIECEWISE_S:
                cost += piece.cost(start, left)
                # Due when the last of it is: whatever comes before that is a part of it, at about the same pace.
                yield plays_until + max(0, left - LARGEST_FRAMES) * frame_s - SPARE_S, cost
                plays_until += left * frame_s
                break
            taken = min(size, left)
            yield plays_until - SPARE_S, cost + piece.cost(start, taken)
            plays_until += taken * frame_s
            start, cost, size = start + taken, 0.0, min(max(2 * size, NEXT_FRAMES), LARGEST_FRAMES)


def lateness(all_jobs: Iterable[Job], now: float, workers: int) -> float:
    """By how many seconds the latest is late, where the most urgent is done first; 0 or less: everything is in time.

    Each is begun at the latest when all that is more urgent has been shared out among the workers (Graham 1966).
    """
    begun, latest = now, float("-inf")
    for due, cost in sorted(all_jobs):
        latest = max(latest, begun + cost - due)
        begun += cost / workers
    return latest
