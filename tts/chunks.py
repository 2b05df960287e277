"""Which frames of a sentence are rendered together: few at first, for an early sound, then more and more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FIRST_FRAMES = 24
"""Of the first chunk: 0.28 s at 22050 Hz and a hop of 256."""
LARGEST_FRAMES = 128
"""1.5 s. Larger ones would save 2 % of the work at most, fit the caches less well, and hold others up longer."""
OVERLAP_FRAMES = 29
"""Frames that a voice's middle sees on each side of a chunk: 98 dB SNR and more against the whole rendering."""
BACK_OVERLAP_FRAMES = 1
"""Of these, what its back sees: it reaches no further, and gives the very samples of the whole rendering."""


@dataclass(frozen=True)
class Chunk:
    """Frames `start` to `end` of a sentence, seen with `before` and `after` further frames."""

    start: int
    end: int
    before: int
    after: int


def plan(frames: int) -> Iterator[Chunk]:
    """Chunks that cover `frames` without gap or overlap; each is twice as long as the one before."""
    start, size = 0, FIRST_FRAMES
    while start < frames:
        end = min(start + size, frames)
        if frames - end < FIRST_FRAMES:
            end = frames  # no crumbs: their overlap would cost more than they do
        before = min(OVERLAP_FRAMES, start)
        after = min(OVERLAP_FRAMES, frames - end)
        yield Chunk(start, end, before, after)
        start, size = end, min(2 * size, LARGEST_FRAMES)


def whole(frames: int) -> Iterator[Chunk]:
    """All frames at once, for a voice that does not bear to be rendered in chunks."""
    yield Chunk(0, frames, 0, 0)
