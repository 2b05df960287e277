"""What the fuzzer sends: hypothesis strategies of sessions on a stream, and of requests by HTTP."""

from __future__ import annotations

import json
import random
import string
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import soundfile
from hypothesis import strategies as st
from websockets.frames import Opcode

from abuse import frames
from abuse.targets import Service
from abuse.utf8 import INVALID
from benchmarks.replica import ROOT
from chorus.wire import asr, tts
from chorus.wire.common import MAX_MESSAGE_BYTES

End = Literal["probe", "close", "fin", "rst"]
TOKEN = "probe-of-the-fuzzer"
"""A type that no service knows: its error, which quotes it, tells that all before has been read."""


@dataclass(frozen=True)
class Action:
    """One input on an open stream: bytes that are sent at once."""

    kind: str
    data: bytes
    errors: int = 0
    """How many errors at least answer it."""
    count: int = 1
    """Inputs in it."""
    codes: frozenset[int] | None = None
    """Close codes that it may end the stream with; None where the stream must go on."""

    def __repr__(self) -> str:
        tail = f"… ({len(self.data)} bytes)" if len(self.data) > 300 else ""
        return f"Action({self.kind!r}, {self.data[:300]!r}{tail})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For hypothesis, which would print a megabyte."""
        printer.text(repr(self))


@dataclass(frozen=True)
class Session:
    """A stream's whole life."""

    query: str
    actions: tuple[Action, ...]
    end: End


@dataclass(frozen=True)
class HttpRequest:
    """One request, or what looks like one."""

    data: bytes
    whole: bool
    """Whether it must be answered."""
    admin: bool
    """Whether it goes to the admin port."""

    def __repr__(self) -> str:
        return f"HttpRequest({self.data[:500]!r}, admin={self.admin})"


DONE, BROKEN, NOT_UTF8, TOO_LARGE = (frozenset((code,)) for code in (1000, 1002, 1007, 1009))
ANY = frozenset((1000, 1002, 1003, 1005, 1007, 1008, 1009))

SCRIPTS = (
    "Hello, world.", "مرحبا بالعالم", "שלום עולם", "你好，世界。", "こんにちは世界", "안녕하세요 세계", "สวัสดีชาวโลก",
    "नमस्ते दुनिया", "Γειά σου Κόσμε", "Привет, мир", "Բարեւ աշխարհ", "გამარჯობა", "ሰላም ልዑል", "வணக்கம்", "ᚠᛇᚻ᛫ᛒᛦᚦ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "👩‍👩‍👧‍👦🏳️‍🌈", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞", "\u202eright to left\u202c", "\u0000\u0001\u0007\u001b[31m\u007f\u0085\u2028\ufeff",
    "[[ h@l'oU ]]", "[[ unclosed", "]] [[", "<speak>&amp;</speak>", "$1,234,567.89 on 31/02/2026 at 25:61",
    "10" * 60, "." * 200, "!?" * 100, "a" * 400, "-" * 300, " \t\n" * 50, "I. " * 60, "1." * 100, "(((" * 60,
)  # fmt: skip
"""Text of every script, of control characters, and of what normalisers stumble over."""

text_of_all = st.one_of(
    st.sampled_from(SCRIPTS),
    st.text(max_size=60),
    st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=0x9F), max_size=60),
    st.text(alphabet=string.digits + ".,:/$%€+-() ", max_size=80),
)
numbers = st.one_of(
    st.integers(-3, 50_000),
    st.integers(),
    st.sampled_from([2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 10**400]),
    st.floats(),
    st.sampled_from([1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, text_of_all)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=8,
)


def _dumps(value: Any) -> bytes:
    """JSON with NaN and Infinity as Python writes them, which is none."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _text(kind: str, payload: bytes, errors: int = 0, codes: frozenset[int] | None = None) -> Action:
    return Action(kind, frames.text(payload), errors, codes=codes)


def _random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


random_bytes = st.builds(_random_bytes, st.integers(0, 2**32), st.integers(0, 4000))
plausible = {
    "encoding": st.sampled_from(["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus", "mp3", "flac", "PCM", ""]),
    "sample_rate": st.sampled_from([0, 7999, 8000, 8001, 11025, 16000, 44100, 48000, 48001, -1]),
    "language": st.sampled_from(["en", "auto", "de", "xx", "", "e" * 17]),
    "voice": st.sampled_from(["en_US-joe-medium", "none", "../../etc/passwd", ""]),
    "request_id": st.one_of(st.sampled_from(["a", "b", "", "x" * 128, "x" * 129, "request-1"]), st.text(max_size=10)),
    "text": text_of_all,
}


def _client_types(service: Service) -> tuple[str, ...]:
    return asr.CLIENT_TYPES if service == "asr" else tts.CLIENT_TYPES


def _setting_names(service: Service) -> tuple[str, ...]:
    names: tuple[str, ...] = (asr.Settings if service == "asr" else tts.Settings).__struct_fields__
    return names


@st.composite
def known_message(draw: st.DrawFn, service: Service) -> Action:
    """A type that the service knows, with fields that it may know, of any value."""
    kind = draw(st.sampled_from([each for each in _client_types(service) if each != "close"]))
    names = [*_setting_names(service), "text", "request_id", "type"]
    body: dict[str, Any] = {}
    for name in draw(st.lists(st.one_of(st.sampled_from(names), st.text(max_size=8)), max_size=4)):
        body[name] = draw(st.one_of(plausible.get(name, values), values))
    body["type"] = kind
    return _text(f"message {kind}", _dumps(body))


@st.composite
def orderly_message(draw: st.DrawFn, service: Service) -> Action:
    """A message that is right in itself, at whatever moment."""
    names = {"request_id": draw(st.sampled_from(["a", "b"]))} if draw(st.booleans()) else {}
    kind = draw(st.sampled_from([each for each in _client_types(service) if each != "close"]))
    if kind in ("synthesize", "text"):
        return _text(f"message {kind}", _dumps({"type": kind, "text": draw(text_of_all), **names}))
    if kind in ("flush", "cancel"):
        return _text(f"message {kind}", _dumps({"type": kind, **names}))
    return _text(f"message {kind}", _dumps({"type": kind}))


@st.composite
def wrong_message(draw: st.DrawFn, service: Service) -> Action:
    """Text that no service takes: it must be answered by an error."""
    whole = _dumps({"type": draw(st.sampled_from(_client_types(service))), "text": draw(text_of_all)})
    depth = draw(st.sampled_from([10, 500, 2000, 100_000]))
    made: Callable[[], tuple[str, bytes]] = draw(
        st.sampled_from(
            [
                lambda: ("truncated JSON", whole[: draw(st.integers(0, len(whole.decode()) - 1))].decode("utf-8", "ignore").encode()),
                lambda: ("nested lists", b"[" * depth),
                lambda: ("nested lists, closed", b"[" * depth + b"]" * depth),
                lambda: ("nested objects", b'{"type":' * depth + b"1" + b"}" * depth),
                lambda: ("not an object", _dumps(draw(st.one_of(scalars, st.lists(scalars, max_size=3))))),
                lambda: ("no type", _dumps(draw(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "type"), values, max_size=4)))),
                lambda: ("type of another kind", _dumps({"type": draw(st.one_of(st.none(), numbers, st.lists(scalars)))})),
                lambda: ("unknown type", _dumps({"type": draw(st.text(max_size=100)) + "?"})),
                lambda: ("unknown setting", _dumps({"type": "config", draw(st.text(max_size=100)) + "?": 1})),
                lambda: ("NaN", b'{"type":"config","speed":NaN,"vad_threshold":NaN}'),
                lambda: ("Infinity", b'{"type":"config","speed":-Infinity,"start_offset_s":Infinity}'),
                lambda: ("huge number", b'{"type":"config","sample_rate":' + b"9" * draw(st.sampled_from([20, 400, 5000])) + b"}"),
                lambda: ("duplicate keys", b'{"type":"config","type":"nothing"}'),
                lambda: ("huge key", _dumps({"type": "config", "\x80" * draw(st.sampled_from([1000, 200_000])): 1})),
                lambda: ("huge value", _dumps({"type": "config", "encoding": "\x80" * draw(st.sampled_from([1000, 200_000]))})),
                lambda: ("lone surrogate", b'{"type":"config","language":"\\ud800"}'),
                lambda: ("empty", b""),
                lambda: ("extra field", _dumps({"type": draw(st.sampled_from([t for t in _client_types(service) if t not in ("config", "close")])), "surprise": 1, "text": 2, "request_id": 3})),
            ]
        )
    )  # fmt: skip
    kind, payload = made()
    return _text(kind, payload, 1)


@st.composite
def audio(draw: st.DrawFn, service: Service) -> Action:
    """A binary frame: audio of the wrong kind, mostly."""
    kind, payload = draw(
        st.one_of(
            st.tuples(st.just("audio: noise"), random_bytes),
            st.tuples(st.just("audio: odd bytes"), st.binary(max_size=3)),
            st.tuples(st.just("audio: Opus that is none"), st.builds(lambda data: b"OggS\x00\x02" + data, random_bytes)),
            st.tuples(st.just("audio: a WAV file"), st.builds(lambda data: b"RIFF\xff\xff\xff\xffWAVEfmt " + data, random_bytes)),
            st.tuples(
                st.just("audio: NaN and infinities"),
                st.lists(st.sampled_from([float("nan"), float("inf"), -float("inf"), 3e38, 1e-40, 0.5]), max_size=64).map(
                    lambda found: struct.pack(f"<{len(found)}f", *found)
                ),
            ),
            st.tuples(st.just("audio: silence"), st.integers(0, 32_000).map(bytes)),
            st.tuples(st.just("audio: full scale"), st.integers(0, 8000).map(lambda count: b"\xff\x7f\x00\x80" * count)),
        )
    )  # fmt: skip
    return Action(kind, frames.binary(payload), 1 if service == "tts" else 0)


@cache
def _speech() -> bytes:
    """Real speech, 16 kHz, 16 bits."""
    samples, _ = soundfile.read(ROOT / "tests/data/speech/367-130732-0001.flac", dtype="int16")
    return bytes(samples.tobytes())


speech = st.builds(
    lambda start, seconds: Action("audio: speech", frames.binary(_speech()[start : start + 32_000 * seconds])),
    st.integers(0, 60_000).map(lambda n: 2 * n),
    st.integers(1, 2),
)


harmless_frames = st.one_of(
    st.binary(max_size=125).map(lambda payload: Action("ping", frames.ping(payload))),
    st.binary(max_size=125).map(lambda payload: Action("pong", frames.pong(payload))),
    st.integers(2, 400).map(lambda count: Action("ping flood", frames.ping(b"x" * 100) * count)),
    st.integers(2, 300).map(lambda count: Action("message flood", frames.text(b'{"type":"?"}') * count, count)),
    st.integers(2, 5000).map(
        lambda count: Action(
            "empty fragments", frames.text(b"", fin=False) + frames.more(b"") * count + frames.more(b"{", fin=True), 1
        )
    ),
    st.tuples(st.integers(1, 7), st.text(max_size=30)).map(
        lambda made: Action("fragments", b"".join(frames.fragments(_dumps({"type": made[1] + "?"}), made[0])), 1)
    ),
)


@st.composite
def broken_frames(draw: st.DrawFn) -> Action:
    """Bytes that fail the connection, or may."""
    kind = draw(st.sampled_from(["utf8", "frame", "unmasked", "length", "garbage", "bomb", "close", "continuation"]))
    if kind == "utf8":
        wrong = draw(st.sampled_from(list(INVALID.values())))
        return _text("not UTF-8", b'{"type":"' + wrong + b'"}', codes=NOT_UTF8)
    if kind == "frame":
        data = frames.frame(
            draw(st.integers(0, 15)),
            draw(st.binary(max_size=200)),
            fin=draw(st.booleans()),
            rsv=draw(st.integers(0, 7)),
        )
        return Action("random frame", data, codes=ANY)
    if kind == "unmasked":
        return Action("unmasked frame", frames.frame(1, b"{}", mask=None), codes=BROKEN)
    if kind == "length":
        length = draw(st.sampled_from([2**63 + 1, 2**62, 2**32, MAX_MESSAGE_BYTES + 1]))
        return Action("huge length", frames.frame(2, b"", form=64, length=length), codes=BROKEN | TOO_LARGE)
    if kind == "garbage":
        return Action("garbage", draw(random_bytes), codes=ANY)
    if kind == "bomb":
        return Action("compression bomb", _bomb(), codes=BROKEN)
    if kind == "close":
        code = draw(st.integers(0, 65535))
        return Action("close frame", frames.close(code, draw(st.binary(max_size=130))), codes=ANY | {code})
    return Action("continuation of nothing", frames.more(b"x"), codes=BROKEN)


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return frames.frame(Opcode.BINARY, packed[:-4], rsv=4)


@cache
def _large(size: int, opcode: int) -> bytes:
    return frames.frame(opcode, b" " * size)


large = st.sampled_from(
    [
        Action("1 MiB of spaces", _large(MAX_MESSAGE_BYTES, 1), 1),
        Action("1 MiB and a byte", _large(MAX_MESSAGE_BYTES + 1, 1), codes=TOO_LARGE),
        Action("16 MiB binary", _large(16 * MAX_MESSAGE_BYTES, 2), codes=TOO_LARGE),
    ]
)
closing = st.just(_text("message close", b'{"type":"close"}', codes=DONE))


TOKENS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-0", b"1e999", b"NaN", b"\\u0000", b"\\ud83d", b"\\",
    b"\xe2\x80\xae", b"\xf0\x9f\x98\x80", b"\x00", b"\x7f", b"99999999999999999999", b'"type":"', b'"request_id":', b"  ",
)  # fmt: skip


def mutant(payload: bytes, chance: random.Random) -> bytes:
    """A message with some of its bytes changed, taken out, put in, or doubled; UTF-8 as before."""
    changed = bytearray(payload)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(changed))
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(128)])
            case 1:
                del changed[at : at + chance.randint(1, 8)]
            case 2:
                changed[at:at] = chance.choice(TOKENS)
            case 3:
                changed[at:at] = changed[at : at + chance.randint(1, 20)]
            case _:
                del changed[at:]
    return changed.decode("utf-8", "ignore").encode()


def _mutants(payload: bytes, seed: int, count: int) -> Action:
    chance = random.Random(seed)
    made = (mutant(payload, chance) for _ in range(count))
    # None may end the stream in order: what comes after would have no answer.
    kept = [each for each in made if b"close" not in each]
    return Action("mutant", b"".join(map(frames.text, kept)), count=len(kept))


def mutants(service: Service) -> st.SearchStrategy[Action]:
    """Many messages that are nearly one that the service knows."""
    bodies = [{"type": kind} for kind in _client_types(service) if kind != "close"]
    bodies += [{"type": "config", name: value} for name, value in _PLAIN_SETTINGS[service].items()]
    if service == "tts":
        bodies += [
            {"type": "synthesize", "text": "Hello.", "request_id": "a", "encoding": "opus"},
            {"type": "text", "text": "Hello ", "request_id": "b"},
            {"type": "flush", "request_id": "b"},
            {"type": "cancel", "request_id": "a"},
        ]
    payloads = st.sampled_from([_dumps(body) for body in bodies])
    return st.builds(_mutants, payloads, st.integers(0, 2**32), st.integers(1, 300))


_PLAIN_SETTINGS: dict[Service, dict[str, Any]] = {
    "asr": {"sample_rate": 16000, "language": "en", "prompt": "Hello", "vad_threshold": 0.5, "interim_results": True},
    "tts": {"voice": "en_US-joe-medium", "speed": 1.5, "sample_rate": 22050, "speaker": 0, "word_timestamps": False},
}


def actions(service: Service) -> st.SearchStrategy[Action]:
    """One input; by their shares, as some cost a thousand times what others do."""
    usual: list[tuple[int, st.SearchStrategy[Action]]] = [
        (24, mutants(service)),
        (30, wrong_message(service)),
        (20, known_message(service)),
        (12, orderly_message(service)),
        (14, audio(service)),
        (12, harmless_frames),
        (2, broken_frames()),
        (1, closing),
    ]
    if service == "asr":
        usual.append((1, speech))
    pool = [strategy for share, strategy in usual for _ in range(share)]
    return st.integers(0, 1999).flatmap(lambda n: large if n == 1999 else pool[n % len(pool)])


@st.composite
def queries(draw: st.DrawFn, service: Service) -> str:
    """A stream's query string; half of them none."""
    if draw(st.booleans()):
        return ""
    safe = st.text(alphabet=string.ascii_letters + string.digits + "%&=;+._-[]{}'\"\\|^`~@!$*(),:/?", max_size=20)
    pair = st.one_of(
        st.builds(lambda name, value: f"{name}={value}", st.sampled_from(_setting_names(service)), safe),
        st.builds(lambda value: f"encoding={value}", plausible["encoding"]),
        st.builds(lambda value: f"sample_rate={value}", plausible["sample_rate"]),
        safe,
    )
    return "&".join(draw(st.lists(pair, max_size=3)))


def sessions(service: Service) -> st.SearchStrategy[Session]:
    """Streams of up to forty actions."""
    ends: list[End] = ["probe", "probe", "probe", "close", "fin", "rst"]
    return st.builds(
        Session, queries(service), st.lists(actions(service), min_size=4, max_size=40).map(tuple), st.sampled_from(ends)
    )


@st.composite
def requests(draw: st.DrawFn, path: str) -> HttpRequest:
    """A request of HTTP, right or wrong, to either port."""
    admin = draw(st.booleans())
    if draw(st.integers(0, 9)) == 0:
        return HttpRequest(draw(st.binary(min_size=1, max_size=300)) + b"\r\n\r\n", False, admin)
    method = draw(
        st.sampled_from(["GET"] * 6 + ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "get"])
    )
    printable = st.text(
        alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=30
    )
    where = draw(
        st.one_of(
            st.sampled_from([path, "/health", "/metrics", "/", "/health/", "//health", "/v1", "/nginx_status", "/%2e%2e/etc/passwd", "/%00", "/%ff"]),
            printable.map(lambda rest: f"/{rest}"),
        )
    )  # fmt: skip
    if draw(st.booleans()):
        where += "?" + draw(printable)
    value = st.text(
        alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60
    )
    names = ["X-Request-ID", "Origin", "Authorization", "Cookie", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
             "X-Forwarded-For", "Accept-Encoding", "Range", "If-Modified-Since", "Accept", "User-Agent"]  # fmt: skip
    headers = [f"{draw(st.sampled_from(names))}: {draw(value)}" for _ in range(draw(st.integers(0, 4)))]
    if draw(st.integers(0, 19)) == 0:
        headers += [f"X-{n}: {'y' * draw(st.sampled_from([1, 500]))}" for n in range(draw(st.sampled_from([60, 300])))]
    body = draw(st.binary(max_size=100)) if draw(st.integers(0, 5)) == 0 else b""
    if body:
        headers.append(f"Content-Length: {len(body)}")
    lines = [f"{method} {where} HTTP/1.1", "Host: chorus", *headers, "", ""]
    return HttpRequest("\r\n".join(lines).encode("latin-1") + body, True, admin)
