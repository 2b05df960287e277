"""Chunk plans, runs of phonemes, and who is rendered next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from serving.audio import Samples
from tests.unit.fakes import RampVoice
from tts.chunks import FIRST_FRAMES, OVERLAP_FRAMES, plan
from tts.engine import Engine, ListenerStream, Sentence
from tts.metrics import TtsMetrics
from tts.phonemes import MOST_PHONEMES, runs
from tts.voice import Manner

pytestmark = pytest.mark.unit


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_chunks_cover_every_frame_once(frames: int) -> None:
    """Without gap or overlap, each seen with as many further frames as there are up to the overlap."""
    chunks = list(plan(frames))
    assert [chunk.start for chunk in chunks] == [0, *(chunk.end for chunk in chunks[:-1])]
    assert chunks[-1].end == frames
    for chunk in chunks:
        assert chunk.before == min(OVERLAP_FRAMES, chunk.start)
        assert chunk.after == min(OVERLAP_FRAMES, frames - chunk.end)
    assert chunks[0].end - chunks[0].start < 2 * FIRST_FRAMES


@settings(deadline=None)
@given(st.lists(st.sampled_from(list("abə ,.")), max_size=4 * MOST_PHONEMES))
def test_long_phonemes_are_parted_and_none_is_lost(phonemes: list[str]) -> None:
    """Each run is short enough for the encoder; only runs without any sound are left out."""
    parted = runs(phonemes)
    assert all(len(run) <= MOST_PHONEMES for run in parted)
    sounds = [each for each in phonemes if each.isalnum()]
    assert [each for run in parted for each in run if each.isalnum()] == sounds


def test_long_phonemes_are_parted_where_a_reader_would_breathe() -> None:
    """After a comma before the limit, else between words, else at the limit."""
    clause, word = list("abcdefg, "), list("abcdefg ")
    assert all(run[-2:] == [",", " "] for run in runs((clause + word * 10) * 20)[:-1])
    assert all(run[-1] == " " for run in runs(word * 100))
    assert [len(run) for run in runs(list("a" * 700))] == [MOST_PHONEMES, MOST_PHONEMES, 700 - 2 * MOST_PHONEMES]
    assert runs(list("... ?!")) == []


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sentence(queued: float) -> Sentence:
    return Sentence("text", RampVoice(), Manner(), object(), lambda _: None, queued)


def make_engine(clock: Clock, ahead_s: float = 10) -> Engine:
    return Engine(ahead_s=ahead_s, post=lambda *_: None, metrics=TtsMetrics(CollectorRegistry()), clock=clock)


def test_whoever_runs_out_of_audio_first_is_next() -> None:
    """A new stream before one with audio left, the one with less audio before the one with more."""
    clock = Clock()
    engine = make_engine(clock)
    new, short, long = ListenerStream(), ListenerStream(), ListenerStream()
    short.plays_until, long.plays_until = 1001.0, 1005.0
    for stream in (long, short, new):
        engine.submit(stream, sentence(1000.0))
    order = []
    for _ in range(3):
        turn = engine._next()
        assert turn is not None
        order.append(turn[0])
        turn[0].plays_until = 1006.0 + len(order)
    assert order == [new, short, long]


def test_a_stream_far_enough_ahead_waits() -> None:
    """Until playback has used some of it up."""
    clock = Clock()
    engine = make_engine(clock, ahead_s=10)
    stream = ListenerStream()
    stream.plays_until = 1010.5
    engine.submit(stream, sentence(1000.0))
    assert engine._next() is None
    clock.now = 1001.0
    assert engine._next() is not None


def test_a_cancelled_request_leaves_the_listener_in_silence() -> None:
    """What was rendered and not played is forgotten, so what is asked for next is as urgent as a first sound."""
    clock = Clock()
    engine = make_engine(clock)
    stream = ListenerStream()
    stream.plays_until = 1008.0  # 10 s were rendered, 2 s of them played
    engine.cancel(stream, object(), 10.0)
    assert stream.plays_until == 1000.0
    stream.plays_until = 1008.0  # 5 s of one request are played first, then 3 s of another
    engine.cancel(stream, object(), 3.0)
    assert stream.plays_until == 1005.0
    idle = ListenerStream()
    engine.cancel(idle, object(), 0.0)
    assert idle.plays_until == 0.0


def test_a_chunk_that_was_cancelled_while_it_was_rendered_reaches_nobody() -> None:
    """Nor does it count as heard, nor end the sentence that stands in the queue after it."""
    clock = Clock()
    posted: list[object] = []
    engine = Engine(ahead_s=10, post=posted.append, metrics=TtsMetrics(CollectorRegistry()), clock=clock)
    stream, first, second = ListenerStream(), sentence(1000.0), sentence(1000.0)

    class Interrupted(RampVoice):
        def render(self, ids: list[int], manner: Manner) -> Iterator[Samples]:
            engine.cancel(stream, first.owner)
            yield from super().render(ids, manner)

    first.voice = Interrupted()
    engine.submit(stream, first)
    engine.submit(stream, second)
    engine._render_chunk(stream, first)
    assert posted == []
    assert stream.plays_until == 0.0
    assert list(stream.sentences) == [second]


def slack_seen(metrics: TtsMetrics) -> tuple[float, float]:
    """How many chunks were measured, and how many of them came too late."""
    (metric,) = metrics.slack.collect()
    below = {each.labels["le"]: each.value for each in metric.samples if each.name.endswith("_bucket")}
    return below["+Inf"], below["0.0"]


def test_slack_is_measured_while_a_listener_listens() -> None:
    """Not for a first chunk, nor for one after a silence that the listener's own next request ended."""
    clock = Clock()
    metrics = TtsMetrics(CollectorRegistry())
    engine = Engine(ahead_s=10, post=lambda *_: None, metrics=metrics, clock=clock)
    stream, spoken = ListenerStream(), sentence(1000.0)
    engine.submit(stream, spoken)
    clock.now = 1000.1
    engine._render_chunk(stream, spoken)  # 40 samples are 2.5 ms
    assert slack_seen(metrics) == (0, 0)
    stream.plays_until = 1001.0
    clock.now = 1000.5
    engine._account(stream, spoken, 2.0)
    assert slack_seen(metrics) == (1, 0)
    clock.now = 1005.0  # too late: a gap was heard
    engine._account(stream, spoken, 1.0)
    assert slack_seen(metrics) == (2, 1)
    clock.now = 2000.0
    engine._account(stream, sentence(1999.9), 1.0)
    assert slack_seen(metrics) == (2, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_without_its_thread_is_stuck() -> None:
    """A bug that ends the thread must not look like an idle engine."""

    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    engine = Engine(ahead_s=10, post=broken, metrics=TtsMetrics(CollectorRegistry()))
    assert engine.seconds_stuck() == 0
    engine.start()
    assert engine.seconds_stuck() == 0
    engine.submit(ListenerStream(), sentence(0.0))
    for thread in engine._threads:
        thread.join(timeout=30)
    assert engine.seconds_stuck() == float("inf")
    engine.stop()
    assert engine.seconds_stuck() == 0
