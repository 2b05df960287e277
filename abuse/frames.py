"""A client's WebSocket frames as bytes, also those that no client may send (RFC 6455 section 5.2)."""

from __future__ import annotations

import struct
from itertools import cycle
from typing import Literal

from websockets.frames import Opcode

Form = Literal[7, 16, 64]
"""Bits in which a length can be written."""

MASK = b"\x37\xfa\x21\x3d"
"""The example of RFC 6455 section 5.7: one that does not change keeps every run the same."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    form: Form | None = None,
    length: int | None = None,
) -> bytes:
    """One frame. `rsv` are the three reserved bits, RSV1 the highest; `mask` None leaves the payload bare.

    `form` writes the length in more bits than it needs; `length` states another one than the payload has.
    """
    stated = len(payload) if length is None else length
    if form is None:
        form = 7 if stated < 126 else 16 if stated < 2**16 else 64
    first = (0x80 if fin else 0) | (rsv & 7) << 4 | opcode & 15
    second = 0x80 if mask is not None else 0
    if form == 7:
        head = struct.pack("!BB", first, second | stated & 127)
    elif form == 16:
        head = struct.pack("!BBH", first, second | 126, stated & 0xFFFF)
    else:
        head = struct.pack("!BBQ", first, second | 127, stated & 2**64 - 1)
    return head + (payload if mask is None else mask + masked(payload, mask))


def masked(payload: bytes, mask: bytes) -> bytes:
    """The payload XORed with its mask, again and again (section 5.3)."""
    if len(payload) < 64:
        return bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def text(payload: str | bytes, *, fin: bool = True) -> bytes:
    """A text frame."""
    return frame(Opcode.TEXT, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def binary(payload: bytes, *, fin: bool = True) -> bytes:
    """A binary frame."""
    return frame(Opcode.BINARY, payload, fin=fin)


def more(payload: str | bytes, *, fin: bool = False) -> bytes:
    """A continuation frame, the last one with `fin`."""
    return frame(Opcode.CONT, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def ping(payload: bytes = b"") -> bytes:
    """A ping."""
    return frame(Opcode.PING, payload)


def pong(payload: bytes = b"") -> bytes:
    """A pong, which nobody has asked for."""
    return frame(Opcode.PONG, payload)


def close(code: int | None = 1000, reason: str | bytes = b"") -> bytes:
    """A close frame; None for one without a code."""
    told = reason.encode() if isinstance(reason, str) else reason
    return frame(Opcode.CLOSE, b"" if code is None else struct.pack("!H", code) + told)


def fragments(payload: bytes, size: int, *, opcode: int = Opcode.TEXT) -> list[bytes]:
    """A message in frames of at most `size` bytes."""
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = len(parts) - 1
    return [frame(Opcode.CONT if n else opcode, part, fin=n == last) for n, part in enumerate(parts)]
