"""Who is let in, by what the streams before have needed."""

from __future__ import annotations

import time

import pytest

from asr.admission import FIRST_GUESS, FULL, LEARNT_FROM, NEED_OVER_S, WINDOW_S, YOUNG_S, Admission

pytestmark = pytest.mark.unit


class Clock:
    """Time that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """See `Clock`."""
    return Clock(monkeypatch)


class Engine:
    """What the scheduler would say."""

    spent = 0.0
    waits = 0.0


def admission(limit_ms: int = 2000) -> tuple[Admission, Engine]:
    engine = Engine()
    made = Admission(limit_ms, spent_s=lambda: engine.spent, oldest_wait_s=lambda: engine.waits)
    return made, engine


def let_in(made: Admission) -> list[object]:
    """As many streams as find room now."""
    streams: list[object] = []
    while made.refusal() is None:
        assert len(streams) < 1000
        streams.append(object())
        made.opened(streams[-1])
    return streams


def speak(clock: Clock, made: Admission, engine: Engine, streams: list[object], cost: float, rounds: int) -> None:
    """Everybody speaks without pause, in utterances of 5 s, of which each second takes `cost` of the engine's."""
    for _ in range(rounds):
        for stream in streams:
            clock.now += 5.0 / len(streams)
            engine.spent += 5.0 * cost
            made.observe(stream, 0.3, 5.0)


def test_late_finals_refuse_until_they_are_long_ago(clock: Clock) -> None:
    """The 95th percentile counts, not the worst of many; soon after the last late one all is as before."""
    made, _ = admission()
    for _ in range(40):
        made.observe("stream", 0.5, 5.0)
    made.observe("stream", 5.0, 5.0)
    assert made.refusal() is None
    for _ in range(4):
        made.observe("stream", 5.0, 5.0)
    assert "5.0 s late" in str(made.refusal())
    clock.now += WINDOW_S + 0.1
    assert made.refusal() is None


@pytest.mark.usefixtures("clock")
def test_a_final_that_still_waits_counts_before_it_is_sent() -> None:
    """An engine that has stalled sends no finals that could be late."""
    made, engine = admission()
    engine.waits = 2.5
    assert "2.5 s late" in str(made.refusal())


@pytest.mark.usefixtures("clock")
def test_a_crowd_at_once_is_not_let_in_whole() -> None:
    """Before any stream has shown what it needs, a guess is counted for each."""
    made, _ = admission()
    assert len(let_in(made)) == int(FULL / FIRST_GUESS)


def test_what_speech_has_cost_decides_how_many_of_a_crowd_come_in(clock: Clock) -> None:
    """Also when those it was learnt from have left."""
    made, engine = admission()
    made.opened("first")
    speak(clock, made, engine, ["first"], 0.01, LEARNT_FROM)
    made.closed("first")
    clock.now += max(NEED_OVER_S)
    assert len(let_in(made)) == pytest.approx(FULL / 0.01, rel=0.1)


def test_silent_streams_do_not_make_room_for_a_crowd(clock: Clock) -> None:
    """They have shown what silence costs, which says nothing of those who speak."""
    made, _ = admission()
    for _ in range(8):
        made.opened(object())
    clock.now += YOUNG_S
    assert len(let_in(made)) == int(FULL / FIRST_GUESS)


def test_those_in_a_long_utterance_are_not_taken_for_silent(clock: Clock) -> None:
    """They need the engine when it ends, however long they have been here."""
    made, _ = admission()
    let_in(made)
    clock.now += 28.0  # the longest that there is
    assert "busy" in str(made.refusal())


def test_a_crowd_that_speaks_fills_the_engine_and_no_more(clock: Clock) -> None:
    """Whatever the order in which they come and speak, and however often those who were refused ask again."""
    made, engine = admission()
    streams = let_in(made)
    for _ in range(20):
        speak(clock, made, engine, streams, 0.02, 1)
        streams += let_in(made)
    assert len(streams) == pytest.approx(FULL / 0.02, rel=0.1)
    assert "busy" in str(made.refusal())


def test_a_moment_of_quiet_in_a_crowd_is_not_room(clock: Clock) -> None:
    """Utterances that happen to end together leave the engine idle before they end again."""
    made, engine = admission()
    streams = let_in(made)
    for _ in range(5):
        clock.now += 5.0
        for stream in streams:
            engine.spent += 5.0 * FIRST_GUESS
            made.observe(stream, 0.3, 5.0)
    clock.now += 4.5
    assert made.refusal() is not None


def test_those_who_leave_make_room(clock: Clock) -> None:
    """At once where they have not spoken, and soon where they have."""
    made, engine = admission()
    streams = let_in(made)
    for stream in streams:
        made.closed(stream)
    assert made.refusal() is None
    streams = let_in(made)
    speak(clock, made, engine, streams, FIRST_GUESS, 4)
    assert made.refusal() is not None
    clock.now += 5.0
    assert made.refusal() is None


@pytest.mark.usefixtures("clock")
def test_without_a_limit_nobody_is_refused() -> None:
    """0 admits by number alone."""
    made, engine = admission(0)
    engine.spent, engine.waits = 500.0, 60.0
    made.observe("stream", 60.0, 5.0)
    assert made.refusal() is None
