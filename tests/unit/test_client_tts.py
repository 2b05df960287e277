"""The synthesis protocol object: what it sends, what it believes, and what it does not put up with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chorus.errors import ConnectionLost, ContractViolation
from chorus.tts import Audio, TtsProtocol
from chorus.wire import tts as wire
from chorus.wire.common import Error, Ready, encode
from chorus.wire.settings import as_dict

pytestmark = pytest.mark.unit

RATE = 16000
HALF = bytes(RATE)
"""Half a second of 16-bit samples."""

READY = Ready(connection_id="c", instance="i", service="tts", voice="v", settings=as_dict(wire.Settings()))


def start(request: str, sentence: int = 1, **more: Any) -> wire.AudioStart:
    fields = {"sample_rate": RATE, "encoding": "pcm_s16le", **more}
    return wire.AudioStart(request_id=request, sentence=sentence, text="Hello.", **fields)


def end(request: str, sentence: int = 1, seconds: float = 0.5) -> wire.AudioEnd:
    return wire.AudioEnd(request_id=request, sentence=sentence, seconds=seconds)


def complete(request: str, seconds: float = 0.5, ttfa_ms: int | None = 50) -> wire.SynthesisComplete:
    return wire.SynthesisComplete(request_id=request, seconds=seconds, ttfa_ms=ttfa_ms)


def cancelled(request: str, seconds: float = 0.0) -> wire.Cancelled:
    return wire.Cancelled(request_id=request, seconds_sent=seconds)


def done(requests: int, seconds: float, cancelled: int = 0) -> wire.Done:
    return wire.Done(requests=requests, cancelled=cancelled, audio_seconds=seconds)


def times(request: str, *words: tuple[float, float]) -> wire.WordTimestamps:
    timed = [wire.TimedWord(word="word", start=start, end=end) for start, end in words]
    return wire.WordTimestamps(request_id=request, words=timed)


Said = msgspec.Struct | bytes


def receive(protocol: TtsProtocol, said: Said) -> Any:
    return protocol.receive(said if isinstance(said, bytes) else encode(said))


def told(*said: Said, strict: bool = True) -> TtsProtocol:
    """A protocol object that has received `ready` and these."""
    protocol = TtsProtocol(strict=strict)
    for each in (READY, *said):
        receive(protocol, each)
    return protocol


def sentence(request: str, number: int = 1) -> tuple[Said, ...]:
    """A sentence of half a second."""
    return (start(request, number), HALF[:7000], HALF[7000:], end(request, number))


TWO = (*sentence("a"), *sentence("a", 2), complete("a", 1.0), *sentence("b"), complete("b"))


def test_a_sound_stream_is_believed() -> None:
    """Two requests one after another, a third without a word, and totals that add up."""
    protocol = told(*TWO, complete("c", 0.0, None), done(3, 1.5))
    assert protocol.finished
    assert (protocol.complete, protocol.cancelled) == (3, 0)
    assert protocol.violations == []
    assert protocol.closed(1000) is None


def test_audio_knows_what_it_belongs_to() -> None:
    """A binary frame becomes an event that names its request, sentence, rate and encoding."""
    protocol = told(*sentence("a"), start("a", 2, encoding="mulaw", sample_rate=8000))
    audio = protocol.receive(bytes(4000))
    assert audio == Audio("a", 2, bytes(4000), 8000, "mulaw")
    assert isinstance(audio, Audio)
    assert audio.seconds == 0.5


def test_words_are_timed_over_all_sentences_of_a_request() -> None:
    """They may be of no length, adjoin, and come in several messages; another request begins anew."""
    protocol = told(start("a"), times("a", (0, 0.2), (0.2, 0.2)), HALF[:9000], times("a", (0.3, 0.5)), HALF[9000:])
    for each in (end("a"), start("a", 2), times("a", (0.5, 0.9)), HALF, end("a", 2), complete("a", 1.0)):
        receive(protocol, each)
    for each in (start("b"), times("b", (0, 0.1)), cancelled("b"), done(2, 1.0, cancelled=1)):
        receive(protocol, each)
    assert protocol.violations == []


def test_a_cancelled_request_ends_within_its_sentence() -> None:
    """What was sent before counts, its end is not announced, and the next request may speak."""
    protocol = told(start("a"), HALF, cancelled("a", 0.5), cancelled("b"), *sentence("c"), complete("c"))
    receive(protocol, done(3, 1.0, cancelled=2))
    assert (protocol.complete, protocol.cancelled) == (1, 2)
    assert protocol.violations == []


def test_an_id_that_is_over_may_be_used_again() -> None:
    """By another `synthesize` or `text` of the client's."""
    protocol = told(*sentence("a"), complete("a"))
    protocol.synthesize("Hello.", "a")
    for each in (*sentence("a"), complete("a")):
        receive(protocol, each)
    protocol.append("Hello.", "a")
    for each in (*sentence("a"), complete("a"), done(3, 1.5)):
        receive(protocol, each)
    assert protocol.violations == []


def test_compressed_audio_is_not_counted() -> None:
    """Its bytes tell no seconds; what the server announces must still agree with itself."""
    opus = start("a", encoding="opus")
    protocol = told(opus, b"OggS", end("a", seconds=0.7))
    assert Audio("a", 1, b"OggS", RATE, "opus").seconds is None
    receive(protocol, complete("a", 0.7))
    assert protocol.violations == []
    broken = told(opus, b"OggS", end("a", seconds=0.7), strict=False)
    receive(broken, complete("a", 0.9))
    assert len(broken.violations) == 1


def test_a_containers_end_comes_after_the_last_sentence() -> None:
    """It belongs to that sentence's request until this is over, and to nobody afterwards."""
    opus = start("a", encoding="opus")
    protocol = told(opus, b"OggS", end("a", seconds=0.7))
    assert protocol.receive(b"OggS") == Audio("a", 1, b"OggS", RATE, "opus")
    receive(protocol, complete("a", 0.7))
    assert protocol.violations == []
    for over in (complete("a", 0.7), cancelled("a", 0.7)):
        ended = told(opus, b"OggS", end("a", seconds=0.7), over, strict=False)
        with pytest.raises(ContractViolation):
            ended.receive(b"OggS")


def test_a_recoverable_error_leaves_everything_as_it_is() -> None:
    """A request that was not accepted is none, and totals do not count it."""
    refused = Error(code="overloaded", message="", recoverable=True, request_id="z", retry_after_ms=1000)
    protocol = told(refused, *sentence("a"), complete("a"), done(1, 0.5))
    assert protocol.violations == []


BROKEN: dict[str, tuple[Said, ...]] = {
    "a second ready": (READY,),
    "an end that was not begun": (end("a"),),
    "an end of another sentence": (start("a"), HALF, end("a", 2)),
    "an end of another request": (start("a"), HALF, end("b")),
    "a sentence within a sentence": (start("a"), start("a", 2)),
    "sentences begin at 1": (start("a", 2),),
    "sentences leave none out": (*sentence("a"), start("a", 3)),
    "requests are not mixed": (*sentence("a"), start("b")),
    "seconds of a sentence": (start("a"), HALF, end("a", seconds=0.6)),
    "seconds of a request": (*sentence("a"), complete("a", 0.6)),
    "seconds before a cancel": (start("a"), HALF, cancelled("a", 0.4)),
    "seconds in all": (*TWO, done(2, 1.4)),
    "requests in all": (*TWO, done(3, 1.5)),
    "cancelled in all": (*TWO, done(2, 1.5, cancelled=1)),
    "an end before the last request's": (*sentence("a"), done(0, 0.0)),
    "audio after the end": (*TWO, start("a")),
    "audio after a cancel": (start("a"), cancelled("a"), start("a")),
    "words after the end": (*TWO, times("a")),
    "words that run backwards": (start("a"), times("a", (0.1, 0.2), (0.1, 0.3))),
    "a word that ends before it begins": (start("a"), times("a", (0.1, 0.2)), times("a", (0.4, 0.3))),
    "words beyond the audio": (start("a"), times("a", (0.1, 0.6)), HALF, end("a")),
    "a request that ends twice": (*TWO, complete("b")),
    "a sample cut in two": (start("a"), bytes(3)),
    "words after done": (done(0, 0.0), start("a")),
    "words after a fatal error": (Error(code="internal", message="", recoverable=False), start("a")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_told(name: str) -> None:
    """Strict: the last message raises. Not strict: it comes through and is noted."""
    *before, wrong = BROKEN[name]
    strict = told(*before)
    assert strict.violations == []
    with pytest.raises(ContractViolation) as error:
        receive(strict, wrong)
    lenient = told(*before, wrong, strict=False)
    assert str(error.value) in lenient.violations


@pytest.mark.parametrize("before", [(), sentence("a"), (start("a"), HALF, cancelled("a", 0.5))])
def test_audio_outside_a_sentence_belongs_to_nobody(before: tuple[Said, ...]) -> None:
    """No event can be made of it, so also a lenient client is told."""
    protocol = told(*before, strict=False)
    with pytest.raises(ContractViolation):
        protocol.receive(HALF)
    assert protocol.violations


def test_the_first_message_must_be_ready() -> None:
    """Nothing may come before it, and it must be the synthesis service's."""
    with pytest.raises(ContractViolation, match="before ready"):
        TtsProtocol().receive(encode(start("a")))
    other = Ready(connection_id="c", instance="i", service="asr", model="m", settings={})
    with pytest.raises(ContractViolation, match="asr"):
        TtsProtocol().receive(encode(other))


def test_a_close_before_done_loses_the_stream() -> None:
    """1012 asks for a reconnect; the code is there to be looked at."""
    lost = told(*sentence("a")).closed(1012)
    assert isinstance(lost, ConnectionLost)
    assert lost.close_code == 1012
