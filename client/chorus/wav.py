"""WAV headers, read from a pipe and written to one; the standard library's module knows integer samples only."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

TAGS = {("pcm_s16le", 16): 1, ("pcm_f32le", 32): 3, ("alaw", 8): 6, ("mulaw", 8): 7}
"""WAVE format tags (RFC 2361) of what the services take, by encoding and bits a sample."""
EXTENSIBLE = 0xFFFE
UNKNOWN_LENGTH = 0xFFFFFFFF
"""What a writer that can't seek back states as the length."""
MAX_CHUNK_BYTES = 64 * 1024
"""Of a chunk before the samples; a longer one is no header."""


@dataclass(frozen=True)
class Format:
    """What the samples of a WAV file are."""

    encoding: str
    """As in the services' settings."""
    sample_rate: int
    """Hz."""
    channels: int
    data_bytes: int | None
    """Length of the samples; None where the writer did not know it."""


def read_header(pipe: BinaryIO) -> Format:
    """Read up to the first sample, the `RIFF` at the beginning having been read. Raises `ValueError`."""
    if _read(pipe, 8)[4:] != b"WAVE":
        raise ValueError("not a WAV file")
    layout: tuple[str, int, int] | None = None
    while True:
        name, length = struct.unpack("<4sI", _read(pipe, 8))
        if name == b"data":
            if layout is None:
                raise ValueError("a WAV file without a format")
            return Format(*layout, length if 0 < length < UNKNOWN_LENGTH else None)
        if length > MAX_CHUNK_BYTES:
            raise ValueError(f"a WAV header with a chunk of {length} bytes")
        chunk = _read(pipe, length + length % 2)
        if name == b"fmt ":
            layout = _layout(chunk)


def header(encoding: str, sample_rate: int, channels: int, data_bytes: int = UNKNOWN_LENGTH) -> bytes:
    """The bytes before the samples."""
    tag, bits = next((tag, bits) for (name, bits), tag in TAGS.items() if name == encoding)
    block = channels * bits // 8
    layout = struct.pack("<HHIIHHH", tag, channels, sample_rate, sample_rate * block, block, bits, 0)
    chunks = struct.pack("<4sI", b"fmt ", len(layout)) + layout
    if tag != 1:  # formats other than integer samples state their number of samples too
        samples = data_bytes // block if data_bytes != UNKNOWN_LENGTH else UNKNOWN_LENGTH
        chunks += struct.pack("<4sII", b"fact", 4, samples)
    total = min(UNKNOWN_LENGTH, 4 + len(chunks) + 8 + data_bytes + data_bytes % 2)
    return struct.pack("<4sI4s", b"RIFF", total, b"WAVE") + chunks + struct.pack("<4sI", b"data", data_bytes)


class Writer:
    """Writes samples as they come; a file gets its lengths at `close`, a pipe never."""

    def __init__(self, target: BinaryIO, encoding: str, sample_rate: int, channels: int = 1) -> None:
        self._target = target
        self._format = (encoding, sample_rate, channels)
        self._count = 0
        target.write(header(*self._format))

    def write(self, data: bytes) -> None:
        """Add whole samples."""
        self._target.write(data)
        self._count += len(data)

    def close(self) -> None:
        """State the lengths in the header. The target stays open."""
        if self._count % 2:
            self._target.write(b"\0")
        if self._target.seekable():
            self._target.seek(0)
            self._target.write(header(*self._format, self._count))
            self._target.seek(0, 2)


def _layout(chunk: bytes) -> tuple[str, int, int]:
    if len(chunk) < 16:
        raise ValueError("a WAV file with a format chunk that is cut short")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)  # the first two bytes of the sub-format's GUID
    for (encoding, known_bits), known_tag in TAGS.items():
        if (tag, bits) == (known_tag, known_bits):
            return encoding, rate, channels
    raise ValueError(f"WAV format {tag} with {bits} bits; 16-bit integers, 32-bit floats and G.711 can be sent")


def _read(pipe: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = pipe.read(size - len(data))
        if not more:
            raise ValueError("a WAV file that ends within its header")
        data += more
    return data
