"""Audio files and pipes for the command line: WAV by the standard library, every other format by soundfile."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FRAME_S = 0.02
"""Seconds of audio in one frame on the wire."""


@dataclass(frozen=True)
class Source:
    """Audio to send: its settings on the wire, and its bytes in frames of 20 ms."""

    name: str
    sample_rate: int
    """Hz."""
    channels: int
    frames: Iterator[bytes]


def open_source(name: str, pipe_rate: int) -> Source:
    """A file, or `-` for standard input: a WAV file, or raw 16-bit mono samples at `pipe_rate` Hz.

    Raises `OSError` or `ValueError` with what is wrong with it.
    """
    if name == "-":
        return _from_pipe(sys.stdin.buffer, pipe_rate)
    if not Path(name).is_file():
        raise ValueError(f"{name}: no such file")
    import soundfile  # not needed by programs that bring their own samples

    try:
        samples, rate = soundfile.read(name, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name}: {error}") from None
    if samples.shape[1] > 2:
        raise ValueError(f"{name}: {samples.shape[1]} channels; 1 or 2 can be sent")
    if not 8000 <= rate <= 48000:
        raise ValueError(f"{name}: {rate} Hz; 8000 to 48000 can be sent")
    data = samples.tobytes()
    size = int(rate * FRAME_S) * 2 * samples.shape[1]
    frames = (data[start : start + size] for start in range(0, len(data), size))
    return Source(name, rate, samples.shape[1], frames)


def write_wav(target: BinaryIO, samples: bytes, sample_rate: int) -> None:
    """16-bit mono samples as a WAV file."""
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples)


def _from_pipe(pipe: BinaryIO, rate: int) -> Source:
    head = pipe.peek(4)[:4] if hasattr(pipe, "peek") else b""
    if head != b"RIFF":
        return Source("-", rate, 1, _blocks(pipe, int(rate * FRAME_S) * 2))
    with wave.open(pipe, "rb") as file:
        if file.getsampwidth() != 2 or file.getnchannels() > 2:
            raise ValueError("-: a WAV file of 16-bit samples with 1 or 2 channels is wanted")
        rate, channels = file.getframerate(), file.getnchannels()
    # Its header has been read; what follows in the pipe are the samples.
    return Source("-", rate, channels, _blocks(pipe, int(rate * FRAME_S) * 2 * channels))


def _blocks(pipe: BinaryIO, size: int) -> Iterator[bytes]:
    read = getattr(pipe, "read1", pipe.read)
    while block := read(size):
        yield block
