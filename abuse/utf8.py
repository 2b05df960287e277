"""Bytes that are UTF-8 and that are not, after Markus Kuhn's stress test and Autobahn's sections 6.5 to 6.23."""

from __future__ import annotations

VALID: dict[str, str] = {
    "6.5.1": "κόσμε",
    "6.6.1": "\u0080",
    "6.6.2": "\u0800",
    "6.6.3": "\U00010000",
    "6.7.1": "\u007f",
    "6.7.2": "\u07ff",
    "6.7.3": "\uffff",
    "6.9.1": "\ud7ff",
    "6.9.2": "\ue000",
    "6.9.3": "\ufffd",
    "6.9.4": "\U0010ffff",
    **{
        f"6.22.{number}": chr((plane << 16) + 0xFFFE + last)
        for number, (plane, last) in enumerate(((plane, last) for plane in range(17) for last in (0, 1)), 1)
    },
    "6.23.1": "\ufffd\ufffe\uffff\ufdd0\ufdef",
}
"""Text by the number of its case; non-characters are valid UTF-8."""

_STARTS_2, _STARTS_3, _STARTS_4 = range(0xC0, 0xE0), range(0xE0, 0xF0), range(0xF0, 0xF8)
_TRUNCATED = {
    "6.15.1": b"\xc0",
    "6.15.2": b"\xe0\x80",
    "6.15.3": b"\xf0\x80\x80",
    "6.15.4": b"\xf8\x80\x80\x80",
    "6.15.5": b"\xfc\x80\x80\x80\x80",
    "6.15.6": b"\xdf",
    "6.15.7": b"\xef\xbf",
    "6.15.8": b"\xf7\xbf\xbf",
    "6.15.9": b"\xfb\xbf\xbf\xbf",
    "6.15.10": b"\xfd\xbf\xbf\xbf\xbf",
}
_SURROGATES = (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)


def _surrogate(code: int) -> bytes:
    return chr(code).encode("utf-8", "surrogatepass")


INVALID: dict[str, bytes] = {
    "6.8.1": b"\xf8\x88\x80\x80\x80",
    "6.8.2": b"\xfc\x84\x80\x80\x80\x80",
    "6.10.1": b"\xf7\xbf\xbf\xbf",
    "6.10.2": b"\xfb\xbf\xbf\xbf\xbf",
    "6.10.3": b"\xfd\xbf\xbf\xbf\xbf\xbf",
    "6.11.1": b"\xf4\x90\x80\x80",
    "6.12.1": b"\x80",
    "6.12.2": b"\xbf",
    **{f"6.12.{number}": b"\x80\xbf" * (number // 2) + b"\x80" * (number % 2) for number in range(3, 8)},
    "6.12.8": bytes(range(0x80, 0xC0)),
    "6.13.1": b"".join(bytes([start, 0x20]) for start in _STARTS_2),
    "6.13.2": b"".join(bytes([start, 0x20]) for start in _STARTS_3),
    "6.13.3": b"".join(bytes([start, 0x20]) for start in _STARTS_4),
    "6.13.4": b"".join(bytes([start, 0x20]) for start in range(0xF8, 0xFC)),
    "6.13.5": b"\xfc\x20\xfd\x20",
    "6.14.1": b"\xc0\xaf",
    **_TRUNCATED,
    "6.16.1": b"".join(_TRUNCATED.values()),
    "6.17.1": b"\xfe",
    "6.17.2": b"\xff",
    "6.17.3": b"\xfe\xfe\xff\xff",
    "6.18.1": b"\xc0\xaf",
    "6.18.2": b"\xe0\x80\xaf",
    "6.18.3": b"\xf0\x80\x80\xaf",
    "6.18.4": b"\xf8\x80\x80\x80\xaf",
    "6.18.5": b"\xfc\x80\x80\x80\x80\xaf",
    "6.19.1": b"\xc1\xbf",
    "6.19.2": b"\xe0\x9f\xbf",
    "6.19.3": b"\xf0\x8f\xbf\xbf",
    "6.19.4": b"\xf8\x87\xbf\xbf\xbf",
    "6.19.5": b"\xfc\x83\xbf\xbf\xbf\xbf",
    "6.20.1": b"\xc0\x80",
    "6.20.2": b"\xe0\x80\x80",
    "6.20.3": b"\xf0\x80\x80\x80",
    "6.20.4": b"\xf8\x80\x80\x80\x80",
    "6.20.5": b"\xfc\x80\x80\x80\x80\x80",
    **{f"6.21.{number}": _surrogate(code) for number, code in enumerate(_SURROGATES, 1)},
    **{
        f"6.21.{number}": _surrogate(high) + _surrogate(low)
        for number, (high, low) in enumerate(
            ((high, low) for high in (0xD800, 0xDB7F, 0xDB80, 0xDBFF) for low in (0xDC00, 0xDFFF)), 8
        )
    },
}
"""What is none, by the number of its case: too long, too short, overlong, surrogates, bytes that never occur."""
