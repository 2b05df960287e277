"""The recognition protocol object: what it sends, what it believes, and what it does not put up with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus.asr import AsrProtocol
from chorus.errors import ConnectionLost, ContractViolation, StreamError
from chorus.resend import ResendBuffer
from chorus.wire import asr as wire
from chorus.wire.common import Configured, Error, Ready, encode
from chorus.wire.settings import as_dict

pytestmark = pytest.mark.unit

SECOND = bytes(32000)
"""Of 16 kHz samples in 16 bits."""


def ready(**settings: Any) -> Ready:
    return Ready(connection_id="c", instance="i", service="asr", model="m", settings=as_dict(wire.Settings(**settings)))


def start(utterance: int, time: float = 0.0) -> wire.SpeechStart:
    return wire.SpeechStart(utterance=utterance, time=time)


def partial(utterance: int, text: str, stable: str = "") -> wire.Partial:
    return wire.Partial(utterance=utterance, text=text, stable_text=stable, start_time=0, end_time=1)


def end(utterance: int, time: float = 1.0) -> wire.SpeechEnd:
    return wire.SpeechEnd(utterance=utterance, time=time)


def final(utterance: int | None, text: str = "hello", begin: float = 0.0, end: float = 1.0, **more: Any) -> wire.Final:
    fields = {"confidence": 0.9, "from_finalize": utterance is None, **more}
    return wire.Final(
        utterance=utterance, text=text, start_time=begin, end_time=end, language="en", latency_ms=5, **fields
    )


def reset_done(utterance: int | None, seconds: float = 0.0) -> wire.ResetDone:
    return wire.ResetDone(utterance=utterance, dropped_seconds=seconds)


def done(audio: float, speech: float, silence: float, dropped: float = 0.0, utterances: int = 1) -> wire.Done:
    return wire.Done(
        audio_seconds=audio,
        speech_seconds=speech,
        silence_seconds=silence,
        dropped_seconds=dropped,
        utterances=utterances,
    )


def told(*messages: msgspec.Struct, strict: bool = True, **settings: Any) -> AsrProtocol:
    """A protocol object that has received `ready` and these."""
    protocol = AsrProtocol(strict=strict)
    for message in (ready(**settings), *messages):
        assert protocol.receive(encode(message)) == message
    return protocol


WHOLE = (
    start(1),
    partial(1, "hell", ""),
    partial(1, "hello my", "hello"),
    end(1),
    final(1, "hello, my friend"),
    start(2, 1.5),
    end(2, 2.0),
    final(2, "", 1.5, 2.0),
)


def test_a_sound_stream_is_believed() -> None:
    """Two utterances, one without words, and totals that add up."""
    protocol = AsrProtocol()
    for message in (ready(), *WHOLE):
        protocol.receive(encode(message))
    for _ in range(3):
        assert protocol.audio(SECOND) == SECOND
    protocol.receive(encode(done(3.0, 1.5, 1.5, utterances=2)))
    assert protocol.finished
    assert protocol.text == "hello, my friend"
    assert [each.utterance for each in protocol.finals] == [1, 2]
    assert protocol.missing_finals == 0
    assert protocol.violations == []
    assert protocol.closed(1000) is None


def test_finals_may_come_late_but_in_order() -> None:
    """The next utterance may begin, speak and end before the one before it has its final."""
    protocol = told(start(1), end(1), start(2, 1.5), partial(2, "so"), end(2, 2.0))
    assert protocol.missing_finals == 2
    protocol.receive(encode(final(1)))
    protocol.receive(encode(final(2, "so", 1.5, 2.0)))
    assert protocol.missing_finals == 0


def test_finalize_and_reset_are_answered() -> None:
    """An empty answer to finalize counts as no utterance; a dropped utterance needs no final."""
    protocol = told(final(None, "", 0.5, 0.5), start(1), reset_done(1, 1.0), reset_done(None))
    assert protocol.finals == []
    assert protocol.dropped == 1
    for _ in range(2):
        protocol.audio(SECOND)
    protocol.receive(encode(done(2.0, 0.0, 1.0, 1.0)))
    assert protocol.missing_finals == 0


def test_an_answer_to_finalize_is_as_of_its_question() -> None:
    """An empty final that is dated later would be a commit point beyond words that are not final."""
    protocol = told(start(1), end(1))
    protocol.audio(SECOND)
    protocol.finalize()
    protocol.audio(SECOND)
    for each in (final(1), final(None, "", 1.0, 1.0)):
        protocol.receive(encode(each))
    protocol.finalize()
    protocol.audio(SECOND)
    with pytest.raises(ContractViolation, match=r"finalize at 2\.0 s answered as of 3\.0 s"):
        protocol.receive(encode(final(None, "", 3.0, 3.0)))


@pytest.mark.parametrize("ask", [AsrProtocol.finalize, AsrProtocol.reset])
def test_a_question_without_an_answer_is_told(ask: Callable[[AsrProtocol], str]) -> None:
    """`finalize` and `reset` are each answered before `done`."""
    protocol = told()
    ask(protocol)
    with pytest.raises(ContractViolation, match="not answered"):
        protocol.receive(encode(done(0, 0, 0, utterances=0)))


BROKEN: dict[str, tuple[msgspec.Struct, ...]] = {
    "a second ready": (ready(),),
    "numbers begin at 1": (start(2),),
    "numbers leave none out": (start(1), end(1), start(3, 2.0)),
    "a start within an utterance": (start(1), start(2)),
    "a start before the commit point": (start(1), end(1), final(1), start(2, 0.5)),
    "a partial of nothing": (partial(1, "a"),),
    "a partial of another": (start(1), partial(2, "a")),
    "a partial after the end": (start(1), end(1), partial(1, "a")),
    "a stable text that is no prefix": (start(1), partial(1, "hello", "help")),
    "a stable text that shrinks": (start(1), partial(1, "hello my", "hello my"), partial(1, "hello my", "hello")),
    "a stable text that changes": (start(1), partial(1, "hello my", "hello"), partial(1, "help me", "help")),
    "a final without the stable text": (start(1), partial(1, "hello my", "hello"), end(1), final(1, "help")),
    "an end of nothing": (end(1),),
    "a final before its end": (start(1), final(1)),
    "a final out of order": (start(1), end(1), start(2, 1.5), end(2, 2.0), final(2, "", 1.5, 2.0)),
    "a final twice": (start(1), end(1), final(1), final(1)),
    "a final that ends before it begins": (start(1), end(1), final(1, begin=1.0, end=0.5)),
    "a final that goes back": (start(1), end(1), start(2, 1.5), end(2), final(1), final(2, "", 0.0, 0.5)),
    "a final surer than sure": (start(1), end(1), final(1, confidence=1.5)),
    "words of no utterance": (final(None, "hello", 0, 0),),
    "a reset of another": (start(1), reset_done(2)),
    "an open utterance that reset leaves": (start(1), reset_done(None)),
    "parts that do not add up": (done(3.0, 0.0, 2.0, utterances=0),),
    "an utterance that is not counted": (*WHOLE, done(3.0, 1.5, 1.5, utterances=1)),
    "an utterance without a final": (start(1), end(1), done(1.0, 0.0, 1.0)),
    "speech that no final has": (*WHOLE, done(3.0, 2.5, 0.5, utterances=2)),
    "drops that nobody asked for": (done(3.0, 0.0, 2.0, 1.0, utterances=0),),
    "words after the end": (done(0, 0, 0, utterances=0), start(1)),
    "words after a fatal error": (Error(code="internal", message="", recoverable=False), start(1)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_told(name: str) -> None:
    """Strict: the last message raises. Not strict: it comes through and is noted."""
    *before, wrong = BROKEN[name]
    strict = told(*before)
    assert strict.violations == []
    with pytest.raises(ContractViolation) as error:
        strict.receive(encode(wrong))
    lenient = told(*before, wrong, strict=False)
    assert str(error.value) in lenient.violations


def test_the_first_message_must_be_ready() -> None:
    """Nothing may come before it, and it must be the recognition service's."""
    with pytest.raises(ContractViolation, match="before ready"):
        AsrProtocol().receive(encode(start(1)))
    other = Ready(connection_id="c", instance="i", service="tts", voice="v", settings={})
    with pytest.raises(ContractViolation, match="tts"):
        AsrProtocol().receive(encode(other))


def test_a_binary_frame_is_a_violation() -> None:
    """The service sends none; there is no event to make of one, so also a lenient client is told."""
    protocol = told(strict=False)
    with pytest.raises(ContractViolation):
        protocol.receive(b"\0\0")


@pytest.mark.parametrize(
    ("settings", "a_second"),
    [
        ({}, 32000),
        ({"sample_rate": 8000, "encoding": "mulaw"}, 8000),
        ({"sample_rate": 48000, "channels": 2}, 192000),
        ({"sample_rate": 44100, "encoding": "pcm_f32le"}, 176400),
    ],
)
def test_the_server_must_count_what_was_sent(settings: dict[str, Any], a_second: int) -> None:
    """`done` states the seconds of audio; a lost half second is told."""
    for counted, sound in ((2.0, True), (1.5, False)):
        protocol = told(strict=False, **settings)
        protocol.audio(bytes(2 * a_second))
        protocol.receive(encode(done(counted, 0.0, counted, utterances=0)))
        assert (protocol.violations == []) is sound


def test_audio_that_was_refused_does_not_count() -> None:
    """After `unsupported_audio` the client can't know how much the server took."""
    protocol = told(Error(code="unsupported_audio", message="NaN", recoverable=True))
    protocol.audio(SECOND)
    protocol.receive(encode(done(0.0, 0.0, 0.0, utterances=0)))
    assert protocol.violations == []


def test_settings_follow_what_the_server_says() -> None:
    """`configured` replaces those of `ready`, and counts at the new rate."""
    protocol = told(Configured(settings=as_dict(wire.Settings(sample_rate=8000))))
    assert protocol.settings["sample_rate"] == 8000
    protocol.audio(SECOND)
    protocol.receive(encode(done(2.0, 0.0, 2.0, utterances=0)))
    assert protocol.violations == []


def test_what_a_close_means() -> None:
    """Before `done` the connection was lost; after a fatal error the stream was ended; after `done` 1000 is right."""
    lost = told().closed(1012, "going away")
    assert isinstance(lost, ConnectionLost)
    assert (lost.close_code, lost.reason) == (1012, "going away")
    assert isinstance(told().closed(None), ConnectionLost)
    failed = told(Error(code="too_slow", message="read faster", recoverable=False)).closed(1008)
    assert isinstance(failed, StreamError)
    assert (failed.code, failed.close_code) == ("too_slow", 1008)
    ended = told(done(0, 0, 0, utterances=0))
    assert ended.closed(1000) is None
    assert ended.closed(None) is None
    assert isinstance(ended.closed(1011), ContractViolation)
    lenient = told(done(0, 0, 0, utterances=0), strict=False)
    assert lenient.closed(1011) is None
    assert lenient.violations


def test_the_commit_point_is_the_end_of_the_newest_final() -> None:
    """Before any it is where the stream's clock began; an empty answer to finalize does not move it."""
    protocol = told(start_offset_s=10.0)
    assert protocol.commit_point == 10.0
    for message in (start(1, 10.5), end(1, 12.0), final(1, "a", 10.5, 12.0), final(None, "", 13.0, 13.0)):
        protocol.receive(encode(message))
    assert protocol.commit_point == 12.0


def test_what_to_resend_begins_at_the_commit_point() -> None:
    """Exactly the audio after the newest final, at the offset at which it lies."""
    protocol = told(start_offset_s=10.0)
    audio = bytes(range(256)) * 500  # 128000 bytes: 4 s
    for at in range(0, len(audio), 999):  # frames that cut samples
        protocol.audio(audio[at : at + 999])
    assert protocol.to_resend()[0] == 10.0
    assert b"".join(protocol.to_resend()[1]) == audio
    for message in (start(1, 10.5), end(1, 12.1), final(1, "a", 10.5, 12.1)):
        protocol.receive(encode(message))
    offset, frames = protocol.to_resend()
    assert offset == pytest.approx(12.1)
    assert b"".join(frames) == audio[round(2.1 * 32000) :]
    assert protocol._sent.start > 2.0 * 32000, "what is final is not kept in memory"


def test_what_reset_dropped_is_not_sent_again() -> None:
    """Audio before an answered reset is gone by request; one that is not answered yet may not have happened."""
    protocol = told(start(1))
    protocol.audio(SECOND)
    protocol.reset()
    protocol.audio(SECOND)
    assert protocol.to_resend()[0] == 0.0
    protocol.receive(encode(reset_done(1, 1.0)))
    offset, frames = protocol.to_resend()
    assert offset == 1.0
    assert sum(map(len, frames)) == 32000


def test_the_audio_kept_for_a_reconnect_is_bounded() -> None:
    """Beyond the bound the oldest goes first, and what is left still begins at a sample."""
    protocol = AsrProtocol(resend_bytes=32000)
    protocol.receive(encode(ready()))
    for _ in range(100):
        protocol.audio(bytes(999))
    offset, frames = protocol.to_resend()
    kept = sum(map(len, frames))
    assert 31000 <= kept <= 33000
    assert offset * 32000 == pytest.approx(99900 - kept, abs=0.1)
    assert (99900 - kept) % 2 == 0


@given(
    sizes=st.lists(st.integers(1, 50), max_size=40),
    forget=st.lists(st.integers(0, 800), max_size=5),
    limit=st.integers(1, 400),
    position=st.integers(0, 900),
)
def test_a_resend_buffer_holds_the_newest_audio(sizes: list[int], forget: list[int], limit: int, position: int) -> None:
    """Whatever is forgotten, what `after` gives is the true tail of what was sent, from where it says."""
    buffer, sent = ResendBuffer(limit), b""
    for number, size in enumerate(sizes):
        data = bytes([number]) * size
        buffer.append(data)
        sent += data
    for each in forget:
        buffer.forget_before(each)
    begin, frames = buffer.after(position)
    assert b"".join(frames) == sent[begin:]
    assert begin >= min(position, len(sent))
    assert buffer.end - buffer.start < limit + 50
