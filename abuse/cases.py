"""The conformance cases, as data: what is sent, and what must come back.

Numbers follow Autobahn's test suite where it has the case (1 framing, 2 pings and pongs, 3 reserved bits, 4 opcodes,
5 fragmentation, 6 UTF-8, 7 closing, 9 limits, 12 compression); H are opening handshakes, L are limits of our own.
An echo server sends back what it gets. Ours answer in their protocol: `config` by `configured`, an unknown type by an
error that quotes it, a binary frame by an error that counts its bytes (TTS) or by a `done` that counts samples (ASR).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from abuse import frames
from abuse.frames import binary, fragments, frame, more, ping, pong, text
from abuse.peer import KEY, upgrade_request
from abuse.targets import Service
from abuse.utf8 import INVALID, VALID
from chorus.wire.common import MAX_MESSAGE_BYTES

CONFIG = b'{"type":"config"}'
"""What both services answer with `configured`."""
CLOSE = text('{"type":"close"}')
SIZES = (0, 125, 126, 127, 128, 65535, 65536)
GOES_ON = 0
BROKEN = frozenset((1002,))
NOT_UTF8 = frozenset((1007,))
TOO_LARGE = frozenset((1009,))
MASK_RATE = "encoding=mulaw&sample_rate=8000"
"""A byte is a sample."""


@dataclass(frozen=True)
class Slowly:
    """Bytes that are sent in pieces."""

    data: bytes
    size: int = 1
    pause_s: float = 0.0


Step = bytes | Slowly


@dataclass(frozen=True)
class Expected:
    """What comes back on an open stream."""

    answers: tuple[str, ...] = ()
    """Types of the messages, an error's with its code. Of a connection that is failed, some may be missing."""
    pongs: tuple[bytes, ...] = ()
    close: frozenset[int] | None = None
    """Codes of the close frame that may end it, `GOES_ON` where it may also go on; None where it must."""
    says: str = ""
    """Something that the answers have in their JSON."""


@dataclass(frozen=True)
class Case:
    """Frames on an open stream."""

    id: str
    section: str
    """Of RFC 6455."""
    sends: str
    steps: tuple[Step, ...]
    expected: Expected
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HandshakeCase:
    """An opening handshake."""

    id: str
    section: str
    sends: str
    request: Step
    statuses: frozenset[int]
    """Of the answer; empty where the connection ends without one."""
    answer_headers: dict[str, str | None] = field(default_factory=dict)
    """Headers of the answer by lower-case name; None for one that must not be there."""
    slow: bool = False
    """Whether it takes many seconds."""


@dataclass(frozen=True)
class Skip:
    """Cases of Autobahn's that are not run, and why."""

    ids: str
    what: str
    reason: str


SKIPS = (
    Skip("9.7, 9.8", "a thousand messages of each size, timed", "they measure speed, for which there are benchmarks"),
    Skip(
        "9.1 to 9.6 above 1 MiB",
        "echoes of up to 16 MiB",
        "a message over 1 MiB must be refused with 1009; L.1 to L.6 ask for that",
    ),
    Skip("10.1", "one large message, fragmented by the server", "an echo server's; ours never sends fragments"),
    Skip(
        "12.1 to 13.7",
        "compressed messages with all parameters of permessage-deflate",
        "the extension is declined, which 12.x here ask for; a compressed frame then is a reserved bit",
    ),
)


def padded(size: int) -> bytes:
    """A `config` message of so many bytes: white space may stand before JSON."""
    return b" " * (size - len(CONFIG)) + CONFIG if size >= len(CONFIG) else b" " * size


def quoting(word: str) -> bytes:
    """A message whose answer quotes this word."""
    return json.dumps({"type": word}, ensure_ascii=False).encode()


CONFIGURED = Expected(("configured",))
UNKNOWN = "error unknown_type"
BAD = "error bad_message"


def stream_cases(service: Service) -> list[Case]:
    """Every case of frames on an open stream."""
    return [
        *_framing(service),
        *_pings(),
        *_reserved(),
        *_fragmentation(service),
        *_utf8(),
        *_closing(),
        *_limits(service),
        *_compression(),
    ]


def _counted(service: Service, size: int) -> Expected:
    """What tells that a binary message of so many bytes has come whole."""
    if service == "tts":
        return Expected((BAD,), says=f"a binary frame of {size} bytes")
    return Expected(("done",), close=frozenset((1000,)), says=f'"audio_seconds": {round(size / 8000, 6)}')


def _binary_case(service: Service, number: str, section: str, sends: str, steps: tuple[Step, ...], size: int) -> Case:
    if service == "asr":
        return Case(number, section, sends, (*steps, CLOSE), _counted(service, size), MASK_RATE)
    return Case(number, section, sends, steps, _counted(service, size))


def _framing(service: Service) -> Iterator[Case]:
    for number, size in enumerate(SIZES, 1):
        expected = CONFIGURED if size >= len(CONFIG) else Expected((BAD,))
        yield Case(f"1.1.{number}", "5.2", f"text of {size} bytes", (text(padded(size)),), expected)
        payload = b"\xfe" * size
        yield _binary_case(service, f"1.2.{number}", "5.2", f"binary of {size} bytes", (binary(payload),), size)
    chopped = tuple((size, piece) for size in (125, 65536) for piece in (1, 997) if size // piece < 1000)
    for number, (size, piece) in enumerate(chopped, 8):
        sends = f"text of {size} bytes in pieces of {piece}"
        yield Case(f"1.1.{number}", "5.2", sends, (Slowly(text(padded(size)), piece),), CONFIGURED)
        steps = (Slowly(binary(b"\xfe" * size), piece),)
        yield _binary_case(service, f"1.2.{number}", "5.2", f"binary of {size} bytes in pieces of {piece}", steps, size)
    forms: tuple[tuple[frames.Form, int], ...] = ((16, 17), (16, 125), (64, 17), (64, 125), (64, 126), (64, 65535))
    for number, (form, size) in enumerate(forms, 1):
        # Section 5.2 has the sender use the fewest bytes; a receiver may take more, or fail the connection.
        data = frame(1, padded(size), form=form)
        sends = f"text of {size} bytes, its length in {form} bits"
        yield Case(f"1.3.{number}", "5.2", sends, (data,), Expected(("configured",), close=BROKEN | {GOES_ON}))
    huge = frame(1, b"", form=64, length=2**63 + 1)
    yield Case("1.3.7", "5.2", "a length with its highest bit set", (huge,), Expected(close=BROKEN | TOO_LARGE))
    for number, data in enumerate(
        (frame(1, CONFIG, mask=None), frame(9, b"x", mask=None), frame(1, b"", mask=None)), 1
    ):
        yield Case(f"1.4.{number}", "5.1", "a frame without a mask", (data,), Expected(close=BROKEN))
    yield Case("1.4.4", "5.3", "a mask of zeros", (frame(1, CONFIG, mask=bytes(4)),), CONFIGURED)
    yield Case("1.4.5", "5.1", "a message, then one without a mask", (text(CONFIG), frame(1, CONFIG, mask=None)),
               Expected(("configured",), close=BROKEN))  # fmt: skip


def _pings() -> Iterator[Case]:
    payloads = (b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125)
    for number, payload in enumerate(payloads, 1):
        yield Case(
            f"2.{number}", "5.5.2", f"ping of {len(payload)} bytes", (ping(payload),), Expected(pongs=(payload,))
        )
    for number, size in enumerate((126, 127, 65535, 65536), 1):
        data = (frame(9, b"\xfe" * size),)
        yield Case(f"2.5.{number}", "5.5", f"ping of {size} bytes", data, Expected(close=BROKEN | TOO_LARGE))
    yield Case("2.6", "5.5.2", "ping of 125 bytes, byte by byte", (Slowly(ping(b"\xfe" * 125)),),
               Expected(pongs=(b"\xfe" * 125,)))  # fmt: skip
    for number, payload in enumerate((b"", b"unasked", b"\xfe" * 125), 7):
        yield Case(f"2.{number}", "5.5.3", f"pong of {len(payload)} bytes, unasked", (pong(payload),), Expected())
    yield Case("2.9.1", "5.5.3", "a pong unasked, then a ping", (pong(b"a"), ping(b"b")), Expected(pongs=(b"b",)))
    ten = tuple(f"payload-{number}".encode() for number in range(10))
    yield Case("2.10", "5.5.2", "ten pings at once", (b"".join(map(ping, ten)),), Expected(pongs=ten))
    yield Case(
        "2.11", "5.5.2", "ten pings at once, byte by byte", (Slowly(b"".join(map(ping, ten))),), Expected(pongs=ten)
    )
    for size in range(126):
        payload = bytes(range(size))
        yield Case(f"2.12.{size}", "5.5.2", f"ping of {size} bytes", (ping(payload),), Expected(pongs=(payload,)))
    for number, opcode in enumerate((9, 10), 1):
        data = (frame(opcode, b"x", fin=False),)
        yield Case(f"2.13.{number}", "5.5", f"opcode {opcode} in fragments", data, Expected(close=BROKEN))


def _reserved() -> Iterator[Case]:
    for rsv in range(1, 8):
        for kind, opcode, payload in (("text", 1, CONFIG), ("ping", 9, b"x"), ("binary", 2, b"\x00\x00")):
            data = frame(opcode, payload, rsv=rsv)
            sends = f"{kind} with reserved bits {rsv:03b}"
            yield Case(f"3.{rsv}.{kind}", "5.2", sends, (data,), Expected(close=BROKEN))
    yield Case(
        "3.8",
        "5.2",
        "text, text with RSV1, ping",
        (text(CONFIG), frame(1, CONFIG, rsv=4), ping(b"late")),
        Expected(("configured",), close=BROKEN),
    )
    yield Case("3.9", "5.5.1", "a close frame with RSV1", (frame(8, b"\x03\xe8", rsv=4),), Expected(close=BROKEN))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        group = 1 if opcode < 8 else 2
        for number, payload in enumerate((b"", b"reserved"), 1):
            data = frame(opcode, payload)
            sends = f"opcode {opcode} with {len(payload)} bytes"
            yield Case(f"4.{group}.{opcode}.{number}", "5.2", sends, (data,), Expected(close=BROKEN))
        steps = (text(CONFIG), frame(opcode, b"reserved"), ping(b"late"))
        sends = f"text, opcode {opcode}, ping"
        yield Case(f"4.{group}.{opcode}.3", "5.2", sends, steps, Expected(("configured",), close=BROKEN))
    yield Case(
        "4.3.1", "5.2", "opcode 3 within a message", (text(b"{", fin=False), frame(3, b"x")), Expected(close=BROKEN)
    )


def _fragmentation(service: Service) -> Iterator[Case]:
    half = len(CONFIG) // 2
    first, last = text(CONFIG[:half], fin=False), more(CONFIG[half:], fin=True)
    for number, opcode in ((1, 9), (2, 10)):
        steps = (frame(opcode, b"a", fin=False), more(b"b", fin=True))
        yield Case(f"5.{number}", "5.5", f"opcode {opcode} in two fragments", steps, Expected(close=BROKEN))
    yield Case("5.3", "5.4", "text in two fragments", (first + last,), CONFIGURED)
    yield Case("5.4", "5.4", "text in two fragments, sent apart", (first, last), CONFIGURED)
    yield Case("5.5", "5.4", "text in two fragments, byte by byte", (Slowly(first + last),), CONFIGURED)
    held = Expected(("configured",), pongs=(b"between",))
    yield Case("5.6", "5.4", "a ping between two fragments", (first, ping(b"between"), last), held)
    yield Case("5.7", "5.4", "a ping between, in one piece", (first + ping(b"between") + last,), held)
    yield Case("5.8", "5.4", "a ping between, byte by byte", (Slowly(first + ping(b"between") + last),), held)
    for number, fin in enumerate((True, False)):
        for chopped in (False, True):
            data = more(b"nothing to continue", fin=fin) + text(CONFIG)
            step: Step = Slowly(data) if chopped else data
            yield Case(f"5.{9 + 2 * number + chopped}", "5.4", f"a continuation of nothing, FIN {fin:d}", (step,),
                       Expected(close=BROKEN))  # fmt: skip
    yield Case("5.13", "5.4", "three continuations of nothing", (more(b"a") * 3,), Expected(close=BROKEN))
    yield Case("5.15", "5.4", "a message, then a continuation of nothing", (first + last + more(b"again", fin=True),),
               Expected(("configured",), close=BROKEN))  # fmt: skip
    yield Case("5.16", "5.4", "continuations of nothing before each message", ((more(b"x", fin=False) + first + last) * 2,),
               Expected(close=BROKEN))  # fmt: skip
    yield Case("5.18", "5.4", "a second message within the first", (first, text(b"within")), Expected(close=BROKEN))
    yield Case("5.18.2", "5.4", "a binary one within a text", (first, binary(b"ab")), Expected(close=BROKEN))
    yield Case(
        "5.18.3", "5.4", "another begin within the first", (first, text(b"x", fin=False)), Expected(close=BROKEN)
    )
    pieces = [CONFIG[start : start + 4] for start in range(0, len(CONFIG), 4)]
    parts = [text(pieces[0], fin=False), *(more(piece) for piece in pieces[1:-1]), more(pieces[-1], fin=True)]
    pinged = b"".join(part + ping(f"{n}".encode()) for n, part in enumerate(parts))
    pongs = tuple(f"{n}".encode() for n in range(len(parts)))
    yield Case("5.19", "5.4", "a ping after every fragment", (pinged,), Expected(("configured",), pongs=pongs))
    yield Case(
        "5.20", "5.4", "the same, frame by frame", (Slowly(pinged, 11, 0.01),), Expected(("configured",), pongs=pongs)
    )
    empty = (text(b"", fin=False), more(b""), more(b""), more(CONFIG), more(b"", fin=True))
    yield Case("5.21", "5.4", "fragments without a byte around the message", empty, CONFIGURED)
    none = (text(b"", fin=False), more(b"", fin=True))
    yield Case("5.22", "5.4", "a message of two empty fragments", none, Expected((BAD,)))
    flood = text(b"", fin=False) + more(b"") * 20_000 + more(CONFIG, fin=True)
    yield Case("5.23", "5.4", "20,000 empty fragments, then the message", (flood,), CONFIGURED)
    single = b"".join(fragments(padded(5000), 1))
    yield Case("5.24", "5.4", "5000 fragments of one byte", (single,), CONFIGURED)
    sound = b"\xfe" * 3000
    yield _binary_case(
        service, "5.25", "5.4", "binary in fragments of 7 bytes", (b"".join(fragments(sound, 7, opcode=2)),), 3000
    )
    yield Case(
        "5.26", "5.4", "the close frame within a message", (first, frames.close()), Expected(close=BROKEN | {1000})
    )


def _utf8() -> Iterator[Case]:
    for number, word in VALID.items():
        data = quoting(word)
        expected = Expected((UNKNOWN,), says=json.dumps(repr(word), ensure_ascii=False)[1:-1])
        yield Case(number, "8.1", f"valid UTF-8 {word.encode().hex()}", (text(data),), expected)
        whole = b"".join(fragments(data, 1))
        yield Case(f"{number}.split", "8.1", f"{word.encode().hex()}, a byte a fragment", (whole,), expected)
    for number, wrong in INVALID.items():
        data = b'{"type":"' + wrong + b'"}'
        sends = f"not UTF-8: {wrong[:8].hex()}"
        yield Case(number, "8.1", sends, (text(data),), Expected(close=NOT_UTF8))
        whole = b"".join(fragments(data, 1))
        yield Case(f"{number}.split", "8.1", f"{sends}, a byte a fragment", (whole,), Expected(close=NOT_UTF8))
    word = "Hello-µ@ßöäüàá-UTF-8!!"
    expected = Expected((UNKNOWN,), says=word)
    yield Case("6.2.1", "8.1", "valid UTF-8", (text(quoting(word)),), expected)
    for size in (1, 2, 3, 5):
        whole = b"".join(fragments(quoting(word), size))
        yield Case(f"6.2.{size + 1}", "8.1", f"the same in fragments of {size} bytes", (whole,), expected)
    wrong = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"
    yield Case("6.3.1", "8.1", "a lone surrogate in the middle", (text(wrong),), Expected(close=NOT_UTF8))
    yield Case(
        "6.3.2", "8.1", "the same, a byte a fragment", (b"".join(fragments(wrong, 1)),), Expected(close=NOT_UTF8)
    )
    # Fail fast: the rest never comes, yet the connection must fail.
    yield Case("6.4.1", "8.1", "a first fragment that can't be UTF-8, and nothing more", (text(b"\xce\xba\xf4\x90", fin=False),),
               Expected(close=NOT_UTF8))  # fmt: skip
    yield Case("6.4.2", "8.1", "a second fragment that can't be, and nothing more",
               (text(b"\xce\xba\xf4", fin=False), more(b"\x90")), Expected(close=NOT_UTF8))  # fmt: skip
    yield Case("6.4.3", "8.1", "the same in one frame, byte by byte", (Slowly(text(b"\xce\xba\xf4\x90\x80\x80")),),
               Expected(close=NOT_UTF8))  # fmt: skip
    yield Case("6.4.4", "8.1", "text that is not UTF-8 and a close frame, in one piece", (text(b"\xff") + frames.close(),),
               Expected(close=NOT_UTF8 | {1000}))  # fmt: skip
    yield Case("6.4.5", "8.1", "a good message, the same, and another message", (text(CONFIG) + text(b"\xff") + frames.close() + text(CONFIG),),
               Expected(("configured",), close=NOT_UTF8 | {1000}))  # fmt: skip
    control = b'{"type":"\x00"}'
    yield Case("6.24.1", "8.1", "NUL in a text frame: UTF-8, but not JSON", (text(control),), Expected((BAD,)))
    yield Case(
        "6.24.2", "8.1", "a byte order mark before the JSON", (text(b"\xef\xbb\xbf" + CONFIG),), Expected((BAD,))
    )
    lone = b'{"type":"\\ud800"}'
    yield Case("6.24.3", "8.1", "a lone surrogate by a JSON escape", (text(lone),), Expected((BAD,)))


VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
REGISTERED_SINCE = (1012, 1013, 1014)
INVALID_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)


def _closing() -> Iterator[Case]:
    done = Expected(close=frozenset((1000,)))
    yield Case("7.1.1", "5.5.1", "a message, then close", (text(CONFIG), frames.close()),
               Expected(("configured",), close=frozenset((1000,))))  # fmt: skip
    yield Case("7.1.2", "5.5.1", "two close frames", (frames.close() * 2,), done)
    yield Case("7.1.3", "5.5.1", "close, then a ping", (frames.close() + ping(b"late"),), done)
    yield Case("7.1.4", "5.5.1", "close, then a message", (frames.close() + text(CONFIG),), done)
    yield Case("7.1.5", "5.5.1", "close, then the rest of a message",
               (text(CONFIG[:5], fin=False) + frames.close() + more(CONFIG[5:], fin=True),),
               Expected(close=BROKEN | {1000}))  # fmt: skip
    yield Case("7.3.1", "5.5.1", "close without a code", (frames.close(None),), Expected(close=frozenset((1005, 1000))))
    yield Case("7.3.2", "5.5.1", "close with one byte", (frame(8, b"\x03"),), Expected(close=BROKEN))
    yield Case("7.3.3", "5.5.1", "close with a code", (frames.close(),), done)
    yield Case("7.3.4", "5.5.1", "close with a reason", (frames.close(1000, "Hello World!"),), done)
    yield Case("7.3.5", "5.5.1", "close with a reason of 123 bytes", (frames.close(1000, "*" * 123),), done)
    yield Case(
        "7.3.6", "5.5.1", "close with a reason of 124 bytes", (frames.close(1000, "*" * 124),), Expected(close=BROKEN)
    )
    yield Case("7.5.1", "5.5.1", "a reason that is not UTF-8", (frames.close(1000, b"\xce\xba\xed\xa0\x80"),),
               Expected(close=NOT_UTF8 | BROKEN))  # fmt: skip
    yield Case("7.6.1", "5.5.1", "close in fragments", (frame(8, b"\x03\xe8", fin=False),), Expected(close=BROKEN))
    for number, code in enumerate(VALID_CODES, 1):
        yield Case(f"7.7.{number}", "7.4", f"close with {code}", (frames.close(code),),
                   Expected(close=frozenset((code, 1000))))  # fmt: skip
    for number, code in enumerate(REGISTERED_SINCE, 1):
        # Registered with IANA after the RFC: an endpoint that does not know them yet may take them for wrong.
        yield Case(f"7.8.{number}", "7.4", f"close with {code}", (frames.close(code),),
                   Expected(close=BROKEN | {code, 1000}))  # fmt: skip
    for number, code in enumerate(INVALID_CODES, 1):
        yield Case(f"7.9.{number}", "7.4", f"close with {code}", (frames.close(code),), Expected(close=BROKEN))
    yield Case("7.10", "7.1", "our own `close`", (CLOSE,), Expected(("done",), close=frozenset((1000,))))


def _limits(service: Service) -> Iterator[Case]:
    most = MAX_MESSAGE_BYTES
    for number, size in enumerate((64 * 1024, 256 * 1024, most), 1):
        yield Case(f"9.1.{number}", "10.4", f"text of {size} bytes", (text(padded(size)),), CONFIGURED)
        yield _binary_case(service, f"9.2.{number}", "10.4", f"binary of {size} bytes", (binary(b"\xfe" * size),), size)
    for number, piece in enumerate((64, 1024, 65536), 1):
        whole = b"".join(fragments(padded(256 * 1024), piece))
        yield Case(f"9.3.{number}", "10.4", f"text of 256 KiB in fragments of {piece}", (whole,), CONFIGURED)
        whole = b"".join(fragments(b"\xfe" * 256 * 1024, piece, opcode=2))
        yield _binary_case(
            service, f"9.4.{number}", "10.4", f"binary of 256 KiB in fragments of {piece}", (whole,), 256 * 1024
        )
    for number, piece in enumerate((512, 4096), 1):
        data = (Slowly(text(padded(256 * 1024)), piece),)
        yield Case(f"9.5.{number}", "10.4", f"text of 256 KiB in pieces of {piece}", data, CONFIGURED)
    refused = Expected(close=TOO_LARGE)
    yield Case("L.1", "10.4", "text of 1 MiB and a byte", (text(padded(most + 1)),), refused)
    yield Case("L.2", "10.4", "binary of 1 MiB and a byte", (binary(bytes(most + 1)),), refused)
    yield Case("L.3", "10.4", "binary of 16 MiB", (binary(bytes(16 * most)),), refused)
    whole = b"".join(fragments(padded(most + 1), 65536))
    yield Case("L.4", "10.4", "text of 1 MiB and a byte in fragments", (whole,), refused)
    yield Case("L.5", "10.4", "a length of 2^40, and no payload", (frame(2, b"", form=64, length=2**40),), refused)
    whole = b"".join(fragments(bytes(16 * most), 65536, opcode=2))
    yield Case("L.6", "10.4", "binary of 16 MiB in fragments", (whole,), refused)


def _compression() -> Iterator[Case]:
    offers = (
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=15, permessage-deflate",
        "x-webkit-deflate-frame",
        "permessage-bzip2; level=9",
    )
    for number, offer in enumerate(offers, 1):
        headers = (("Sec-WebSocket-Extensions", offer),)
        yield Case(
            f"12.1.{number}", "9.1", f"{offer} is offered, and declined", (text(CONFIG),), CONFIGURED, "", headers
        )
    headers = (("Sec-WebSocket-Extensions", "permessage-deflate"),)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = packer.compress(CONFIG) + packer.flush(zlib.Z_SYNC_FLUSH)
    data = frame(1, small[:-4], rsv=4)
    yield Case(
        "12.2.1", "5.2", "a compressed frame though it was declined", (data,), Expected(close=BROKEN), "", headers
    )
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush(zlib.Z_SYNC_FLUSH)
    data = frame(2, bomb[:-4], rsv=4)
    yield Case("12.2.2", "5.2", "256 MiB of zeros, compressed", (data,), Expected(close=BROKEN), "", headers)


def handshake_cases(path: str) -> list[HandshakeCase]:
    """Every case of an opening handshake."""
    good = upgrade_request(path)

    def changed(old: str, new: str) -> bytes:
        assert old.encode("latin-1") in good, old
        return good.replace(old.encode("latin-1"), new.encode("latin-1"), 1)

    def added(*lines: str) -> bytes:
        return changed("\r\n\r\n", "\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n")

    version, key = "Sec-WebSocket-Version: 13\r\n", f"Sec-WebSocket-Key: {KEY}\r\n"
    upgrade, connection, host = "Upgrade: websocket\r\n", "Connection: Upgrade\r\n", "Host: chorus\r\n"
    opened, refused, unfit = frozenset((101,)), frozenset((400,)), frozenset((400, 426))
    other_version: dict[str, str | None] = {"sec-websocket-version": "13"}
    large = frozenset((400, 414, 431))
    made: list[tuple[str, str, Step, frozenset[int], dict[str, str | None]]] = [
        ("4.2.1", "a faultless handshake", good, opened, {"sec-websocket-protocol": None}),
        ("4.2.1", "the same, byte by byte", Slowly(good), opened, {}),
        ("4.2.1", "header names in lower case", changed("Upgrade: websocket\r\nConnection", "upgrade: websocket\r\nconnection"), opened, {}),
        ("4.2.1", "Upgrade: WebSocket", changed("websocket", "WebSocket"), opened, {}),
        ("4.2.1", "Connection: keep-alive, Upgrade", changed(connection, "Connection: keep-alive, Upgrade\r\n"), opened, {}),
        ("4.2.1", "no Upgrade", changed(upgrade, ""), unfit, {}),
        ("4.2.1", "Upgrade: h2c", changed("Upgrade: websocket", "Upgrade: h2c"), unfit, {}),
        ("4.2.1", "Upgrade: websocketx", changed("websocket", "websocketx"), unfit, {}),
        ("4.2.1", "no Connection", changed(connection, ""), unfit, {}),
        ("4.2.1", "Connection: close", changed(connection, "Connection: close\r\n"), unfit, {}),
        ("4.2.1", "no key", changed(key, ""), refused, {}),
        ("4.2.1", "an empty key", changed(KEY, ""), refused, {}),
        ("4.2.1", "a key that is not base64", changed(KEY, "!" * 24), refused, {}),
        ("4.2.1", "a key of 15 bytes", changed(KEY, "AAAAAAAAAAAAAAAAAAAA"), refused, {}),
        ("4.2.1", "a key of 17 bytes", changed(KEY, "AAAAAAAAAAAAAAAAAAAAAAA="), refused, {}),
        ("4.2.1", "two keys", changed(key, key * 2), refused, {}),
        ("4.4", "no version", changed(version, ""), unfit, other_version),
        ("4.4", "version 0", changed("Version: 13", "Version: 0"), unfit, other_version),
        ("4.4", "version 8", changed("Version: 13", "Version: 8"), unfit, other_version),
        ("4.4", "version 14", changed("Version: 13", "Version: 14"), unfit, other_version),
        ("4.4", "version thirteen", changed("Version: 13", "Version: thirteen"), unfit, other_version),
        ("4.4", "two versions", changed(version, version * 2), unfit, other_version),
        ("4.2.1", "no Host", changed(host, ""), refused, {}),
        ("4.2.1", "two Hosts", changed(host, host * 2), refused, {}),
        ("4.2.1", "HTTP/1.0", changed("HTTP/1.1", "HTTP/1.0"), unfit | {505}, {}),
        ("4.2.1", "HTTP/3.7", changed("HTTP/1.1", "HTTP/3.7"), frozenset((400, 505)), {}),
        ("4.2.1", "POST", changed("GET", "POST"), frozenset((400, 405)), {}),
        ("4.2.1", "DELETE", changed("GET", "DELETE"), frozenset((400, 405)), {}),
        ("4.2.1", "a method that nobody knows", changed("GET", "FETCH"), frozenset((400, 405)), {}),
        ("4.2.1", "a body", added("Content-Length: 5") + b"hello", unfit | opened, {}),
        ("4.2.1", "a chunked body", added("Transfer-Encoding: chunked") + b"0\r\n\r\n", unfit | opened, {}),
        ("4.2.1", "a body of 1 TiB", added("Content-Length: 1099511627776"), unfit | opened | {413}, {}),
        ("4.2.1", "two lengths of a body", added("Content-Length: 1", "Content-Length: 2"), refused, {}),
        ("4.2.1", "another path", changed(path, "/v1/stream/nothing"), frozenset((404,)), {}),
        ("4.2.1", "a path with ..", changed(path, "/v1/../../../etc/passwd"), frozenset((400, 404)), {}),
        ("4.2.1", "a path with NUL", changed(path, path + "%00"), frozenset((400, 404)), {}),
        ("4.2.1", "a path beyond ASCII", changed(path, "/v1/stré\xff"), frozenset((400, 404)), {}),
        ("4.2.1", "a query beyond ASCII", changed(path, path + "?language=\xff"), refused, {}),
        ("4.2.1", "an unknown query parameter", changed(path, path + "?nothing=1"), refused, {}),
        ("4.2.1", "a query parameter twice", changed(path, path + "?speed=1&speed=2&language=en&language=en"), refused, {}),
        ("4.2.1", "an address with its host", changed(path, "http://chorus" + path), opened, {}),
        ("4.2.1", "an address without its first slash", changed(path, path[1:]), opened | refused | {404}, {}),
        ("4.2.1", "an address that is a star", changed(path, "*"), frozenset((400, 404)), {}),
        ("4.2.1", "an address that is none", changed(path, "http://[::"), frozenset((400, 404)), {}),
        ("4.2.1", "50 more headers", added(*(f"X-{n}: {n}" for n in range(50))), opened, {}),
        ("4.2.1", "200 more headers", added(*(f"X-{n}: {n}" for n in range(200))), large, {}),
        ("4.2.1", "a header of 7 KiB", added("X: " + "x" * 7 * 1024), opened, {}),
        ("4.2.1", "a header of 9 KiB", added("X: " + "x" * 9 * 1024), large, {}),
        ("4.2.1", "a header of 100 KiB", added("X: " + "x" * 100 * 1024), large, {}),
        ("4.2.1", "100 headers of 1 KiB", added(*(f"X-{n}: " + "x" * 1024 for n in range(100))), large, {}),
        ("4.2.1", "an address of 9 KiB", changed(path, path + "?" + "x" * 9 * 1024), large, {}),
        ("4.2.1", "an address of 100 KiB", changed(path, path + "?" + "x" * 100 * 1024), large, {}),
        ("4.2.1", "NUL in a header", added("X: a\x00b"), refused, {}),
        ("4.2.1", "a header beyond ASCII", added("X: \xe9\xff"), opened | refused, {}),
        ("4.2.1", "a folded header", added("X: a", " b"), opened | refused, {}),
        ("4.2.1", "a header without a name", added(": a"), opened | refused, {}),
        ("4.2.1", "a header without a colon", added("colon"), opened | refused, {}),
        ("4.2.1", "bytes at random", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 random \xff\xfe\r\n\r\n", refused, {}),
        ("4.2.1", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frozenset((400, 505)), {}),
        ("1.9", "subprotocol chorus", added("Sec-WebSocket-Protocol: chorus"), opened, {"sec-websocket-protocol": "chorus"}),
        ("1.9", "subprotocols of others", added("Sec-WebSocket-Protocol: soap, wamp"), opened, {"sec-websocket-protocol": None}),
        ("1.9", "subprotocols that are none", added("Sec-WebSocket-Protocol: ,,;=\""), opened | refused, {"sec-websocket-protocol": None}),
        ("9.1", "an extension that is none", added("Sec-WebSocket-Extensions: ;;=,"), opened | refused, {"sec-websocket-extensions": None}),
        ("10.2", "a wild Origin", added("Origin: null", "X-Forwarded-For: ::1, \xff"), opened, {}),
    ]  # fmt: skip
    cases = [
        HandshakeCase(f"H.{number}", section, sends, request, statuses, headers)
        for number, (section, sends, request, statuses, headers) in enumerate(made, 1)
    ]
    slow: list[tuple[str, Step]] = [
        ("nothing is sent", b""),
        ("half of a handshake is sent", good[:80]),
        ("a handshake that never ends, a header a second", Slowly(good[:-2] + b"X: y\r\n" * 60, 6, 0.5)),
    ]
    for number, (sends, request) in enumerate(slow, len(cases) + 1):
        cases.append(HandshakeCase(f"H.{number}", "4.2", sends, request, frozenset((400, 408)), slow=True))
    return cases
