"""Speech to measure with: clips and what is said in them, and speakers who say one after the other."""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np

from chorus.sources import FRAME_S, from_bytes
from chorus.wire.asr import Final
from loadtest.clips import (
    BETWEEN_S,
    COVERS_S,
    SAMPLE_RATE,
    Clip,
    Pcm,
    audible,
    normalised,
    read,
)

CLIPS = Path(__file__).resolve().parents[1] / "tests" / "data" / "speech"
PAUSE_S = 1.2
"""Silence between two clips of a speaker."""


@dataclass(frozen=True)
class Spoken:
    """One clip in a speaker's stream; times are seconds since the stream's first sample."""

    clip: Clip
    start: float
    """Where the file begins."""
    speech_start: float
    """Where its first audible sound begins."""
    speech_end: float
    """Where its last audible sound ends."""
    end: float
    """Where the file ends."""


@dataclass(frozen=True)
class Speech:
    """All that one speaker says."""

    spoken: list[Spoken]
    samples: Pcm

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class Errors:
    """Words heard wrongly, over the whole set."""

    wer_percent: float
    substituted: int
    left_out: int
    put_in: int

    @property
    def told(self) -> str:
        """The kinds of errors, for the table."""
        return f"{self.substituted} + {self.left_out} + {self.put_in}"


def spoken_at(position: int, clip: Clip, samples: Pcm) -> Spoken:
    """A clip whose first sample is that of the stream."""
    start = position / SAMPLE_RATE
    first, last = audible(samples)
    return Spoken(clip, start, start + first, start + last, start + len(samples) / SAMPLE_RATE)


def speeches(clips: list[Clip], speakers: int, utterances: int, *, pause_s: float = PAUSE_S) -> list[Speech]:
    """What so many speakers say to come to at least `utterances` clips together, each in an order of its own."""
    each = -(-utterances // speakers)
    recorded = {clip.path: read(clip) for clip in clips}
    pause = np.zeros(int(pause_s * SAMPLE_RATE), np.int16)
    result = []
    for speaker in range(speakers):
        order = random.Random(speaker).sample(clips, len(clips))
        spoken, parts, position = [], [pause], len(pause)
        for turn in range(each):
            clip = order[turn % len(order)]
            samples = recorded[clip.path]
            spoken.append(spoken_at(position, clip, samples))
            parts += [samples, pause]
            position += len(samples) + len(pause)
        result.append(Speech(spoken, np.concatenate(parts)))
    return result


async def said_live(speech: Speech) -> AsyncIterator[tuple[float, bytes]]:
    """Its frames at the speed of speech, each with the seconds of the stream that it completes."""
    started, sent = time.monotonic(), 0.0
    for frame in from_bytes(speech.samples.tobytes()).frames:
        sent += FRAME_S
        await asyncio.sleep(max(0.0, started + sent - time.monotonic()))
        yield sent, frame


def finals_of(spoken: list[Spoken], finals: Iterable[Final]) -> list[list[Final]]:
    """Of each clip the finals that tell of it; both come in the order of their times."""
    begins = [each.start - BETWEEN_S for each in spoken]
    found: list[list[Final]] = [[] for _ in spoken]
    for final in finals:
        turn = bisect_right(begins, final.start_time) - 1
        if turn >= 0:
            found[turn].append(final)
    return found


def covers(final: Final, spoken: Spoken) -> bool:
    """Whether a final that tells of a clip goes on to its end."""
    return final.end_time >= spoken.speech_end - COVERS_S


def errors_of(said: Iterable[str], heard: Iterable[str]) -> Errors:
    """What is wrong in the texts heard, after Whisper's English normalisation."""
    counted = jiwer.process_words([normalised(text) for text in said], [normalised(text) or " " for text in heard])
    return Errors(100 * counted.wer, counted.substitutions, counted.deletions, counted.insertions)
