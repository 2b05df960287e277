"""Who is let in, by what the streams before have needed."""

from __future__ import annotations

import time

import pytest

from asr.admission import FIRST_GUESS, FULL, WINDOW_S, YOUNG_S, Admission

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

    need = 0.0
    waits = 0.0


def admission(limit_ms: int = 2000) -> tuple[Admission, Engine]:
    engine = Engine()
    made = Admission(limit_ms, need=lambda: engine.need, oldest_wait_s=lambda: engine.waits)
    return made, engine


def test_late_finals_refuse_until_they_are_long_ago(clock: Clock) -> None:
    """The 95th percentile counts, not the worst of many; soon after the last late one all is as before."""
    made, _ = admission()
    for _ in range(40):
        made.observe(0.5)
    made.observe(5.0)
    assert made.refusal() is None
    for _ in range(4):
        made.observe(5.0)
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
    let_in = 0
    while made.refusal() is None:
        made.opened(object())
        let_in += 1
    assert let_in == int(FULL / FIRST_GUESS)


def test_streams_that_need_little_make_room_for_more(clock: Clock) -> None:
    """Once they are old enough to have shown it; those that leave make room at once."""
    made, engine = admission()
    streams = [object() for _ in range(int(FULL / FIRST_GUESS))]
    for stream in streams:
        made.opened(stream)
    assert made.refusal() is not None
    clock.now += YOUNG_S
    engine.need = 0.02 * len(streams)
    assert made.refusal() is None
    engine.need = FULL - 0.01
    assert "busy" in str(made.refusal())
    for stream in streams:
        made.closed(stream)
    engine.need = 0.0
    assert made.refusal() is None


@pytest.mark.usefixtures("clock")
def test_without_a_limit_nobody_is_refused() -> None:
    """0 admits by number alone."""
    made, engine = admission(0)
    engine.need, engine.waits = 5.0, 60.0
    made.observe(60.0)
    assert made.refusal() is None
