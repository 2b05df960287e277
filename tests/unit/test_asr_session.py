"""The recognition protocol with a detector that hears loudness and an engine that counts samples."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from asr.admission import Admission
from asr.detector import Detector
from asr.metrics import AsrMetrics
from asr.scheduler import Scheduler
from asr.session import AsrSession
from asr.settings import AsrSettings
from chorus.wire import asr as wire
from chorus.wire.common import CloseCode, Configured, Error, Ready
from serving.errors import BadConfig
from tests.conftest import eventually
from tests.unit.fakes import FakeConnection, LoudIsSpeech, SampleCountingEngine, told

pytestmark = pytest.mark.unit

RATE = 16000


class Bench:
    """One session on real threads with fake models."""

    def __init__(self, **settings: Any) -> None:
        self.connection = FakeConnection()
        self.engine = SampleCountingEngine()
        metrics = AsrMetrics(CollectorRegistry())
        post = asyncio.get_running_loop().call_soon_threadsafe
        self.detector = Detector(LoudIsSpeech(), post=post, metrics=metrics)
        self.scheduler = Scheduler(self.engine, workers=1, max_batch=1, post=post, metrics=metrics)
        self.detector.start()
        self.scheduler.start()
        self.session = AsrSession(
            self.connection,  # type: ignore[arg-type]
            wire.Settings(**settings),
            service_settings=AsrSettings(),
            instance="test",
            check=self.check,
            detector=self.detector,
            scheduler=self.scheduler,
            admission=Admission(0, spent_s=self.scheduler.spent_s, oldest_wait_s=self.scheduler.oldest_wait_s),
            metrics=metrics,
        )
        self.session.start()

    @staticmethod
    def check(settings: wire.Settings) -> None:
        if settings.language == "xx":
            raise BadConfig("language: no")

    def close(self) -> None:
        self.session.released()
        self.detector.stop()
        self.scheduler.stop()

    def hear(self, seconds: float, loud: bool) -> None:
        """Audio in frames of 20 ms."""
        tone = np.sin(np.arange(int(seconds * RATE)) / 5) * (0.5 if loud else 0.0)
        data = (tone * 32767).astype("<i2").tobytes()
        for start in range(0, len(data), 640):
            self.session.receive_audio(data[start : start + 640])

    def say(self, kind: str, **fields: Any) -> None:
        told(self.session, self.connection, json.dumps({"type": kind, **fields}))

    async def until(self, kind: type[Any], count: int = 1) -> list[Any]:
        await eventually(lambda: len(self.connection.of(kind)) >= count)
        return self.connection.of(kind)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.close()


def adds_up(done: wire.Done) -> bool:
    return abs(done.speech_seconds + done.silence_seconds + done.dropped_seconds - done.audio_seconds) < 1e-5


async def test_an_utterance_goes_from_start_to_final(bench: Bench) -> None:
    """speech_start, partials, speech_end and a final come in that order with times on the stream's clock."""
    bench.hear(1, loud=False)
    bench.hear(3, loud=True)
    await bench.until(wire.Partial)
    bench.hear(1, loud=False)
    await bench.until(wire.Final)
    kinds = [type(each).__name__ for each in bench.connection.sent]
    assert kinds[0] == "Ready"
    assert kinds[1] == "SpeechStart"
    assert "Partial" in kinds
    assert kinds[-2:] == ["SpeechEnd", "Final"]
    start, final = bench.connection.of(wire.SpeechStart)[0], bench.connection.of(wire.Final)[0]
    assert 0.4 < start.time <= 1.0
    assert final.start_time == start.time
    assert 4.0 <= final.end_time < 4.6
    assert final.text
    assert not final.from_finalize


async def test_close_delivers_the_tail_and_totals_that_add_up(bench: Bench) -> None:
    """Speech that is cut off by `close` gets its final before `done` and 1000; every sample is accounted for."""
    bench.hear(0.5, loud=False)
    bench.hear(2.013, loud=True)
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    final = bench.connection.of(wire.Final)[0]
    assert final.end_time == pytest.approx(2.513, abs=1e-4)
    assert done.audio_seconds == pytest.approx(2.513)
    assert adds_up(done)
    assert done.utterances == 1
    assert bench.connection.closed_with == CloseCode.DONE


async def test_a_word_too_short_to_open_an_utterance_is_not_lost_at_the_end(bench: Bench) -> None:
    """Two hops of speech right before `close` become an utterance."""
    bench.hear(0.992, loud=False)
    bench.hear(0.064, loud=True)
    bench.say("close")
    await bench.until(wire.Done)
    assert len(bench.connection.of(wire.Final)) == 1


async def test_finalize_ends_the_utterance_now(bench: Bench) -> None:
    """The final carries from_finalize and reaches to the last sample sent; speech after it is the next utterance."""
    bench.hear(2, loud=True)
    bench.say("finalize")
    first = (await bench.until(wire.Final))[0]
    assert first.from_finalize
    assert first.end_time == pytest.approx(2.0)
    bench.hear(2, loud=True)
    bench.say("close")
    await bench.until(wire.Done)
    second = bench.connection.of(wire.Final)[1]
    assert second.start_time >= first.end_time
    assert second.end_time == pytest.approx(4.0)


async def test_finalize_without_speech_gets_an_empty_final_that_no_total_counts(bench: Bench) -> None:
    """utterance is null, text empty, from_finalize true."""
    bench.hear(1, loud=False)
    bench.say("finalize")
    final = (await bench.until(wire.Final))[0]
    assert (final.utterance, final.text, final.from_finalize) == (None, "", True)
    bench.say("close")
    assert (await bench.until(wire.Done))[0].utterances == 0


async def test_an_empty_finalize_is_answered_in_its_turn_as_of_where_it_was_asked(bench: Bench) -> None:
    """After the final that is due, and before speech that came later: it never lies beyond what is final."""
    bench.hear(2, loud=True)
    bench.say("finalize")
    bench.say("finalize")
    bench.hear(3, loud=False)
    bench.hear(1, loud=True)
    first, empty = (await bench.until(wire.Final, 2))[:2]
    assert (first.utterance, empty.utterance) == (1, None)
    assert empty.end_time == pytest.approx(2.0)


async def test_finalize_and_reset_hold_for_what_was_sent_before_them(bench: Bench) -> None:
    """Audio that arrives before they are carried out belongs to what follows."""
    bench.hear(2, loud=True)
    bench.say("finalize")
    bench.hear(2, loud=True)
    bench.say("reset")
    bench.hear(2, loud=True)
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    ends = [final.end_time for final in bench.connection.of(wire.Final)]
    assert ends == [pytest.approx(2.0), pytest.approx(6.0)]
    assert bench.connection.of(wire.ResetDone)[0].dropped_seconds == pytest.approx(2.0, abs=0.1)
    assert adds_up(done)


async def test_reset_drops_the_utterance_and_says_how_much(bench: Bench) -> None:
    """No final comes for it; its seconds are dropped, not speech."""
    bench.hear(2, loud=True)
    bench.say("reset")
    reset = (await bench.until(wire.ResetDone))[0]
    assert (reset.utterance, reset.dropped_seconds) == (1, pytest.approx(2.0))
    bench.say("reset")
    again = (await bench.until(wire.ResetDone, 2))[1]
    assert (again.utterance, again.dropped_seconds) == (None, 0.0)
    bench.hear(1, loud=False)
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    assert done.dropped_seconds == pytest.approx(2.0)
    assert adds_up(done)
    assert not bench.connection.of(wire.Final)


async def test_a_long_utterance_is_cut_and_goes_on(bench: Bench) -> None:
    """max_utterance_s is kept, and the pieces join without a gap."""
    bench.say("config", max_utterance_s=3)
    bench.hear(8, loud=True)
    bench.say("close")
    await bench.until(wire.Done)
    finals = bench.connection.of(wire.Final)
    assert len(finals) >= 3
    assert all(final.end_time - final.start_time <= 3.04 for final in finals)
    assert all(a.end_time == b.start_time for a, b in pairwise(finals))


async def test_start_offset_is_added_to_every_time() -> None:
    """A resumed stream goes on counting."""
    bench = Bench(start_offset_s=100.0)
    bench.hear(2, loud=True)
    bench.say("close")
    await bench.until(wire.Done)
    assert bench.connection.of(wire.Final)[0].end_time == pytest.approx(102.0)
    bench.session.released()


async def test_interim_results_can_be_turned_off() -> None:
    """No partial comes, the final does."""
    bench = Bench(interim_results=False)
    bench.hear(4, loud=True)
    bench.say("close")
    await bench.until(wire.Done)
    assert not bench.connection.of(wire.Partial)
    assert bench.connection.of(wire.Final)
    assert all(request.final for request in bench.engine.requests)
    bench.session.released()


async def test_a_config_takes_effect_wholly_or_not_at_all(bench: Bench) -> None:
    """An unknown key or a wrong value is named, and nothing of that message holds."""
    bench.say("config", endpointing_ms=300, nonsense=1)
    bench.say("config", endpointing_ms=300, vad_threshold=7)
    bench.say("config", language="xx")
    assert bench.connection.errors == ["bad_config"] * 3
    assert "nonsense" in bench.connection.of(Error)[0].message
    assert "vad_threshold" in bench.connection.of(Error)[1].message
    bench.say("config", endpointing_ms=300)
    configured = bench.connection.of(Configured)[0]
    assert configured.settings["endpointing_ms"] == 300
    assert configured.settings["vad_threshold"] == 0.5
    assert set(configured.settings) == set(wire.Settings.__struct_fields__)
    assert set(bench.connection.of(Ready)[0].settings) == set(wire.Settings.__struct_fields__)


@pytest.mark.parametrize("key", wire.FIXED_BY_FIRST_AUDIO)
async def test_the_audio_format_is_fixed_by_the_first_audio(bench: Bench, key: str) -> None:
    """Before it the setting may change, after it that is an error which names it."""
    other = {"encoding": "mulaw", "sample_rate": 8000, "channels": 2, "start_offset_s": 5}[key]
    bench.say("config", **{key: other})
    assert len(bench.connection.of(Configured)) == 1
    bench.session.receive_audio(bytes(64))
    original = getattr(wire.Settings(), key)
    bench.say("config", **{key: original})
    assert bench.connection.errors == ["bad_config"]
    assert key in bench.connection.of(Error)[0].message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", "bad_message"),
        ("[1]", "bad_message"),
        ('{"text": "no type"}', "bad_message"),
        ('{"type": 7}', "bad_message"),
        ('{"type": "dance"}', "unknown_type"),
        ('{"type": "finalize", "now": true}', "bad_message"),
    ],
)
async def test_wrong_messages_are_answered_and_the_stream_goes_on(bench: Bench, text: str, code: str) -> None:
    """Each mistake has its code."""
    told(bench.session, bench.connection, text)
    assert bench.connection.errors == [code]
    bench.say("finalize")
    await bench.until(wire.Final)


async def test_samples_that_are_no_numbers_are_refused(bench: Bench) -> None:
    """NaN in pcm_f32le is `unsupported_audio`; the stream goes on."""
    bench.say("config", encoding="pcm_f32le")
    with pytest.raises(Exception, match="finite"):
        bench.session.receive_audio(np.array([0.1, np.nan], "<f4").tobytes())
    bench.session.receive_audio(np.zeros(1600, "<f4").tobytes())


async def test_frames_that_cut_samples_give_the_same_audio() -> None:
    """One byte at a time or all at once: the engine hears the same samples."""
    tone = (np.sin(np.arange(2 * RATE) / 5) * 16000).astype("<i2").tobytes()
    heard = []
    for size in (7, len(tone)):
        bench = Bench(interim_results=False)
        for start in range(0, len(tone), size):
            bench.session.receive_audio(tone[start : start + size])
        bench.say("close")
        await bench.until(wire.Done)
        heard.append(bench.engine.requests[-1].samples)
        bench.session.released()
    assert np.array_equal(heard[0], heard[1])


async def test_a_broken_engine_is_told_and_closes_the_stream(bench: Bench) -> None:
    """`internal`, not recoverable: the client reconnects from its commit point."""
    bench.engine.broken = True
    bench.hear(2, loud=True)
    bench.say("close")
    await eventually(lambda: bench.connection.closed_with is not None)
    assert bench.connection.errors == ["internal"]
    assert bench.connection.closed_with == CloseCode.INTERNAL


async def test_a_client_faster_than_the_engine_is_slowed_down() -> None:
    """More unscored or undecoded audio than allowed stops the reading, and it goes on when that has shrunk."""
    bench = Bench(interim_results=False)
    bench.hear(30, loud=True)
    assert not bench.connection.reading
    await eventually(lambda: bench.connection.reading)
    bench.session.released()


async def test_the_final_of_a_pause_that_was_the_end_is_there_at_once(bench: Bench) -> None:
    """It was asked for when the pause began, on the audio up to there, and is not asked for again."""
    bench.hear(2, loud=True)
    bench.hear(0.3, loud=False)  # a pause, not yet the end
    await eventually(lambda: any(request.final for request in bench.engine.requests))
    await bench.until(wire.Partial)
    assert not bench.connection.of(wire.Final)
    bench.hear(0.7, loud=False)
    final = (await bench.until(wire.Final))[0]
    assert sum(request.final for request in bench.engine.requests) == 1
    assert final.end_time > 2.3
    assert final.latency_ms < 500


async def test_speech_that_goes_on_after_a_pause_is_in_the_final(bench: Bench) -> None:
    """What was asked for at the pause is not taken for the whole."""
    bench.hear(2, loud=True)
    bench.hear(0.3, loud=False)
    await eventually(lambda: any(request.final for request in bench.engine.requests))
    bench.hear(2, loud=True)
    bench.hear(1, loud=False)
    final = (await bench.until(wire.Final))[0]
    assert len(bench.connection.of(wire.SpeechStart)) == 1
    assert len(final.text.split()) > 8  # the engine says a word each half second
    assert all(len(request.samples) <= 5 * RATE for request in bench.engine.requests)


async def test_a_pause_that_is_dropped_gives_no_final(bench: Bench) -> None:
    """`reset` within a pause: what was asked for at the pause comes to nothing."""
    bench.engine.slow = threading.Event()
    bench.hear(2, loud=True)
    bench.hear(0.3, loud=False)
    await eventually(lambda: bench.scheduler.seconds_stuck() > 0)
    bench.say("reset")
    await bench.until(wire.ResetDone)
    bench.engine.slow.set()
    bench.hear(1, loud=False)
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    assert not bench.connection.of(wire.Final)
    assert adds_up(done)


async def test_close_within_a_pause_says_done_once(bench: Bench) -> None:
    """The final is there already; `done` comes after it, and nothing after `done`."""
    bench.hear(2, loud=True)
    bench.hear(0.3, loud=False)
    await eventually(lambda: any(partial.end_time > 2.1 for partial in bench.connection.of(wire.Partial)))
    bench.say("close")
    await bench.until(wire.Done)
    await asyncio.sleep(0.05)
    kinds = [type(each).__name__ for each in bench.connection.sent]
    assert kinds[-2:] == ["Final", "Done"]
    assert kinds.count("Done") == 1


@pytest.mark.parametrize(
    ("text", "ends_after"), [("Now take me home.", 0.3), ("Home.", 0.5), ("Now take me to the", 1.0)]
)
async def test_adaptive_endpointing_waits_by_what_was_said(text: str, ends_after: float) -> None:
    """For 500 ms as such, for less after words that read as finished, for more after those that lead on."""
    bench = Bench(endpointing="adaptive")
    bench.engine.text = text
    try:
        bench.hear(2, loud=True)
        bench.hear(0.256, loud=False)  # a pause is told after 192 ms
        await eventually(lambda: any(partial.end_time > 2.1 for partial in bench.connection.of(wire.Partial)))
        bench.hear(ends_after - 0.256 - 0.04, loud=False)
        await eventually(lambda: bench.session._scored == bench.session._submitted)
        assert not bench.connection.of(wire.SpeechEnd)
        bench.hear(0.1, loud=False)
        await bench.until(wire.Final)
    finally:
        bench.close()


async def test_fixed_endpointing_does_not_mind_the_words(bench: Bench) -> None:
    """The default waits for its silence, however finished the words read."""
    bench.engine.text = "Now take me home."
    bench.hear(2, loud=True)
    bench.hear(0.256, loud=False)
    await bench.until(wire.Partial)
    bench.hear(0.2, loud=False)
    await eventually(lambda: bench.session._scored == bench.session._submitted)
    assert not bench.connection.of(wire.SpeechEnd)
    bench.hear(0.1, loud=False)
    await bench.until(wire.Final)


async def test_an_utterance_as_short_as_a_pause_is_decoded_when_it_ends() -> None:
    """With an endpoint sooner than a pause is told, there is nothing to speculate on."""
    bench = Bench(endpointing_ms=100, interim_results=False)
    bench.hear(2, loud=True)
    bench.hear(1, loud=False)
    await bench.until(wire.Final)
    assert len(bench.engine.requests) == 1
    bench.session.released()


async def test_drain_waits_for_the_open_utterance_then_closes_with_1012(bench: Bench) -> None:
    """Its final is delivered first."""
    bench.hear(2, loud=True)
    await bench.until(wire.SpeechStart)
    bench.session.drain()
    assert not bench.connection.closing
    bench.hear(1, loud=False)
    await bench.until(wire.Final)
    assert bench.connection.closed_with == CloseCode.GOING_AWAY


async def test_hurry_ends_the_open_utterance_with_its_final(bench: Bench) -> None:
    """Nobody stops speaking for us; what was said is delivered all the same."""
    bench.hear(2, loud=True)
    await bench.until(wire.SpeechStart)
    bench.session.drain()
    bench.session.hurry()
    await bench.until(wire.Final)
    assert bench.connection.closed_with == CloseCode.GOING_AWAY


async def test_a_cut_closes_with_1012_whatever_is_open(bench: Bench) -> None:
    """Without its final, which a client resends for."""
    bench.hear(2, loud=True)
    await bench.until(wire.SpeechStart)
    bench.session.drain()
    assert not bench.connection.closing
    bench.session.cut()
    assert bench.connection.closed_with == CloseCode.GOING_AWAY
    assert not bench.connection.of(wire.Final)


async def test_an_idle_stream_drains_at_once(bench: Bench) -> None:
    """Nothing open, nothing due: 1012 right away."""
    bench.session.drain()
    await eventually(lambda: bench.connection.closed_with == CloseCode.GOING_AWAY)


async def test_a_released_session_leaves_no_work_behind(bench: Bench) -> None:
    """Its jobs are gone and late results reach nobody."""
    bench.hear(5, loud=True)
    await bench.until(wire.SpeechStart)
    bench.session.released()
    sent = len(bench.connection.sent)
    await eventually(lambda: bench.scheduler.depth() == 0 and bench.scheduler.seconds_stuck() == 0)
    await asyncio.sleep(0)
    assert len(bench.connection.sent) == sent


async def test_words_are_timed_on_the_streams_clock() -> None:
    """Counted from the utterance's start and the stream's offset, and within the utterance; only when asked for."""
    bench = Bench(word_timestamps=True, start_offset_s=100)
    try:
        bench.hear(1, loud=False)
        bench.hear(2.2, loud=True)
        bench.hear(1, loud=False)
        final = (await bench.until(wire.Final))[0]
        assert final.start_time > 100
        assert " ".join(word.word for word in final.words) == final.text
        assert [word.start for word in final.words] == [
            pytest.approx(final.start_time + 0.5 * n) for n in range(len(final.words))
        ]
        assert all(word.start <= word.end <= final.end_time and word.confidence == 0.8 for word in final.words)
        bench.say("finalize")
        assert (await bench.until(wire.Final, 2))[1].words == []
        bench.say("config", word_timestamps=False)
        bench.hear(1, loud=True)
        bench.say("finalize")
        assert (await bench.until(wire.Final, 3))[2].words is msgspec.UNSET
    finally:
        bench.close()


async def test_the_words_keep_a_promise_too(bench: Bench) -> None:
    """Where the final's text was changed to keep a promise, its words are that text's."""
    bench.say("config", word_timestamps=True)
    bench.hear(3, loud=True)
    utterance = bench.session._open
    while utterance is None:
        await asyncio.sleep(0.01)
        utterance = bench.session._open
    utterance.stable.text = "promised"
    bench.say("finalize")
    final = (await bench.until(wire.Final))[0]
    assert final.text.startswith("promised")
    assert " ".join(word.word for word in final.words) == final.text
