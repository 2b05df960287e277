"""What people say: recordings as frames that are ready to be sent, and who says which of them when."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from loadtest.clips import SAMPLE_RATE, Pcm, audible, normalised, read, read_manifest
from loadtest.metronome import FRAME_S
from loadtest.sockets import prepare

SAMPLES = round(SAMPLE_RATE * FRAME_S)
"""Of a frame."""
JOIN_FRAMES = 10
"""Silence between two recordings that are one utterance: less than ends one."""
FEWEST = 10
"""So many recordings stay, however short utterances are to be."""

Frame = tuple[bytes, bytes]
"""Audio, 16-bit samples of 20 ms, and the WebSocket frame of it."""


def _frame(payload: bytes) -> Frame:
    return payload, prepare(payload)


SILENCE = _frame(bytes(2 * SAMPLES))


@dataclass(frozen=True)
class Utterance:
    """Something to be said; times are seconds from its first sample."""

    words: tuple[str, ...]
    """What is said, normalised."""
    frames: Sequence[Frame]
    speech_start: float
    """Where its first audible sound begins."""
    speech_end: float
    """Where its last one ends: the true end of speech."""

    @property
    def seconds(self) -> float:
        """Its length, silence at its ends included."""
        return len(self.frames) * FRAME_S

    @property
    def speech_s(self) -> float:
        """From its first audible sound to the end of its last one."""
        return self.speech_end - self.speech_start


def utterance(text: str, samples: Pcm) -> Utterance:
    """Something said in a recording of 16 kHz."""
    whole = np.pad(samples, (0, -len(samples) % SAMPLES))
    frames = [_frame(part.tobytes()) for part in whole.reshape(-1, SAMPLES)]
    return Utterance(tuple(normalised(text).split()), frames, *audible(samples))


def joined(parts: Sequence[Utterance]) -> Utterance:
    """Several as one, with a short pause between."""
    if len(parts) == 1:
        return parts[0]
    words = tuple(word for part in parts for word in part.words)
    frames: list[Frame] = []
    for part in parts:
        frames += [SILENCE] * JOIN_FRAMES if frames else []
        frames += part.frames
    return Utterance(
        words, frames, parts[0].speech_start, len(frames) * FRAME_S - parts[-1].seconds + parts[-1].speech_end
    )


class Library:
    """The recordings of a folder."""

    def __init__(self, known: Sequence[Utterance], mean_s: float, seed: int) -> None:
        """`mean_s` is the mean speech of an utterance, the silence at its ends left out: the longest recordings are
        left out, short ones are joined."""
        if not known:
            raise ValueError("there is no recording to be said")
        fitting = sorted(known, key=lambda each: each.speech_s)
        while len(fitting) > FEWEST and fmean(each.speech_s for each in fitting) > mean_s:
            fitting.pop()
        pause = JOIN_FRAMES * FRAME_S
        ends = fmean(each.seconds - each.speech_s for each in fitting)
        self._joined = max(1.0, (mean_s + ends + pause) / (fmean(each.seconds for each in fitting) + pause))
        """How many recordings an utterance is, in the mean."""
        self._seed = seed
        self._known = random.Random(seed).sample(fitting, len(fitting))

    @property
    def said(self) -> Iterator[tuple[str, ...]]:
        """The words of everything that may be said."""
        yield from (each.words for each in self._known)

    def utterances(self, person: int, people: int) -> Iterator[Utterance]:
        """What a person says, without end. `people` is how many there may be.

        With two recordings for each and more, nobody says anybody else's. Otherwise people begin at different ones
        and take steps of different lengths through all of them.
        """
        mine = self._known[person % people :: people] if len(self._known) >= 2 * people else self._known
        choice = random.Random(f"utterances {self._seed} {person}")
        steps = [step for step in range(1, len(mine) + 1) if math.gcd(step, len(mine)) == 1]
        at, step = person % len(mine), choice.choice(steps)
        while True:
            count = int(self._joined) + (choice.random() < self._joined % 1)
            parts = [mine[(at + each * step) % len(mine)] for each in range(count)]
            at = (at + count * step) % len(mine)
            yield joined(parts)


def read_folder(folder: Path) -> list[Utterance]:
    """Everything in a folder. Raises `OSError`, `ValueError`."""
    return [utterance(clip.text, read(clip)) for clip in read_manifest(folder)]
