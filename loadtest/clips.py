"""Recordings of speech, what is said in them, and where its sound begins and ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer  # type: ignore[import-untyped]

SAMPLE_RATE = 16000
"""Hz, of every clip."""
BETWEEN_S = 0.6
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


def read_manifest(folder: Path) -> list[Clip]:
    """The clips of a folder's `manifest.jsonl`. Raises `OSError`, `ValueError`."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [Clip(folder / found["audio"], found["text"]) for found in map(json.loads, lines)]


def read(clip: Clip) -> Pcm:
    """A clip's samples. Raises `ValueError` where it has another rate."""
    samples, rate = soundfile.read(clip.path, dtype="int16")
    if rate != SAMPLE_RATE:
        raise ValueError(f"{clip.path}: {rate} Hz; clips are of {SAMPLE_RATE} Hz")
    return np.asarray(samples, np.int16)


def audible(samples: Pcm) -> tuple[float, float]:
    """Seconds at which the first audible sound begins and the last one ends, to 10 ms."""
    frame = SAMPLE_RATE // 100
    count = len(samples) // frame
    power = (samples[: count * frame].reshape(count, frame).astype(np.float32) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > np.percentile(power, 95) * 10 ** (-AUDIBLE_DB / 10))
    return float(loud[0] * frame / SAMPLE_RATE), float((loud[-1] + 1) * frame / SAMPLE_RATE)


@cache
def _normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def normalised(text: str) -> str:
    """Words as they are compared: Whisper's English normalisation."""
    return str(_normaliser()(text))
