"""Whisper's features: the same numbers as faster-whisper's, whole or piece by piece."""

from __future__ import annotations

import numpy as np
import pytest

from asr.mel import FULL_WINDOW, Mel, MelCache, raw_log_mel, window
from serving.audio import Samples

pytestmark = pytest.mark.unit


def sound(samples: int) -> Samples:
    """Noise that swells and fades, so that frames differ."""
    noise = np.random.default_rng(samples).standard_normal(samples)
    swell = 0.1 + np.sin(np.arange(samples) / 3000) ** 2
    return (0.1 * noise * swell).astype(np.float32)


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("samples", [16000, 50123, 50240, 50241, 479_900])
def test_the_full_window_is_what_faster_whisper_computes(bands: int, samples: int) -> None:
    """For lengths that end within a frame, on its edge and beside it.

    To the last bit on some processors; on others the matrix product rounds by where in its matrix a frame stands, and
    ours has only the frames that see a sample.
    """
    feature_extractor = pytest.importorskip("faster_whisper.feature_extractor")
    extract = feature_extractor.FeatureExtractor(feature_size=bands)
    audio = sound(samples)
    theirs: Mel = extract(np.pad(audio, (0, FULL_WINDOW * 160 - samples)), padding=0)
    np.testing.assert_allclose(window(raw_log_mel(audio, bands), FULL_WINDOW), theirs, rtol=0, atol=5e-7)


def test_a_short_window_is_the_beginning_of_the_full_one() -> None:
    """Padding is silence in the utterance's own scale, not zeros."""
    raw = raw_log_mel(sound(32000), 80)
    np.testing.assert_array_equal(window(raw, 400), window(raw, FULL_WINDOW)[:, :400])


def test_a_growing_utterance_computes_each_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache gives what computing all of it gives, also for fewer samples than before, and reuses what it has."""
    audio = sound(60_000)
    computed = 0

    def counting(samples: Samples, bands: int, first: int = 0) -> Mel:
        nonlocal computed
        frames = raw_log_mel(samples, bands, first)
        computed += frames.shape[1]
        return frames

    monkeypatch.setattr("asr.mel.raw_log_mel", counting)
    cache = MelCache()
    lengths = [0, 1, 199, 200, 201, 400, 5000, 5160, 16_000, 40_001, 60_000, 55_000, 55_100]
    for length in lengths:
        np.testing.assert_allclose(cache.frames(audio[:length], 80), raw_log_mel(audio[:length], 80), atol=1e-5)
    # Each call computes anew only the frames at its end, which see past it.
    assert computed < 60_000 / 160 + 4 * len(lengths)


def test_no_samples_make_a_window_of_silence() -> None:
    """An empty utterance has no frames, and its window is even."""
    raw = raw_log_mel(np.zeros(0, np.float32), 80)
    assert raw.shape == (80, 0)
    assert np.ptp(window(raw, 100)) == 0
