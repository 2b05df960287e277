"""Which frames of a sentence are rendered together: few at first, for an early sound, then more and more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serving.audio import Samples

FIRST_FRAMES = 24
"""Of the first chunk: 0.28 s at 22050 Hz and a hop of 256."""
LARGEST_FRAMES = 192
"""2.2 s."""
MIDDLE_OVERLAP = 28
"""Further frames that the middle of a voice sees on each side: 98 dB SNR and more against the whole rendering."""
BACK_OVERLAP = 1
"""Further frames that the back sees on each side: it reaches no further, and gives the same samples."""


@dataclass(frozen=True)
class Chunk:
    """Frames `start` to `end` of a sentence."""

    start: int
    end: int

    def widened(self, overlap: int, frames: int) -> Chunk:
        """With `overlap` further frames on each side, as far as the sentence of `frames` reaches."""
        return Chunk(max(0, self.start - overlap), min(frames, self.end + overlap))

    def of(self, seen: Chunk, computed: Samples) -> Samples:
        """Its part of what was computed of the frames `seen`; the last axis is time, at any rate."""
        rate = computed.shape[-1] // (seen.end - seen.start)
        return computed[..., (self.start - seen.start) * rate : (self.end - seen.start) * rate]


def plan(frames: int) -> Iterator[Chunk]:
    """Chunks that cover `frames` without gap or overlap; each is twice as long as the one before."""
    start, size = 0, FIRST_FRAMES
    while start < frames:
        end = min(start + size, frames)
        if frames - end < FIRST_FRAMES:
            end = frames  # no crumbs: their overlap would cost more than they do
        yield Chunk(start, end)
        start, size = end, min(2 * size, LARGEST_FRAMES)


def whole(frames: int) -> Iterator[Chunk]:
    """All frames at once, for a voice that does not bear to be rendered in chunks."""
    yield Chunk(0, frames)
