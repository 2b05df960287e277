"""Requests whose voice is not in memory yet: they wait in their order, are told why not, and let go of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from chorus.wire import tts as wire
from chorus.wire.common import CloseCode, Configured, Error
from serving.audio import Samples
from tests.conftest import eventually
from tests.unit.fake_voices import card_of
from tests.unit.fakes import RampVoice
from tests.unit.test_tts_session import Bench, spelled
from tests.unit.test_tts_voice_pool import Loader
from tts.encoders import Encoder, new_encoder
from tts.installed import Installed
from tts.metrics import VoiceMetrics
from tts.voice import Utterance
from tts.voice_pool import VoicePool
from tts.voices import Voices

pytestmark = pytest.mark.unit


class Place:
    """Voices a (the default), b and c, of which two have room; and sessions that speak with them."""

    def __init__(self) -> None:
        self.loader = Loader()
        self.pool = VoicePool(self.loader, budget_mb=20, metrics=VoiceMetrics(CollectorRegistry()))
        cards = {name: card_of(name, speakers=("anna", "bert") if name == "c" else ()) for name in "abc"}
        self.voices = Voices(Installed(cards), self.pool, "a")
        self.benches: list[Bench] = []

    def bench(self, **settings: int) -> Bench:
        """One more client."""
        made = Bench(voices=self.voices, **settings)
        made.engine.start()
        self.benches.append(made)
        return made

    def hold_up(self, go_on: bool = False) -> None:
        """Loads wait from now on, or go on."""
        if go_on:
            self.loader.may_go_on.set()
        else:
            self.loader.may_go_on.clear()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    await made.voices.load([])
    yield made
    made.hold_up(go_on=True)
    for bench in made.benches:
        bench.session.released()
        bench.engine.stop()
    made.pool.stop()


async def test_a_request_waits_for_its_voice_and_keeps_its_place(place: Place) -> None:
    """What comes after it is spoken after it; what comes before it does not wait; other clients neither."""
    place.hold_up()
    bench, other = place.bench(), place.bench()
    bench.say("synthesize", text="first", request_id="1")
    bench.say("synthesize", text="second", request_id="2", voice="b")
    bench.say("synthesize", text="third", request_id="3")
    other.say("synthesize", text="undisturbed")
    await bench.until(wire.SynthesisComplete, 1)
    await other.until(wire.SynthesisComplete, 1)
    assert [each.request_id for each in bench.connection.of(wire.AudioStart)] == ["1"]
    place.hold_up(go_on=True)
    await bench.until(wire.SynthesisComplete, 3)
    assert [each.request_id for each in bench.connection.of(wire.SynthesisComplete)] == ["1", "2", "3"]
    assert [spelled(bench.audio_of(each)) for each in "123"] == ["first", "second", "third"]
    assert place.loader.asked == ["a", "b"]


async def test_text_that_comes_while_its_voice_is_loaded_is_spoken(place: Place) -> None:
    """Fragments wait with the request; settings and the list of voices are answered meanwhile."""
    place.hold_up()
    bench = place.bench()
    bench.say("config", voice="b")
    bench.say("text", text="Once upon")
    bench.say("list_voices")
    bench.say("text", text=" a time.")
    bench.say("config", speed=2)
    bench.say("close")
    assert [voice.id for voice in bench.connection.of(wire.VoiceList)[0].voices] == ["a", "b", "c"]
    assert len(bench.connection.of(Configured)) == 2
    place.hold_up(go_on=True)
    done = (await bench.until(wire.Done))[0]
    assert spelled(bench.audio_of("request-1")) == "Onceuponatime"
    assert done.requests == 1


async def test_cancel_while_a_voice_is_loaded(place: Place) -> None:
    """Answered at once; the voice is let go, the next request is spoken, and the load is not in vain."""
    place.hold_up()
    bench = place.bench()
    bench.say("synthesize", text="never heard", request_id="1", voice="b")
    bench.say("synthesize", text="heard", request_id="2")
    bench.say("cancel", request_id="1")
    (cancelled,) = bench.connection.of(wire.Cancelled)
    assert (cancelled.request_id, cancelled.seconds_sent) == ("1", 0)
    await bench.until(wire.SynthesisComplete)
    place.hold_up(go_on=True)
    await eventually(lambda: place.pool.voice_ids() == ["b", "a"] or place.pool.voice_ids() == ["a", "b"])
    bench.say("synthesize", text="other", request_id="3", voice="c")  # b is held by nobody, and goes
    await bench.until(wire.SynthesisComplete, 2)
    assert spelled(bench.audio_of("3")) == "other"
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    assert (done.requests, done.cancelled) == (3, 1)


async def test_containers_of_a_stream_differ_whatever_becomes_of_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that ends for want of its voice does not give its number in Ogg to one that another has already."""
    serials: list[int] = []

    def noted(settings: wire.Settings, voice_rate: int, serial: int) -> Encoder:
        serials.append(serial)
        return new_encoder(settings, voice_rate, serial)

    monkeypatch.setattr("tts.session.new_encoder", noted)
    place.hold_up()
    place.loader.broken.add("b")
    bench = place.bench()
    bench.say("synthesize", text="never heard", request_id="1", voice="b", encoding="opus")
    bench.say("synthesize", text="heard", request_id="2", encoding="opus")
    place.hold_up(go_on=True)
    await bench.until(Error)
    bench.say("synthesize", text="heard too", request_id="3", encoding="opus")
    await bench.until(wire.SynthesisComplete, 2)
    assert len(set(serials)) == 3


async def test_a_speaker_who_is_no_more_is_told_by_name(place: Place) -> None:
    """A voice may be installed anew, with fewer speakers, while a stream has one of them set."""
    bench = place.bench()
    bench.say("config", voice="c", speaker="bert")
    place.voices.update(Installed({name: card_of(name) for name in "abc"}))
    bench.say("text", text="nobody's", request_id="1")
    (error,) = bench.connection.of(Error)
    assert (error.code, error.request_id) == ("bad_config", "1")
    assert "bert" in error.message
    bench.say("config", speaker=None)
    bench.say("text", text="spoken")
    bench.say("flush")
    await bench.until(wire.SynthesisComplete)


async def test_a_client_that_leaves_lets_its_voices_go(place: Place) -> None:
    """Those being loaded and those it speaks with."""
    place.hold_up()
    bench = place.bench()
    bench.say("synthesize", text="never heard", voice="b")
    bench.session.released()
    place.hold_up(go_on=True)
    await eventually(lambda: len(place.pool.voice_ids()) == 2)
    speaking = place.bench()
    speaking.say("text", text="Unfinished. Tex", voice="b")  # an unknown field: voices are set by config
    assert speaking.connection.errors == ["bad_message"]
    speaking.say("config", voice="b")
    speaking.say("text", text="Unfinished. Tex")
    await speaking.until(wire.AudioEnd)
    other = place.bench()
    other.say("synthesize", text="no room", request_id="x", voice="c")
    (error,) = other.connection.of(Error)
    assert (error.code, error.request_id, error.recoverable) == ("overloaded", "x", True)
    assert error.retry_after_ms >= 1000
    speaking.session.released()
    other.say("synthesize", text="room", request_id="x", voice="c")
    await other.until(wire.SynthesisComplete)
    other.say("close")
    assert (await other.until(wire.Done))[0].requests == 1


async def test_a_voice_that_fails_is_told_and_the_stream_goes_on(place: Place) -> None:
    """Every request that waited for it is named; the totals count none of them; other voices speak."""
    place.loader.broken = {"b"}
    place.hold_up()
    bench = place.bench()
    bench.say("config", voice="b")
    bench.say("text", text="never ", request_id="1")
    bench.say("text", text="heard", request_id="2")
    bench.say("synthesize", text="heard", request_id="3", voice="a")
    place.hold_up(go_on=True)
    await bench.until(wire.SynthesisComplete)
    errors = bench.connection.of(Error)
    assert [(error.code, error.request_id, error.recoverable) for error in errors] == [
        ("unknown_voice", "1", True),
        ("unknown_voice", "2", True),
    ]
    assert all("broken on purpose" in error.message for error in errors)
    bench.say("flush", request_id="2")  # it is no more
    assert bench.connection.errors[2:] == ["bad_message"]
    bench.say("list_voices")
    assert [voice.id for voice in bench.connection.of(wire.VoiceList)[0].voices] == ["a", "c"]
    bench.say("text", text="again", request_id="4")  # refused at once now
    bench.say("synthesize", text="again", request_id="5")
    assert [(each.code, each.request_id) for each in bench.connection.of(Error)[3:]] == [
        ("unknown_voice", "4"),
        ("unknown_voice", "5"),
    ]
    bench.say("config", voice="b")
    assert bench.connection.errors[5:] == ["unknown_voice"]
    bench.say("config", voice="c")
    bench.say("synthesize", text="well", request_id="6")
    bench.say("close")
    done = (await bench.until(wire.Done))[0]
    assert (done.requests, done.cancelled, spelled(bench.audio_of("6"))) == (2, 0, "well")


async def test_the_last_request_of_a_stream_may_fail(place: Place) -> None:
    """`done` follows, and a replica that drains closes with 1012."""
    place.loader.broken = {"b", "c"}
    place.hold_up()
    closing, draining = place.bench(), place.bench()
    closing.say("synthesize", text="never heard", voice="b")
    closing.say("close")
    draining.say("synthesize", text="never heard", voice="b")
    draining.session.drain()
    assert draining.connection.closed_with is None
    place.hold_up(go_on=True)
    done = (await closing.until(wire.Done))[0]
    assert (done.requests, closing.connection.closed_with) == (0, CloseCode.DONE)
    await eventually(lambda: draining.connection.closed_with == CloseCode.GOING_AWAY)


async def test_a_speaker_is_named_and_remembered_as_a_number(place: Place) -> None:
    """By name, number or none; one that is not there is told with those that are."""
    bench = place.bench()
    bench.say("config", voice="c", speaker="bert")
    assert bench.connection.of(Configured)[0].settings["speaker"] == 1
    bench.say("synthesize", text="x", request_id="1", speaker="nobody")
    (error,) = bench.connection.of(Error)
    assert (error.code, error.request_id) == ("bad_config", "1")
    assert "anna, bert" in error.message


@pytest.mark.parametrize(
    "hostile", ["../a", "a/../b", "/etc/passwd", "a\x00", "..", ".", "", "A", "a.onnx", "🙂" * 100]
)
async def test_a_hostile_voice_id_is_only_unknown(place: Place, hostile: str) -> None:
    """It is looked up among those that are there, and nowhere else."""
    bench = place.bench()
    bench.say("synthesize", text="x", request_id="1", voice=hostile)
    (error,) = bench.connection.of(Error)
    assert (error.code, error.request_id) == ("unknown_voice", "1")
    assert place.loader.asked == ["a"]


async def test_a_voice_that_was_let_go_is_freed(place: Place) -> None:
    """A request whose audio still waits for a slow reader does not keep its voice in memory."""
    bench = place.bench()
    bench.say("synthesize", text="spoken", voice="b")
    await bench.until(wire.SynthesisComplete)
    (owner,) = {owner for owner, _, _ in bench.connection.audio}
    assert owner.voice.speaker is None  # type: ignore[attr-defined]


async def test_a_cancelled_sentence_may_end_with_a_voice_that_has_gone(place: Place) -> None:
    """The chunk that is being rendered keeps what it needs."""
    bench = place.bench()
    bench.say("synthesize", text="start", voice="b")
    await bench.until(wire.SynthesisComplete)
    slow = next(voice.speaker for voice in place.pool._voices.values() if voice.card.id == "b")
    assert isinstance(slow, RampVoice)
    may_go_on, begun = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def go_on(utterances: list[Utterance], frames: int, *, hasty: bool = False) -> list[Samples]:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result(timeout=10)
        return RampVoice.go_on(slow, utterances, frames)

    slow.go_on = go_on  # type: ignore[method-assign]
    bench.say("synthesize", text="interrupted", request_id="2", voice="b")
    await asyncio.wait_for(begun.wait(), 10)
    bench.say("cancel", request_id="2")
    other = place.bench()
    other.say("synthesize", text="next", voice="c")
    await other.until(wire.SynthesisComplete)
    assert "b" not in place.pool.voice_ids()
    may_go_on.set()
    bench.say("synthesize", text="goes on", request_id="3")
    await bench.until(wire.SynthesisComplete, 2)
    assert bench.audio_of("2") == b""
    assert spelled(bench.audio_of("3")) == "goeson"
