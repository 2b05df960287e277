"""Which frames of a sentence are rendered together.

Each chunk costs its frames and something for those that it sees on both sides, so large ones are cheaper; small ones
sound earlier and hold nobody up. The engine chooses by what it has time for (`tts/engine.py`); the plan here is for who
has no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FIRST_FRAMES = 24
"""Of the first chunk: 0.28 s at 22050 Hz and a hop of 256."""
LARGEST_FRAMES = 256
"""3 s. From about 130 on a frame gets dearer again, as it leaves the caches, by as much as overlaps get rarer."""
OVERLAP_FRAMES = 25
"""Frames that a voice's middle sees on each side of a chunk: 82 dB SNR and more against the whole rendering."""
BACK_OVERLAP_FRAMES = 1
"""Of these, what its back sees: it reaches no further, and gives the very samples of the whole rendering."""
MIDDLE_SHARE = 1 / 3
"""Of the work for a frame, what the middle does."""
JOIN_FRAMES = round(2 * MIDDLE_SHARE * OVERLAP_FRAMES)
"""Frames whose work each further chunk of a sentence costs."""


@dataclass(frozen=True)
class Chunk:
    """Frames `start` to `end` of a sentence, seen with `before` and `after` further frames."""

    start: int
    end: int
    before: int
    after: int

    @property
    def work(self) -> float:
        """What it costs, in frames that go all the way; those that are only seen go through the middle alone."""
        return self.end - self.start + MIDDLE_SHARE * (self.before + self.after)


def chunk(start: int, size: int, frames: int) -> Chunk:
    """The next `size` of a sentence's frames."""
    end = min(start + size, frames)
    return Chunk(start, end, min(OVERLAP_FRAMES, start), min(OVERLAP_FRAMES, frames - end))


def steady_size(done: int, left: int) -> int:
    """How many frames come after those that are done: each chunk is twice as long as the one before."""
    return without_crumbs(min(done + FIRST_FRAMES, LARGEST_FRAMES), left)


def without_crumbs(size: int, left: int) -> int:
    """All that is left, where little would be: its overlap would cost more than it does."""
    return left if left - size < FIRST_FRAMES else size


def plan(frames: int) -> Iterator[Chunk]:
    """Chunks that cover `frames` without gap or overlap, growing steadily."""
    start = 0
    while start < frames:
        yield (each := chunk(start, steady_size(start, frames - start), frames))
        start = each.end


def whole(frames: int) -> Iterator[Chunk]:
    """All frames at once, for a voice that does not bear to be rendered in chunks."""
    yield Chunk(0, frames, 0, 0)
