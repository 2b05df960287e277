"""What rendering with a voice costs on this machine, learnt from what it has cost."""

from __future__ import annotations

FORGETS = 0.05
"""Share of what is known that each new observation replaces: the last twenty count most."""
FRONT_EXTRA = 15
"""Characters that a call for none would cost as much as."""


class Ratio:
    """How much of one thing there is to another, of late."""

    def __init__(self, guess: float) -> None:
        """`guess` holds until something has been observed."""
        self._guess = guess
        self._much = 0.0
        self._of = 0.0

    def learn(self, much: float, of: float) -> None:
        """Take in an observation."""
        self._much += FORGETS * (much - self._much)
        self._of += FORGETS * (of - self._of)

    @property
    def value(self) -> float:
        """The ratio of the sums, so that long pieces of work count for more than short ones."""
        return self._much / self._of if self._of else self._guess


class Pace:
    """One voice's. The guesses are of two cores and a voice of medium quality."""

    def __init__(self) -> None:
        self._front = Ratio(0.0003)
        self.chunk_s = Ratio(0.0004)
        """Seconds of computing a frame of a chunk's work (`tts.chunks.Chunk.work`)."""
        self.frames = Ratio(4.5)
        """Frames a character, at speed 1."""
        self.frame_s = Ratio(256 / 22050)
        """Seconds of audio a frame."""

    def front_s(self, characters: float) -> float:
        """Seconds of computing for text encoder and durations of so many characters."""
        return self._front.value * (characters + FRONT_EXTRA)

    def learn_front(self, seconds: float, characters: float) -> None:
        """Take in an observation."""
        self._front.learn(seconds, characters + FRONT_EXTRA)
