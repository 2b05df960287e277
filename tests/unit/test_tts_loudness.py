"""Loudness: measured as the standard says, made equal by a gain, and never clipped."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from serving.audio import Samples
from tests.conftest import DATA
from tts.loudness import KNEE, amplify, gain_to, integrated_lufs

pytestmark = pytest.mark.unit


def tone(level_db: float, rate: int) -> Samples:
    """Five seconds of 997 Hz, its peaks so many dB below 1."""
    return (np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate) * 10 ** (level_db / 20)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_the_meter_is_the_standards(rate: int) -> None:
    """EBU Tech 3341's tone: 997 Hz whose peaks are 20 dB below full scale is -23 LUFS in one channel."""
    assert integrated_lufs(tone(-20, rate), rate) == pytest.approx(-23, abs=0.1)


def test_silence_is_as_low_as_the_meter_goes() -> None:
    """And no voice is amplified without end."""
    silence = np.zeros(22050, np.float32)
    assert integrated_lufs(silence, 22050) == -70
    assert gain_to(-19, silence, 22050) == pytest.approx(10)


@pytest.mark.parametrize("level_db", [-6, 0, 6])
def test_voices_become_equally_loud(level_db: float) -> None:
    """Speech, softer or louder to begin with, has the wanted loudness after its gain."""
    speech, rate = soundfile.read(DATA / "speech" / "3331-159605-0005.flac", dtype="float32")
    speech = speech * np.float32(10 ** (level_db / 20))
    made_equal = amplify(speech, gain_to(-23, speech, rate))
    assert integrated_lufs(made_equal, rate) == pytest.approx(-23, abs=0.2)


def test_no_sample_is_clipped() -> None:
    """Below the knee a sample is only multiplied; above, louder stays louder, without a corner, up to 1."""
    ramp = np.linspace(-1, 1, 20001, dtype=np.float32)
    out = amplify(ramp, 1.5)
    below = np.abs(ramp * 1.5) <= KNEE
    assert np.array_equal(out[below], ramp[below] * np.float32(1.5))
    steps = np.diff(out)
    assert (steps > 0).all()
    assert np.abs(np.diff(steps)).max() < 1e-6
    assert np.abs(amplify(ramp, 1000)).max() <= 1


def test_cuts_do_not_matter() -> None:
    """Chunks amplified one by one are the whole amplified, bit by bit."""
    noise = np.random.default_rng(1).normal(0, 0.4, 10000).astype(np.float32)
    parts = [amplify(part, 2.0) for part in np.split(noise, [1, 999, 5000])]
    assert np.array_equal(np.concatenate(parts), amplify(noise, 2.0))
