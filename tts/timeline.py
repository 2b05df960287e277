"""When each word of a sentence is heard: by the lengths of its phonemes, and after a pause by the sound itself.

A voice tells how long each phoneme lasts, and the sum is its audio to the sample. Within a phrase that is where words
are. After a comma a voice may go on being silent within the first phonemes (0.1 to 0.2 s in most "…, but …" of
en_US-joe-medium): so the first word of a phrase begins where the audio does, and the words of a phrase are told with
the chunk in which that is heard.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serving.audio import Samples
from tts.words import Span

Lengths = npt.NDArray[np.int64]
"""Samples that each phoneme id of a run lasts."""

AUDIBLE_DB = 40
"""What is so far below the loudest of a sentence so far is its silence."""
SILENT_DBFS = -60
"""So is what is quieter than this, while nothing loud has been heard yet."""
FRAMES_PER_S = 200
"""Stretches of audio that are loud or silent together, 5 ms each."""
EARLIEST_S = 0.06
"""How far before its first phoneme a word may be heard; what sounds earlier is a breath."""


@dataclass(frozen=True)
class SpokenWord:
    """A written word, and the samples of its sentence at which it begins and has ended."""

    word: str
    start: int
    end: int


class Timeline:
    """The words of one sentence: `expect` each run's lengths, `hear` its audio, in turn; every word is told once."""

    def __init__(self, placed: Sequence[Sequence[Span]], ids: Sequence[Sequence[int]], sample_rate: int) -> None:
        """`ids` says of each run which phoneme id each of its phonemes begins with, and which follows the last."""
        self._runs = iter(zip(placed, ids, strict=True))
        self._phrases: deque[list[SpokenWord]] = deque()
        """Not told yet."""
        self._expected = 0
        """Samples of all runs so far."""
        self._frame = sample_rate // FRAMES_PER_S
        self._earliest = round(sample_rate * EARLIEST_S)
        self._rest = np.zeros(0, np.float32)
        """Audio of less than a frame."""
        self._levels = np.zeros(0, np.float32)
        """Of each frame heard, decibels."""
        self._until = 0
        """Where the last word told has ended, or the run begins."""

    def expect(self, lengths: Lengths) -> None:
        """The next run's phoneme ids last so many samples."""
        spans, ids = next(self._runs)
        begins = self._expected + np.concatenate([[0], np.cumsum(lengths)])
        self._until, self._expected = self._expected, int(begins[-1])
        for span in spans:
            words = shared(span, int(begins[ids[span.first]]), int(begins[ids[span.end]]))
            if span.after_pause or not self._phrases:
                self._phrases.append([])
            self._phrases[-1].extend(words)

    def hear(self, samples: Samples) -> list[SpokenWord]:
        """The words of the phrases of which something is heard by now."""
        audio = np.concatenate([self._rest, samples])
        whole = len(audio) - len(audio) % self._frame
        power = np.mean(audio[:whole].reshape(-1, self._frame) ** 2, axis=1)
        self._levels = np.concatenate([self._levels, 10 * np.log10(power + 1e-10)])
        self._rest = audio[whole:]
        told: list[SpokenWord] = []
        while self._phrases and (words := self._begun(self._phrases[0])):
            self._phrases.popleft()
            told += words
            self._until = words[-1].end
        return told

    def _begun(self, phrase: list[SpokenWord]) -> list[SpokenWord]:
        """The phrase with its first word where that is heard; nothing if it is not heard yet."""
        at = next((at for at, word in enumerate(phrase) if word.end > word.start), None)
        if at is None:
            return phrase  # there is nothing to hear
        word = phrase[at]
        until = phrase[at - 1].end if at else self._until
        earliest = max((until + word.start) // 2, word.start - self._earliest)
        first, end = -(-earliest // self._frame), word.end // self._frame
        audible = max(self._levels.max(initial=SILENT_DBFS) - AUDIBLE_DB, SILENT_DBFS)
        loud = np.flatnonzero(self._levels[first:end] >= audible)
        if len(loud):
            start = (first + int(loud[0])) * self._frame
            return [*phrase[:at], replace(word, start=start), *phrase[at + 1 :]]
        return phrase if len(self._levels) >= end else []


def shared(span: Span, start: int, end: int) -> Iterator[SpokenWord]:
    """The words of a span with their shares of its time."""
    weights = span.weights if any(span.weights) else (1,) * len(span.words)
    shares = [0, *itertools.accumulate(weights)]
    cuts = [start + (end - start) * share // shares[-1] for share in shares]
    for word, (its_start, its_end) in zip(span.words, itertools.pairwise(cuts), strict=True):
        yield SpokenWord(word, its_start, its_end)
