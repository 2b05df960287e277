"""The synthesis protocol with a voice whose samples tell which character they stand for."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from chorus.tts import TtsProtocol
from chorus.wire import tts as wire
from chorus.wire.common import CloseCode, Configured, Error, Ready, encode
from serving.connection import Connection
from serving.errors import BadMessage
from serving.metrics import ConnectionMetrics
from serving.outbox import AudioFrame, TextFrame
from tests.conftest import eventually
from tests.unit.decoders import by_ffmpeg
from tests.unit.fake_voices import voices_of
from tests.unit.fakes import FakeConnection, RampVoice, told
from tts.encoders import CONTAINERS, FRAME_BYTES, ContainerEncoder, Encoded, Encoder, Piece, check_rate, new_encoder
from tts.engine import Engine
from tts.metrics import TtsMetrics
from tts.session import TtsSession
from tts.settings import TtsSettings
from tts.timeline import Timeline
from tts.voices import Voices

pytestmark = pytest.mark.unit


class Bench:
    """One session on a real engine thread with a fake voice."""

    def __init__(self, ahead_s: float = 1000, voices: Voices | None = None, **limits: Any) -> None:
        self.connection = FakeConnection()
        self.voice = RampVoice()
        self.voices = voices or voices_of(self.voice, RampVoice("other"))
        metrics = TtsMetrics(CollectorRegistry())
        post = asyncio.get_running_loop().call_soon_threadsafe
        self.engine = Engine(ahead_s=ahead_s, post=post, metrics=metrics)
        self.session = TtsSession(
            self.connection,  # type: ignore[arg-type]
            wire.Settings(),
            service_settings=TtsSettings(**limits),
            instance="test",
            check=self.check,
            voices=self.voices,
            engine=self.engine,
            metrics=metrics,
        )
        self.session.start()

    def check(self, settings: wire.Settings) -> None:
        check_rate(settings)
        self.voices.check(settings)

    def say(self, kind: str, **fields: Any) -> None:
        told(self.session, self.connection, json.dumps({"type": kind, **fields}))

    async def until(self, kind: type[Any], count: int = 1) -> list[Any]:
        await eventually(lambda: len(self.connection.of(kind)) >= count)
        return self.connection.of(kind)

    def audio_of(self, request_id: str) -> bytes:
        """Every binary frame between the request's audio_start and its end, as a client would collect it."""
        current, container, collected = None, False, b""
        for each in self.connection.sent:
            if isinstance(each, wire.AudioStart):
                current, container = each.request_id, each.encoding in CONTAINERS
            elif isinstance(each, wire.SynthesisComplete | wire.Cancelled):
                current = None if each.request_id == current else current
            elif isinstance(each, wire.AudioEnd) and not container:
                current = None
            elif isinstance(each, bytes):
                assert current is not None, "audio outside a sentence"
                collected += each if current == request_id else b""
        return collected


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    made.engine.start()
    yield made
    made.session.released()
    made.engine.stop()


def spelled(audio: bytes) -> str:
    """The characters that a ramp voice's 16-bit audio stands for."""
    values = np.frombuffer(audio, "<i2")[::10]
    return "".join(chr(round(value / 32.768)) for value in values)


async def test_a_request_is_spoken_sentence_by_sentence(bench: Bench) -> None:
    """audio_start, audio, audio_end for each, then synthesis_complete; the seconds add up to the samples sent."""
    bench.say("synthesize", text="Hello there. Good night.", request_id="a")
    complete = (await bench.until(wire.SynthesisComplete))[0]
    starts, ends = bench.connection.of(wire.AudioStart), bench.connection.of(wire.AudioEnd)
    assert [(each.sentence, each.text) for each in starts] == [(1, "Hello there."), (2, "Good night.")]
    assert spelled(bench.audio_of("a")) == "HellothereGoodnight"
    assert complete.seconds == pytest.approx(sum(each.seconds for each in ends))
    assert complete.seconds == pytest.approx(len(bench.audio_of("a")) / 2 / 16000)
    assert complete.ttfa_ms is not None


async def test_fragments_are_spoken_as_soon_as_a_sentence_is_whole(bench: Bench) -> None:
    """The first sentence is spoken while the second is being written."""
    for piece in ("Hel", "lo there", ". Go"):
        bench.say("text", text=piece)
    await bench.until(wire.AudioEnd)
    assert spelled(bench.audio_of("request-1")) == "Hellothere"
    bench.say("text", text="od night.")
    bench.say("flush")
    await bench.until(wire.SynthesisComplete)
    assert spelled(bench.audio_of("request-1")) == "HellothereGoodnight"


async def test_a_long_text_is_spoken_whole(bench: Bench) -> None:
    """Every letter of 100,000 characters, in fragments and without one that waits too long."""
    bench.voice.chunk = 20_000
    text = ("Ab, 1 c, " * 250 + "\n\n" + "x" * 2_500 + " ") * 100
    for start in range(0, 100_000, 3_000):
        bench.say("text", text=text[:100_000][start : start + 3_000])
    bench.say("flush")
    await bench.until(wire.SynthesisComplete)
    assert spelled(bench.audio_of("request-1")) == "".join(filter(str.isalnum, text[:100_000]))
    assert all(len(start.text) <= 2_000 for start in bench.connection.of(wire.AudioStart))


async def test_requests_are_spoken_in_order(bench: Bench) -> None:
    """One after another, each with its own id; missing ids are assigned."""
    bench.say("text", text="first", request_id="one")
    bench.say("synthesize", text="second")
    bench.say("text", text=" part", request_id="one")
    bench.say("text", text="third", request_id="three")  # ends request one
    bench.say("close")
    await bench.until(wire.Done)
    assert [each.request_id for each in bench.connection.of(wire.SynthesisComplete)] == ["one", "request-1", "three"]
    assert spelled(bench.audio_of("one")) == "firstpart"
    assert bench.connection.of(wire.Done)[0].requests == 3
    assert bench.connection.closed_with == CloseCode.DONE


async def test_cancel_stops_a_request_and_the_next_goes_on() -> None:
    """No audio of it follows `cancelled`, whose seconds are those that were not taken back."""
    bench = Bench()
    bench.say("synthesize", text="never heard", request_id="a")
    bench.say("synthesize", text="heard", request_id="b")
    bench.say("cancel", request_id="a")
    bench.engine.start()
    await bench.until(wire.SynthesisComplete)
    assert (bench.connection.of(wire.Cancelled)[0].request_id, bench.audio_of("a")) == ("a", b"")
    assert spelled(bench.audio_of("b")) == "heard"
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    assert (done.requests, done.cancelled) == (2, 1)
    assert done.audio_seconds == pytest.approx(len(bench.audio_of("b")) / 32000)
    bench.engine.stop()


async def test_cancel_without_an_id_stops_all(bench: Bench) -> None:
    """One `cancelled` each; audio that has not reached the socket is taken back."""
    bench.say("synthesize", text="spoken already. And more.", request_id="a")
    await bench.until(wire.SynthesisComplete)
    bench.say("text", text="b b b", request_id="b")
    bench.say("synthesize", text="c c c", request_id="c")
    bench.say("cancel")
    assert [each.request_id for each in bench.connection.of(wire.Cancelled)] == ["b", "c"]
    assert all(each.seconds_sent == 0 for each in bench.connection.of(wire.Cancelled))


async def test_cancel_counts_only_what_the_client_can_have_heard() -> None:
    """Audio that was still waiting for the socket is in no total."""
    bench = Bench(ahead_s=0.01)
    bench.engine.start()
    bench.say("synthesize", text="word " * 2000, request_id="a")
    await eventually(lambda: len(bench.connection.audio) >= 2)
    already = bench.connection.audio.pop(0)  # this frame has reached the socket
    bench.say("cancel", request_id="a")
    assert bench.connection.of(wire.Cancelled)[0].seconds_sent == pytest.approx(already[2])
    bench.say("close")
    assert bench.connection.of(wire.Done)[0].audio_seconds == pytest.approx(already[2])
    bench.engine.stop()


async def test_nothing_announces_audio_that_was_taken_back() -> None:
    """A sentence that was rendered whole and had not left yet: a client that checks every frame finds nothing wrong."""
    bench = Bench()
    metrics = ConnectionMetrics("tts", CollectorRegistry())
    connection = Connection(cast(Any, None), outbox_bytes=2**20, idle_timeout_s=1, metrics=metrics)
    bench.session._connection = connection
    bench.engine.start()
    bench.say("config", word_timestamps=True)
    bench.say("text", text="Hello there. Good", request_id="a")
    await eventually(lambda: connection._outbox.bytes_waiting and not bench.engine.depth())
    bench.say("cancel")
    bench.say("close")
    protocol = TtsProtocol()
    protocol.receive(encode(bench.connection.of(Ready)[0]))
    while isinstance(frame := await connection._outbox.get(), TextFrame | AudioFrame):
        protocol.receive(frame.data)
    assert protocol.cancelled == 1
    assert protocol.finished
    bench.engine.stop()


async def test_json_nested_beyond_all_bounds_is_a_mistake_like_any_other(bench: Bench) -> None:
    """It is the client's, and no reason to close the stream."""
    told(bench.session, bench.connection, '{"type": ' + "[" * 100_000)
    assert bench.connection.errors == ["bad_message"]
    bench.say("synthesize", text="fine")
    await bench.until(wire.SynthesisComplete)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "flush"}, "bad_message"),
        ({"type": "flush", "request_id": "x"}, "bad_message"),
        ({"type": "cancel", "request_id": "x"}, "bad_message"),
        ({"type": "synthesize"}, "bad_message"),
        ({"type": "synthesize", "text": 7}, "bad_message"),
        ({"type": "synthesize", "text": "a", "request_id": ""}, "bad_message"),
        ({"type": "synthesize", "text": "a", "pitch": 2}, "bad_config"),
        ({"type": "synthesize", "text": "a", "speed": 5}, "bad_config"),
        ({"type": "synthesize", "text": "a", "encoding": "aac"}, "bad_config"),
        ({"type": "synthesize", "text": "a", "encoding": "opus", "sample_rate": 22050}, "bad_config"),
        ({"type": "synthesize", "text": "a", "speaker": "nobody"}, "bad_config"),
        ({"type": "synthesize", "text": "a", "voice": "nobody"}, "unknown_voice"),
        ({"type": "synthesize", "text": "a" * 1001}, "too_large"),
        ({"type": "text", "text": "a", "speed": 2}, "bad_message"),
        ({"type": "dance"}, "unknown_type"),
        ({"type": "config", "voice": "nobody"}, "unknown_voice"),
    ],
)
async def test_mistakes_are_answered_and_the_stream_goes_on(message: dict[str, Any], code: str) -> None:
    """Each has its code; the next request is spoken."""
    bench = Bench(max_text_chars=1000)
    bench.engine.start()
    told(bench.session, bench.connection, json.dumps(message))
    assert bench.connection.errors == [code]
    assert bench.connection.of(Error)[0].recoverable
    bench.say("synthesize", text="fine")
    await bench.until(wire.SynthesisComplete)
    bench.engine.stop()


async def test_an_open_id_cannot_be_used_twice(bench: Bench) -> None:
    """The error names the id; once complete, the id is free again."""
    bench.say("text", text="open", request_id="a")
    bench.say("synthesize", text="again", request_id="a")
    error = bench.connection.of(Error)[0]
    assert (error.code, error.request_id) == ("bad_message", "a")
    bench.say("flush", request_id="a")
    await bench.until(wire.SynthesisComplete)
    bench.say("synthesize", text="again", request_id="a")
    await bench.until(wire.SynthesisComplete, 2)


async def test_too_many_open_requests_are_overload() -> None:
    """The request that is not accepted is named, with a time to retry; the others are spoken."""
    bench = Bench(max_pending_requests=2)
    for name in ("a", "b", "c"):
        bench.say("synthesize", text=name, request_id=name)
    error = bench.connection.of(Error)[0]
    assert (error.code, error.request_id) == ("overloaded", "c")
    assert error.retry_after_ms
    assert outcomes(bench, "overloaded") == 1
    bench.engine.start()
    await bench.until(wire.SynthesisComplete, 2)
    bench.engine.stop()


async def test_text_that_finds_no_room_is_overload_and_may_come_later() -> None:
    """Characters that wait to be spoken are bounded; the request is named, and accepted once there is room."""
    bench = Bench(max_text_chars=100)
    bench.say("synthesize", text="Word. " * 16, request_id="a")
    bench.say("text", text="b" * 40, request_id="b")
    error = bench.connection.of(Error)[0]
    assert (error.code, error.request_id, error.recoverable) == ("overloaded", "b", True)
    assert error.retry_after_ms >= 1000
    bench.engine.start()
    await bench.until(wire.SynthesisComplete)
    bench.say("text", text="b" * 40, request_id="b")
    for _ in range(10):  # a stream of text goes on for as long as it is spoken
        bench.say("text", text=". " + "C" * 40)
        await eventually(lambda: bench.engine.depth() == 0)
    bench.say("close")
    await bench.until(wire.Done)
    assert len(bench.connection.errors) == 1
    assert spelled(bench.audio_of("b")) == "b" * 40 + "C" * 400
    bench.engine.stop()


async def test_a_first_sound_that_would_come_too_late_is_overload() -> None:
    """The request is named and told when to come again; one that is being spoken or written goes on."""
    bench = Bench(max_wait_s=2)
    waits = iter([1.9, 5.4, 2.1, 0.0, 9.0])
    bench.engine.wait = lambda *_: next(waits)  # type: ignore[method-assign]
    bench.say("text", text="accepted, ", request_id="a")
    bench.say("text", text="and written on", request_id="a")
    bench.say("synthesize", text="too late", request_id="b")
    bench.say("text", text="too late too", request_id="c")
    errors = bench.connection.of(Error)
    assert [(each.code, each.request_id, each.recoverable) for each in errors] == [
        ("overloaded", "b", True),
        ("overloaded", "c", True),
    ]
    assert [each.retry_after_ms for each in errors] == [3400, 1000]
    bench.say("text", text=" to its end", request_id="a")
    bench.say("synthesize", text="in time", request_id="b")
    bench.engine.start()
    bench.say("close")
    await bench.until(wire.Done)
    assert spelled(bench.audio_of("a")) == "acceptedandwrittenontoitsend"
    assert spelled(bench.audio_of("b")) == "intime"
    assert bench.connection.of(wire.Done)[0].requests == 2
    assert outcomes(bench, "overloaded") == 2
    bench.engine.stop()


def outcomes(bench: Bench, outcome: str) -> float:
    """How many requests are counted to have ended so."""
    return float(bench.session._metrics.requests.labels(outcome)._value.get())


async def test_no_frame_is_large(bench: Bench) -> None:
    """Audio goes out in frames that a cancel can take back and any client accepts, cut between samples."""
    bench.voice.hop = 500
    bench.say("synthesize", text="x" * 1900, encoding="pcm_f32le", sample_rate=48000)
    await bench.until(wire.SynthesisComplete)
    sizes = [len(data) for _, data, _ in bench.connection.audio]
    assert max(sizes) == FRAME_BYTES
    assert all(size % 4 == 0 for size in sizes)
    assert sum(sizes) == pytest.approx(19_000 * 3 * 4, abs=16)


@pytest.mark.parametrize("text", ["", "   ", "?!…", "🙂"])
async def test_nothing_to_speak_completes_with_no_seconds(bench: Bench, text: str) -> None:
    """No audio, no crash, ttfa none."""
    bench.say("synthesize", text=text)
    complete = (await bench.until(wire.SynthesisComplete))[0]
    assert (complete.seconds, complete.ttfa_ms) == (0, None)
    assert not bench.connection.of(wire.AudioStart)


async def test_settings_hold_for_later_requests_and_single_ones(bench: Bench) -> None:
    """`config` changes what follows, settings beside a text hold for that request alone."""
    ready = bench.connection.of(Ready)[0]
    assert set(ready.settings) == set(wire.Settings.__struct_fields__)
    assert (ready.voice, ready.settings["sample_rate"]) == ("ramp", 16000)
    bench.say("synthesize", text="abcd", request_id="a", speed=2)
    bench.say("synthesize", text="abcd", request_id="b")
    bench.say("config", encoding="mulaw", sample_rate=8000, voice="other")
    bench.say("synthesize", text="abcd", request_id="c")
    await bench.until(wire.SynthesisComplete, 3)
    assert len(bench.audio_of("a")) == 4 * 5 * 2
    assert len(bench.audio_of("b")) == 4 * 10 * 2
    assert len(bench.audio_of("c")) == pytest.approx(4 * 10 / 2, abs=1)
    start = bench.connection.of(wire.AudioStart)[2]
    assert (start.encoding, start.sample_rate) == ("mulaw", 8000)
    assert bench.connection.of(Configured)[0].settings["voice"] == "other"


async def test_the_pause_between_sentences_is_silence_of_the_right_length(bench: Bench) -> None:
    """It stands between two sentences, not before the first or after the last."""
    bench.say("synthesize", text="Three. Seven.", request_id="a", sentence_silence_ms=100)
    await bench.until(wire.SynthesisComplete)
    samples = np.frombuffer(bench.audio_of("a"), "<i2")
    assert len(samples) == 50 + 1600 + 50
    assert not samples[50:1650].any()
    assert samples[:50].all()
    assert samples[1650:].all()


@pytest.mark.parametrize("encoding", CONTAINERS)
async def test_a_request_is_one_container(bench: Bench, encoding: str) -> None:
    """Sentences are announced as ever; their audio, the pauses and the end of the container are one stream."""
    text = "Hello there. " * 30 + "Good night."
    bench.say("synthesize", text=text, request_id="plain", sentence_silence_ms=20)
    bench.say("synthesize", text=text, request_id="a", encoding=encoding, sentence_silence_ms=20)
    bench.say("synthesize", text="Next.", request_id="b", encoding=encoding)
    plain, complete, _ = await bench.until(wire.SynthesisComplete, 3)
    starts = [each for each in bench.connection.of(wire.AudioStart) if each.request_id == "a"]
    ends = [each for each in bench.connection.of(wire.AudioEnd) if each.request_id == "a"]
    assert [each.sentence for each in starts] == [each.sentence for each in ends] == list(range(1, 32))
    assert {(each.encoding, each.sample_rate) for each in starts} == {(encoding, 16000)}
    assert sum(each.seconds for each in ends) == pytest.approx(complete.seconds, abs=1e-4)
    assert complete.seconds == plain.seconds
    samples, rate = by_ffmpeg(bench.audio_of("a"))
    if encoding == "mp3":
        assert 0 <= len(samples) / rate - complete.seconds < 0.2
    else:
        assert len(samples) == pytest.approx(complete.seconds * rate, abs=0.1)
    if encoding == "flac":
        assert np.array_equal(np.rint(samples * 32768), np.frombuffer(bench.audio_of("plain"), "<i2"))
    other, rate = by_ffmpeg(bench.audio_of("b"))
    assert len(other) / rate < 0.3


async def test_a_container_ends_when_the_text_does(bench: Bench) -> None:
    """Fragments: what the encoder held at the last sentence's end comes once the client says that it was the last."""
    bench.say("config", encoding="flac")
    bench.say("text", text="One sentence. And ")
    await bench.until(wire.AudioEnd)
    before = len(bench.audio_of("request-1"))
    bench.say("flush")
    await bench.until(wire.SynthesisComplete)
    complete = bench.connection.of(wire.SynthesisComplete)[0]
    assert len(bench.audio_of("request-1")) > before
    samples, _ = by_ffmpeg(bench.audio_of("request-1"))
    assert len(samples) == pytest.approx(complete.seconds * 16000, abs=0.1)
    assert len(samples) == 10 * len("OnesentenceAnd")


@pytest.mark.parametrize("encoding", CONTAINERS)
async def test_a_cancelled_container_plays_as_far_as_it_was_sent(encoding: str) -> None:
    """`cancelled` tells what can be heard of it; the next request's container is whole."""
    bench = Bench(ahead_s=1)
    bench.voice.chunk = 4000
    bench.engine.start()
    bench.say("synthesize", text="word " * 5000, request_id="a", encoding=encoding)
    await eventually(lambda: len(bench.connection.audio) >= 3)
    waiting = bench.connection.audio[3:]
    del bench.connection.audio[:3]  # these frames have reached the socket
    sent = bench.connection.sent
    heard = [each for each in sent if isinstance(each, bytes)][:3]
    bench.say("cancel", request_id="a")
    bench.say("synthesize", text="heard " * 100, request_id="b", encoding=encoding)
    complete = (await bench.until(wire.SynthesisComplete))[0]
    cancelled = bench.connection.of(wire.Cancelled)[0]
    samples, rate = by_ffmpeg(b"".join(heard))
    late = 1105 / 16000 if encoding == "mp3" else 0
    assert len(samples) / rate - late == pytest.approx(cancelled.seconds_sent, abs=1e-3)
    assert not any(each in [data for _, data, _ in waiting] for each in sent[sent.index(cancelled) :])
    samples, rate = by_ffmpeg(bench.audio_of("b"))
    assert len(samples) / rate == pytest.approx(complete.seconds, abs=0.2 if encoding == "mp3" else 1e-4)
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    assert done.audio_seconds == pytest.approx(cancelled.seconds_sent + complete.seconds, abs=1e-5)
    bench.engine.stop()


@pytest.mark.parametrize("end", ["complete", "cancel"])
async def test_what_an_encoder_holds_goes_with_its_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """At once, on a stream that stays open, and without the garbage collector, which counts no megabytes."""
    made: list[weakref.ref[Encoder]] = []

    def kept_in_view(settings: wire.Settings, voice_rate: int, serial: int) -> Encoder:
        encoder = new_encoder(settings, voice_rate, serial)
        made.append(weakref.ref(encoder))
        return encoder

    monkeypatch.setattr("tts.session.new_encoder", kept_in_view)
    gc.disable()
    try:
        if end == "complete":
            bench.say("synthesize", text="Hello there. Good night.", encoding="flac")
            await bench.until(wire.SynthesisComplete)
        else:
            bench.say("config", encoding="flac")
            bench.say("text", text="Hello there. Good")
            await bench.until(wire.AudioEnd)
            bench.say("cancel")
        await eventually(lambda: made[-1]() is None)
    finally:
        gc.enable()


async def test_a_request_that_is_over_needs_no_garbage_collector() -> None:
    """Its text, which may be long, goes with it."""
    bench = Bench()
    bench.say("synthesize", text="Hello there. " * 100, request_id="a")
    request = weakref.ref(bench.session._requests["a"])
    gc.disable()
    try:
        bench.say("cancel")
        assert request() is None
    finally:
        gc.enable()


async def test_an_encoder_that_fails_is_told_and_closes_the_stream(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`internal` with the request's id, and no `synthesis_complete`."""
    monkeypatch.setattr(ContainerEncoder, "_open", lambda self: 1 / 0)
    bench.say("synthesize", text="oops", request_id="a", encoding="opus")
    await eventually(lambda: bench.connection.closed_with is not None)
    error = bench.connection.of(Error)[0]
    assert (error.code, error.request_id, error.recoverable) == ("internal", "a", False)


async def test_encoding_leaves_the_event_loop_free_and_ends_with_the_stream(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an encoder is busy the loop goes on; once the stream is released nothing of it is encoded any more."""
    go_on, busy = threading.Event(), threading.Event()
    encoded: list[int] = []

    def slow(self: ContainerEncoder, samples: Any) -> Encoded:
        encoded.append(0)
        busy.set()
        assert threading.current_thread() is not threading.main_thread()
        go_on.wait(10)
        return Encoded([Piece(b"x", 0.1)], 0.1)

    monkeypatch.setattr(ContainerEncoder, "encode", slow)
    bench.say("synthesize", text="word " * 100, encoding="opus")
    await eventually(busy.is_set)
    await eventually(lambda: bench.engine.depth() == 0)  # all is rendered; the loop has taken it
    bench.session.released()
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(encoded) == 1
    assert not [each for each in bench.connection.sent if isinstance(each, bytes)]


async def test_voices_are_listed(bench: Bench) -> None:
    """Id, language, sample rate and speakers of each."""
    bench.say("list_voices")
    voices = bench.connection.of(wire.VoiceList)[0].voices
    assert [(each.id, each.sample_rate) for each in voices] == [("ramp", 16000), ("other", 16000)]


async def test_a_broken_voice_is_told_and_closes_the_stream(bench: Bench) -> None:
    """`internal` with the request's id."""
    bench.voice.broken = True
    bench.say("synthesize", text="oops", request_id="a")
    await eventually(lambda: bench.connection.closed_with is not None)
    error = bench.connection.of(Error)[0]
    assert (error.code, error.request_id, error.recoverable) == ("internal", "a", False)


async def test_binary_frames_are_a_mistake(bench: Bench) -> None:
    """Synthesis takes text messages only."""
    with pytest.raises(BadMessage):
        bench.session.receive_audio(b"\x00")


async def test_drain_speaks_what_was_accepted_and_takes_no_more() -> None:
    """Then 1012; a new request meanwhile is `overloaded`."""
    bench = Bench()
    bench.say("synthesize", text="accepted", request_id="a")
    bench.session.drain()
    bench.say("synthesize", text="too late", request_id="b")
    assert bench.connection.errors == ["overloaded"]
    bench.engine.start()
    await bench.until(wire.SynthesisComplete)
    assert spelled(bench.audio_of("a")) == "accepted"
    assert bench.connection.closed_with == CloseCode.GOING_AWAY
    bench.engine.stop()


async def test_hurry_takes_open_text_for_whole(bench: Bench) -> None:
    """Text without a flush is spoken before 1012."""
    bench.say("text", text="unfinished")
    bench.session.drain()
    bench.session.hurry()
    await bench.until(wire.SynthesisComplete)
    assert spelled(bench.audio_of("request-1")) == "unfinished"
    assert bench.connection.closed_with == CloseCode.GOING_AWAY


async def test_hurry_stops_a_reply_after_its_sentence() -> None:
    """What is not spoken by then is `cancelled`, what was heard of it is counted whole; then 1012."""
    bench = Bench()
    bench.say("synthesize", text="The first one. The second one. The third one.", request_id="a")
    bench.say("synthesize", text="Never begun.", request_id="b")
    bench.session.drain()
    bench.session.hurry()
    assert not bench.connection.of(wire.Cancelled)
    bench.engine.start()
    cancelled = await bench.until(wire.Cancelled, 2)
    assert spelled(bench.audio_of("a")) == "Thefirstone"
    (end,) = bench.connection.of(wire.AudioEnd)
    assert [(each.request_id, each.seconds_sent) for each in cancelled] == [("a", end.seconds), ("b", 0)]
    assert not bench.connection.of(wire.SynthesisComplete)
    assert bench.connection.closed_with == CloseCode.GOING_AWAY
    assert bench.engine.depth() == 0
    bench.engine.stop()


async def test_hurry_leaves_a_reply_whole_that_ends_with_its_sentence() -> None:
    """The one that is spoken to its end is complete, in whichever encoding; the one behind it is cancelled."""
    bench = Bench()
    bench.say("synthesize", text="The only one.", request_id="a", encoding="flac")
    bench.say("synthesize", text="Never begun.", request_id="b")
    bench.session.hurry()
    bench.engine.start()
    (complete,) = await bench.until(wire.SynthesisComplete)
    assert complete.request_id == "a"
    assert [each.request_id for each in bench.connection.of(wire.Cancelled)] == ["b"]
    assert bench.connection.closed_with == CloseCode.GOING_AWAY
    bench.engine.stop()


async def test_a_cut_cancels_every_reply_and_closes_with_1012() -> None:
    """A sentence that is longer than the time that is left ends in its midst, and its listener is told."""
    bench = Bench()
    bench.say("synthesize", text="Never spoken.", request_id="a")
    bench.say("text", text="Nor this")
    bench.session.hurry()
    bench.session.cut()
    assert [each.request_id for each in bench.connection.of(wire.Cancelled)] == ["a", "request-1"]
    assert bench.connection.closed_with == CloseCode.GOING_AWAY
    assert bench.engine.depth() == 0


async def test_close_speaks_the_rest_and_takes_no_more(bench: Bench) -> None:
    """Open text is spoken, `done` follows, later messages are mistakes."""
    bench.say("text", text="the rest")
    bench.say("close")
    bench.say("synthesize", text="more")
    assert bench.connection.errors == ["bad_message"]
    done = (await bench.until(wire.Done))[0]
    assert done.requests == 1
    assert spelled(bench.audio_of("request-1")) == "therest"


async def test_cancel_is_still_taken_after_close() -> None:
    """A listener may interrupt also the last words; `done` follows at once."""
    bench = Bench()
    bench.say("synthesize", text="the last words")
    bench.say("close")
    bench.say("cancel")
    done = bench.connection.of(wire.Done)[0]
    assert (done.requests, done.cancelled, done.audio_seconds) == (1, 1, 0)
    assert bench.connection.closed_with == CloseCode.DONE


async def test_a_released_session_frees_the_engine() -> None:
    """Nothing of it waits any more, and late chunks reach nobody."""
    bench = Bench()
    bench.say("synthesize", text="a. " * 100)
    assert bench.engine.depth() > 0
    bench.session.released()
    assert bench.engine.depth() == 0


async def test_production_stays_a_bounded_time_ahead_of_playback() -> None:
    """A long text is not rendered at once: only what playback will need within the limit."""
    bench = Bench(ahead_s=0.05)
    bench.engine.start()
    bench.say("synthesize", text="word " * 2000)
    await bench.until(wire.AudioStart)
    await asyncio.sleep(0.1)
    produced = bench.voice.rendered / 16000
    assert 0.05 <= produced < 1.0  # of the 12.5 s that the text lasts
    bench.session.released()
    bench.engine.stop()


async def test_pauses_count_as_audio_ahead_of_playback() -> None:
    """Else a slow reader of short sentences with long pauses would have minutes of silence waiting for it."""
    bench = Bench(ahead_s=1)
    bench.engine.start()
    bench.say("synthesize", text="Three. " * 100, sentence_silence_ms=5000)
    await bench.until(wire.AudioEnd, 2)
    await asyncio.sleep(0.1)
    assert 2 <= bench.voice.rendered / 50 <= 6  # the second and what the engine had of others when its pause was told
    bench.session.released()
    bench.engine.stop()


def heard(bench: Bench) -> list[tuple[str, float, float]]:
    """Every timed word so far, times in samples of 16 kHz."""
    messages = bench.connection.of(wire.WordTimestamps)
    words = [each for message in messages for each in message.words]
    return [(each.word, round(each.start * 16000, 1), round(each.end * 16000, 1)) for each in words]


async def test_words_are_timed_on_the_requests_clock(bench: Bench) -> None:
    """From the request's first sample on, over sentences and the pauses between them; at any pace."""
    bench.voice.chunk = 10_000  # each sentence in one piece
    bench.say("synthesize", text="Hi, all. Go — on!", word_timestamps=True, sentence_silence_ms=100)
    await bench.until(wire.SynthesisComplete)
    assert heard(bench) == [
        ("Hi,", 0, 20),
        ("all.", 20, 50),
        ("Go", 1650, 1670),
        ("—", 1670, 1670),
        ("on!", 1670, 1690),
    ]
    bench.say("synthesize", text="Hi, all.", word_timestamps=True, speed=2)
    await bench.until(wire.SynthesisComplete, 2)
    assert heard(bench)[5:] == [("Hi,", 0, 10), ("all.", 10, 25)]
    bench.say("synthesize", text="Nobody asked.")
    await bench.until(wire.SynthesisComplete, 3)
    assert len(heard(bench)) == 7


async def test_words_are_told_ahead_of_their_audio(bench: Bench) -> None:
    """After their sentence's `audio_start`, right before the chunk in which they begin."""
    bench.voice.hop = 8  # a chunk is longer than the stretches that are found loud or silent
    letters = "abcdefghijklmnopqrstuvwxyz"
    bench.say("synthesize", text=f"{letters}, {letters}.", word_timestamps=True)
    await bench.until(wire.SynthesisComplete)
    _, start, *rest, end, complete = bench.connection.sent
    assert [type(start), type(end), type(complete)] == [wire.AudioStart, wire.AudioEnd, wire.SynthesisComplete]
    heard, told = 0.0, []
    for message, following in itertools.pairwise(rest):
        if isinstance(message, bytes):
            heard += len(message) / 2 / start.sample_rate
        else:
            assert isinstance(message, wire.WordTimestamps)
            assert message.request_id == "request-1"
            assert isinstance(following, bytes)
            assert heard <= message.words[0].start < heard + len(following) / 2 / start.sample_rate
            told.append([each.word for each in message.words])
    assert told == [[f"{letters},"], [f"{letters}."]]


async def test_words_that_cannot_be_found_end_their_stream_and_not_the_engine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that goes wrong with a sentence, nobody else is to notice."""
    monkeypatch.setattr(Timeline, "hear", lambda *_: 1 / 0)
    bench.say("synthesize", text="oops", request_id="a", word_timestamps=True)
    await eventually(lambda: bench.connection.closed_with == CloseCode.INTERNAL)
    assert bench.engine.seconds_stuck() == 0


async def test_words_of_a_cancelled_request_are_told_no_more() -> None:
    """Those of the next one begin at 0 again."""
    bench = Bench(ahead_s=0.001)
    bench.engine.start()
    bench.say("config", word_timestamps=True)
    bench.say("synthesize", text="word, " * 200, request_id="a")
    await bench.until(wire.WordTimestamps)
    bench.say("cancel")
    told = len(bench.connection.of(wire.WordTimestamps))
    bench.say("synthesize", text="next", request_id="b")
    await bench.until(wire.SynthesisComplete)
    (last,) = bench.connection.of(wire.WordTimestamps)[told:]
    assert (last.request_id, last.words) == ("b", [wire.TimedWord(word="next", start=0, end=40 / 16000)])
    bench.engine.stop()


async def test_a_voice_that_cannot_time_words_says_so(bench: Bench) -> None:
    """`bad_config` for the request; the voice goes on speaking without."""
    bench.voice.times_words = False
    bench.say("synthesize", text="Hello", word_timestamps=True)
    assert bench.connection.errors == ["bad_config"]
    assert "word_timestamps" in bench.connection.of(Error)[0].message
    bench.say("synthesize", text="Hello")
    await bench.until(wire.SynthesisComplete)


async def test_a_stream_owes_what_it_accepted_until_that_is_spoken(bench: Bench) -> None:
    """Its client may be silent as long as it listens; an open text of which nothing is whole keeps nobody."""
    assert not bench.session.owes()
    bench.say("text", text="No end of a sentence yet")
    assert not bench.session.owes()
    bench.say("flush")
    assert bench.session.owes()
    await bench.until(wire.SynthesisComplete)
    assert not bench.session.owes()
