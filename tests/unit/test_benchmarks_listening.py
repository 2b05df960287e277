"""What a simulated player hears of audio that comes in time, late, or not at all, and when listeners ask."""

from __future__ import annotations

import asyncio
import math
import time
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import listening
from benchmarks.listening import Reply, apart, ask, judge, texts
from benchmarks.systems import Refused
from loadtest.figures import gaps
from loadtest.texts import REPLIES

pytestmark = pytest.mark.unit

PIECES = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 30)), max_size=12)
"""Milliseconds after the piece before, and of sound."""


def test_audio_that_comes_before_it_is_played_has_no_gap() -> None:
    """Also when it comes at the very moment."""
    assert gaps([]) == []
    assert gaps([(100.0, 0.5)]) == []
    assert gaps([(100.0, 0.5), (100.0, 2.0), (100.25, 1.0), (103.5, 1.0)]) == []


def test_a_gap_lasts_until_the_next_piece_and_delays_what_follows() -> None:
    """The second piece is half a second late; the third would be, but is played after the second."""
    assert gaps([(100.0, 1.0), (101.5, 1.0), (102.25, 1.0)]) == [0.5]
    assert gaps([(100.0, 1.0), (101.5, 1.0), (103.0, 1.0)]) == [0.5, 0.5]


@given(PIECES)
def test_playback_ends_after_the_sound_and_all_gaps(pieces: list[tuple[int, int]]) -> None:
    """Against a player that goes on millisecond by millisecond."""
    arrivals, at = [], 0
    for after, length in pieces:
        at += after
        arrivals.append((at, length))
    expected, buffered = [], 0
    for number, (at, length) in enumerate(arrivals):
        if number:
            waited = at - arrivals[number - 1][0]
            if waited > buffered:
                expected.append(waited - buffered)
            buffered = max(0, buffered - waited)
        buffered += length
    assert gaps(arrivals) == expected


def reply(first: float | None, *, refused: bool = False, failure: str | None = None) -> Reply:
    """One that was due at 100 s and sounds for a second."""
    arrivals = [] if first is None else [(100.0 + first, 1.0)]
    return Reply("Yes.", 100.0, arrivals, refused=refused, failure=failure)


def test_who_is_refused_is_counted_apart_and_who_fails_waits_for_ever() -> None:
    """A refusal is no slow answer; a reply without audio is."""
    heard = judge([reply(0.25), reply(None, refused=True), reply(None, failure="hung up"), reply(0.5, failure="late")])
    assert (heard.replies, heard.refused, heard.failed) == (4, 1, 2)
    assert heard.failures == {"hung up": 1, "late": 1}
    assert (heard.first_p50, heard.first_p95, heard.first_worst) == (0.5, math.inf, math.inf)
    assert heard.audio_s == 2.0
    assert not heard.complete
    assert judge([reply(0.25)]).complete


def test_gaps_are_counted_over_all_replies() -> None:
    """How many, in how many replies, together, and the longest."""
    cut = [Reply("Yes.", 0.0, [(1.0, 1.0), (2.5, 1.0), (4.5, 1.0)]), Reply("No.", 0.0, [(1.0, 1.0), (2.25, 1.0)])]
    heard = judge([*cut, reply(0.1)])
    assert (heard.gapped, heard.gaps, heard.gap_s, heard.longest_gap_s) == (2, 3, 1.75, 1.0)


def test_the_replies_are_of_5_to_35_words_and_all_asked_for_before_one_again() -> None:
    """In an order that is the same each time."""
    known = REPLIES.read_text(encoding="utf-8").splitlines()
    lengths = sorted(len(text.split()) for text in known)
    assert (lengths[0], lengths[-1], len(set(known))) == (5, 35, len(known))
    twice = list(islice(texts(), 2 * len(known)))
    assert sorted(twice[: len(known)]) == sorted(twice[len(known) :]) == sorted(known)
    assert twice == list(islice(texts(), 2 * len(known)))


def test_listeners_apart_ask_every_so_often_from_a_moment_of_their_own() -> None:
    """Each as often as fits, and no two in step."""
    asked = apart(5, 6.0, 30.0, begin=1000.0)
    moments = [each.due - 1000.0 for each in asked]
    assert len(asked) == 25
    assert moments == sorted(moments)
    assert 0 <= moments[0] < 6.0
    assert moments[-1] < 30.0
    assert len({round(moment % 6.0, 6) for moment in moments}) == 5


async def test_a_system_that_never_answers_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it would hold the listener."""
    monkeypatch.setattr(listening, "COMPLETE_WITHIN_S", 0.0)
    asked = Reply("Yes.", time.monotonic())
    await ask(lambda _: asyncio.Event().wait(), asked)  # type: ignore[arg-type,return-value]
    assert asked.failure is not None
    assert "not complete" in asked.failure
    assert not asked.complete


async def test_what_a_system_does_to_a_listener_is_noted() -> None:
    """It refuses, fails, says nothing, or speaks."""

    async def refuse(_: Reply) -> None:
        raise Refused

    async def fail(_: Reply) -> None:
        raise ConnectionResetError

    async def speak(asked: Reply) -> None:
        await asked.until_due()
        asked.hear(1.5)

    async def say_nothing(_: Reply) -> None:
        pass

    refused, failed, silent, spoken = (Reply("Yes.", time.monotonic()) for _ in range(4))
    await asyncio.gather(ask(refuse, refused), ask(fail, failed), ask(say_nothing, silent), ask(speak, spoken))
    assert (refused.refused, refused.failure) == (True, None)
    assert (failed.refused, failed.failure) == (False, "ConnectionResetError")
    assert (silent.failure, silent.ended) == ("no audio", None)
    assert spoken.failure is None
    assert spoken.complete
    assert spoken.ended == spoken.arrivals[-1][0]
    assert spoken.first_audio_s >= 0
    assert spoken.seconds == 1.5
