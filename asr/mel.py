"""Whisper's log-mel features in NumPy, split where a window begins: raw once a sample, normalised once a window.

Equal to `faster_whisper.feature_extractor` (itself after openai/whisper `audio.py`): 25 ms Hann windows every
10 ms, Slaney mel bands, log10; a window is clamped to 8 below its own maximum and scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from asr.engine import SAMPLE_RATE
from serving.audio import Samples

Mel = npt.NDArray[np.float32]
LogMel = Callable[[Samples, int, int], Mel]
"""Computes what `raw_log_mel` does."""

N_FFT = 400
FRAME = 160
"""Samples between two frames, 10 ms."""
FULL_WINDOW = 3000
"""Frames of the 30 s window that Whisper was trained on."""
SILENT = -10.0
"""Raw log10 mel of true silence."""


class MelCache:
    """Raw log-mel of one utterance: each frame is computed once, however often it is asked for.

    Two threads may ask at once, for a partial and for the final: then both compute what is new.
    """

    def __init__(self) -> None:
        self._settled: Mel = np.zeros((0, 0), np.float32)
        """Frames that no later sample changes."""

    def frames(self, samples: Samples, bands: int, compute: LogMel | None = None) -> Mel:
        """`raw_log_mel` of the samples, which begin where those of the calls before did; `bands` never changes.

        `compute` stands in for `raw_log_mel`, where a device does it.
        """
        # A frame that sees past these samples takes silence there, so it is neither reused nor kept; nor is the
        # first one while there are too few samples to mirror.
        inside = max(0, (len(samples) - N_FFT // 2 - 1) // FRAME + 1)
        known = self._settled[:, :inside]
        new = (compute or raw_log_mel)(samples, bands, known.shape[1])
        frames = np.concatenate((known, new), axis=1) if known.shape[1] else new
        if inside > self._settled.shape[1]:
            self._settled = frames[:, :inside]
        return frames


def raw_log_mel(samples: Samples, bands: int, first: int = 0) -> Mel:
    """log10 mel energies (bands, frames) of 16 kHz samples: each frame, from `first` on, that sees any of them.

    What follows the samples is taken for silence; what precedes them is mirrored, as Whisper does.
    """
    half = N_FFT // 2
    count = frames_that_see(samples)
    if first >= count:
        return np.zeros((bands, 0), np.float32)
    mirrored = samples[half:0:-1] if len(samples) > half else np.zeros(half, np.float32)
    signal = np.concatenate((mirrored, samples, np.zeros(count * FRAME + half - len(samples), np.float32)))
    windows = np.lib.stride_tricks.sliding_window_view(signal, N_FFT)[first * FRAME :: FRAME][: count - first]
    power = np.abs(np.fft.rfft(windows * _hann(), axis=1).astype(np.complex64)) ** 2
    mel: Mel = filters(bands) @ power.T
    return np.log10(np.maximum(mel, 1e-10))


def frames_that_see(samples: Samples) -> int:
    """How many frames see any of the samples."""
    return (len(samples) + N_FFT // 2 - 1) // FRAME + 1 if len(samples) else 0


def window(raw: Mel, frames: int) -> Mel:
    """Raw log-mel as the model wants it: filled up with silence to `frames`, clamped and scaled."""
    filled = np.full((raw.shape[0], frames), SILENT, np.float32)
    filled[:, : raw.shape[1]] = raw[:, :frames]
    clamped = np.maximum(filled, filled.max() - 8.0)
    scaled: Mel = (clamped + 4.0) / 4.0
    return scaled


@lru_cache(maxsize=1)
def _hann() -> Samples:
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=2)
def filters(bands: int) -> Mel:
    """Slaney-style triangular bands (bands, 201), each of unit area."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), bands + 2))
    widths = np.diff(edges)
    slopes = edges[:, None] - frequencies[None, :]
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


_LINEAR_HZ = 200.0 / 3
_LOG_FROM_HZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_FROM_HZ:
        return hz / _LINEAR_HZ
    return float(_LOG_FROM_MEL + np.log(hz / _LOG_FROM_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ
    return np.where(mel < _LOG_FROM_MEL, linear, _LOG_FROM_HZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL)))
