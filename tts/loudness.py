"""Equal loudness of all voices: one gain a voice, measured once, and no sample ever clipped.

A whole sentence could be normalised by its peak, as Piper does; a stream can't wait for it. A gain that never
changes keeps chunks what the whole rendering is, and a voice's loud and quiet sentences as loud as they were meant.
"""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np

from serving.audio import Samples

KNEE = 0.8
"""Samples up to it are left alone, louder ones pressed together so that none is above 1."""
MOST_GAIN_DB = 20.0
"""A voice so quiet that it would take more is broken, and would be made of noise."""


def gain_to(target_lufs: float, samples: Samples, sample_rate: int) -> float:
    """What speech is to be multiplied by to be as loud as the target."""
    wanted_db = target_lufs - integrated_lufs(samples, sample_rate)
    return float(10 ** (min(wanted_db, MOST_GAIN_DB) / 20))


def integrated_lufs(samples: Samples, sample_rate: int) -> float:
    """Loudness by ITU-R BS.1770 of at least 0.4 s of mono audio, as FFmpeg's `ebur128` measures it; -70 for silence."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=sample_rate, format="flt", layout="mono", time_base=Fraction(1, sample_rate))
    graph.link_nodes(source, graph.add("ebur128", "metadata=1"), graph.add("abuffersink")).configure()
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = sample_rate
    graph.push(frame)
    graph.push(None)
    loudness = -70.0
    while True:
        try:
            measured = graph.pull()
        except av.EOFError:
            return loudness
        loudness = float(measured.metadata.get("lavfi.r128.I", loudness))


def amplify(samples: Samples, gain: float) -> Samples:
    """The samples, louder or softer; each by itself, so that it does not matter where they were cut."""
    louder = samples * np.float32(gain)
    size = np.abs(louder)
    over = size > KNEE
    if over.any():
        room = np.float32(1 - KNEE)
        louder[over] = np.sign(louder[over]) * (KNEE + room * np.tanh((size[over] - KNEE) / room))
    return louder
