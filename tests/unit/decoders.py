"""Two decoders of compressed audio that know nothing of each other: FFmpeg's, and libsndfile's."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import soundfile

from chorus.flac import HEADER_BYTES, with_length
from serving.audio import Samples

MOST_SAMPLES = 60 * 48000
"""Asked of a stream that may not tell its length."""

Decode = Callable[[bytes], tuple[Samples, int]]


def by_ffmpeg(data: bytes) -> tuple[Samples, int]:
    """Samples and rate, up to where the data ends or a packet of it is cut."""
    decoded: list[Samples] = []
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler(format="flt")
        try:
            for frame in container.decode(audio=0):
                decoded += [each.to_ndarray()[0] for each in resampler.resample(frame)]
        except av.InvalidDataError:
            pass
        return np.concatenate(decoded), container.streams.audio[0].rate


def by_libsndfile(data: bytes) -> tuple[Samples, int]:
    """Samples and rate, up to where the data ends."""
    if data.startswith(b"fLaC"):  # it reads FLAC of a known length only
        samples, _ = by_ffmpeg(data)
        data = with_length(data[:HEADER_BYTES], len(samples)) + data[HEADER_BYTES:]
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return file.read(frames=MOST_SAMPLES, dtype="float32"), file.samplerate
