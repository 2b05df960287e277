"""Audio to transcribe, from files, pipes and memory, in frames as they go over the wire.

WAV needs nothing but this package; every other format needs `soundfile`, imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from chorus import wav
from chorus.asr import BYTES_PER_SAMPLE

FRAME_S = 0.02
"""Seconds of audio in one frame on the wire."""
RATES = (8000, 48000)
"""The lowest and the highest sample rate that can be sent, Hz."""


@dataclass(frozen=True)
class Source:
    """Audio to send: its settings on the wire, and its bytes in frames of 20 ms or less."""

    name: str
    encoding: str
    sample_rate: int
    """Hz."""
    channels: int
    frames: Iterable[bytes]
    blocks: bool = False
    """Whether the next frame may have to be waited for."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the stream must be told of it."""
        return {"encoding": self.encoding, "sample_rate": self.sample_rate, "channels": self.channels}

    @property
    def bytes_per_second(self) -> int:
        """Of all channels."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels * self.sample_rate


def from_bytes(
    data: bytes, sample_rate: int = 16000, channels: int = 1, encoding: str = "pcm_s16le", name: str = "memory"
) -> Source:
    """Samples that are in memory."""
    size = _frame_bytes(encoding, sample_rate, channels)
    frames = (data[start : start + size] for start in range(0, len(data), size))
    return Source(name, encoding, sample_rate, channels, frames)


def from_file(name: str) -> Source:
    """An audio file. Raises `OSError`, or `ValueError` with what is wrong with it."""
    with open(name, "rb") as file:
        if file.read(4) != b"RIFF":
            return _decoded(name)
        try:
            layout = wav.read_header(file)
        except ValueError:
            return _decoded(name)  # a WAV file of another kind: soundfile may know it
        start = file.tell()
    _check(name, layout.sample_rate, layout.channels)
    size = _frame_bytes(layout.encoding, layout.sample_rate, layout.channels)

    def frames() -> Iterator[bytes]:
        with open(name, "rb") as again:
            again.seek(start)
            yield from _cut(again, size, layout.data_bytes)

    return Source(name, layout.encoding, layout.sample_rate, layout.channels, frames())


def from_pipe(pipe: BinaryIO, *, sample_rate: int = 16000, channels: int = 1, encoding: str = "pcm_s16le") -> Source:
    """A pipe, for example a microphone's: a WAV file, or raw samples of the given kind, sent as they arrive.

    `pipe` is best unbuffered: then a read gives what is there. Raises `ValueError` for a WAV file of another kind.
    """
    head = b""
    while len(head) < 4 and (more := pipe.read(4 - len(head))):
        head += more
    length: int | None = None
    if head == b"RIFF":
        layout = wav.read_header(pipe)
        encoding, sample_rate, channels = layout.encoding, layout.sample_rate, layout.channels
        length, head = layout.data_bytes, b""
    _check("-", sample_rate, channels)
    size = _frame_bytes(encoding, sample_rate, channels)

    def frames() -> Iterator[bytes]:
        if head:
            yield head
        yield from _cut(pipe, size, length)

    return Source("-", encoding, sample_rate, channels, frames(), blocks=True)


def _decoded(name: str) -> Source:
    try:
        import soundfile
    except ImportError:
        raise ValueError(f"{name}: other files than 16-bit WAV need the soundfile package") from None
    try:
        with soundfile.SoundFile(name) as file:
            rate, channels = int(file.samplerate), int(file.channels)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name}: {error.error_string}") from None
    _check(name, rate, channels)

    def frames() -> Iterator[bytes]:
        with soundfile.SoundFile(name) as file:
            while len(block := file.read(int(rate * FRAME_S), dtype="int16", always_2d=True)):
                yield block.astype("<i2").tobytes()

    return Source(name, "pcm_s16le", rate, channels, frames())


def _check(name: str, sample_rate: int, channels: int) -> None:
    if not 1 <= channels <= 2:
        raise ValueError(f"{name}: {channels} channels; 1 or 2 can be sent")
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise ValueError(f"{name}: {sample_rate} Hz; {RATES[0]} to {RATES[1]} can be sent")


def _frame_bytes(encoding: str, sample_rate: int, channels: int) -> int:
    return BYTES_PER_SAMPLE[encoding] * channels * int(sample_rate * FRAME_S)


def _cut(file: BinaryIO, size: int, length: int | None) -> Iterator[bytes]:
    """Blocks of a file, up to its length where it is known: behind it may lie a WAV file's other chunks."""
    left = length if length is not None else size
    while left > 0 and (block := file.read(min(size, left))):
        yield block
        if length is not None:
            left -= len(block)
