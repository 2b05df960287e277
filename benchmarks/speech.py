"""Speech to measure with: clips and what is said in them, and speakers who say one after the other."""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer  # type: ignore[import-untyped]

from chorus.wire.asr import Final

CLIPS = Path(__file__).resolve().parents[1] / "tests" / "data" / "speech"
SAMPLE_RATE = 16000
"""Hz, of every clip."""
PAUSE_S = 1.2
"""Silence between two clips of a speaker."""
BETWEEN_S = PAUSE_S / 2
"""A final that begins so shortly before a clip tells of that clip: utterances begin a little before their speech."""
COVERS_S = 0.3
"""A final covers a clip's last sound if it ends at most so much before it: what is barely audible may be silence."""
AUDIBLE_DB = 30
"""Sound so far below a clip's loud parts, and less, is its silence."""

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Clip:
    """One file and what is said in it."""

    path: Path
    text: str


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


def read_manifest(folder: Path) -> list[Clip]:
    """The clips of a folder's `manifest.jsonl`."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [Clip(folder / found["audio"], found["text"]) for found in map(json.loads, lines)]


def read(clip: Clip) -> Pcm:
    """A clip's samples. Exits where it has another rate."""
    samples, rate = soundfile.read(clip.path, dtype="int16")
    if rate != SAMPLE_RATE:
        raise SystemExit(f"{clip.path}: {rate} Hz; clips are of {SAMPLE_RATE} Hz")
    return samples


def audible(samples: Pcm) -> tuple[float, float]:
    """Seconds at which the first audible sound begins and the last one ends, to 10 ms."""
    frame = SAMPLE_RATE // 100
    count = len(samples) // frame
    power = (samples[: count * frame].reshape(count, frame).astype(np.float32) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > np.percentile(power, 95) * 10 ** (-AUDIBLE_DB / 10))
    return float(loud[0] * frame / SAMPLE_RATE), float((loud[-1] + 1) * frame / SAMPLE_RATE)


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
    normalise = EnglishTextNormalizer()
    counted = jiwer.process_words([normalise(text) for text in said], [normalise(text) or " " for text in heard])
    return Errors(100 * counted.wer, counted.substitutions, counted.deletions, counted.insertions)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value below which that share of them lies; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
