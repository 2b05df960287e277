"""The length of a FLAC file, which its header does not tell where it was written as a stream."""

from __future__ import annotations

HEADER_BYTES = 42
"""Of the mark and the first metadata block (RFC 9639, section 8.2)."""
TOTAL = slice(21, 26)
"""Where the number of samples is in it, 36 bits behind four of something else."""


def with_length(header: bytes, samples: int) -> bytes:
    """The header, with the number of samples in it."""
    told = samples | (header[TOTAL.start] & 0xF0) << 32
    return header[: TOTAL.start] + told.to_bytes(5, "big") + header[TOTAL.stop :]
