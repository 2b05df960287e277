"""Utterances from probabilities: where they begin and end, to the sample."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.endpointer import (
    PAUSE,
    POST_ROLL,
    PRE_ROLL,
    Endpointer,
    Event,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    SpeechWentOn,
)
from asr.vad import HOP

pytestmark = pytest.mark.unit


def run(endpointer: Endpointer, *runs: tuple[float, int]) -> list[tuple[int, SpeechStarted | SpeechEnded]]:
    """The starts and ends among what `run_all` returns."""
    events = run_all(endpointer, *runs)
    return [(hop, event) for hop, event in events if isinstance(event, SpeechStarted | SpeechEnded)]


def run_all(endpointer: Endpointer, *runs: tuple[float, int]) -> list[tuple[int, Event]]:
    """Feed runs of (probability, hops); returns each event with the hop, counted from 1, that brought it."""
    scores = [score for score, hops in runs for _ in range(hops)]
    return [(hop, event) for hop, score in enumerate(scores, 1) for event in endpointer.feed(score)]


def test_an_utterance_has_its_onset_and_its_tail() -> None:
    """It begins before the first hop of speech and ends after the last, once the silence is long enough."""
    events = run(Endpointer(endpointing_ms=500), (0.0, 50), (0.9, 30), (0.0, 30))
    assert events == [
        (53, SpeechStarted(50 * HOP - PRE_ROLL)),
        (96, SpeechEnded(80 * HOP + POST_ROLL, 16 * HOP)),  # the 16th hop of silence: 512 ms
    ]


def test_speech_from_the_first_sample_begins_there() -> None:
    """No sample before the stream's start."""
    assert run(Endpointer(), (0.9, 5))[0][1] == SpeechStarted(0)


def test_a_pause_shorter_than_the_silence_asked_for_ends_nothing() -> None:
    """And one as long does."""
    endpointer = Endpointer(endpointing_ms=640)
    assert len(run(endpointer, (0.9, 10), (0.0, 19), (0.9, 10))) == 1
    assert len(run(endpointer, (0.0, 20))) == 1


def test_silence_ends_an_utterance_whatever_the_threshold() -> None:
    """Also one that is lower than the hysteresis: 0 is silence."""
    assert len(run(Endpointer(threshold=0.1), (0.2, 10), (0.0, 20))) == 2


def test_a_pause_is_told_once_and_so_is_its_end() -> None:
    """A pause may be the utterance's end; both that and its going on are told, also the second time."""
    endpointer = Endpointer(endpointing_ms=500)
    hops = PAUSE // HOP
    events = run_all(endpointer, (0.9, 20), (0.0, hops + 4), (0.9, 5), (0.0, hops - 1), (0.9, 5), (0.0, 16))
    assert events[1:] == [
        (20 + hops, SpeechPaused(20 * HOP)),
        (20 + hops + 5, SpeechWentOn()),
        (33 + 3 * hops, SpeechPaused((33 + 2 * hops) * HOP)),
        (33 + 2 * hops + 16, SpeechEnded((33 + 2 * hops) * HOP + POST_ROLL, 16 * HOP)),
    ]


def test_patience_holds_for_one_pause() -> None:
    """Less or more silence than the setting's ends the utterance in this pause; the next one has the setting's."""
    endpointer = Endpointer(endpointing_ms=500)
    run_all(endpointer, (0.9, 20), (0.0, PAUSE // HOP))
    endpointer.be_patient(30 * HOP)
    assert run(endpointer, (0.0, 23)) == []
    assert run(endpointer, (0.9, 1), (0.0, 16)) == [(17, SpeechEnded(50 * HOP + POST_ROLL, 16 * HOP))]
    run_all(endpointer, (0.9, 20), (0.0, PAUSE // HOP))
    endpointer.be_patient(9 * HOP)
    assert [hop for hop, _ in run(endpointer, (0.0, 10))] == [3]


def test_speech_goes_on_below_the_threshold_that_starts_it() -> None:
    """Hysteresis: 0.4 does not open an utterance, but keeps one open."""
    endpointer = Endpointer(threshold=0.5)
    assert run(endpointer, (0.4, 100)) == []
    assert len(run(endpointer, (0.9, 5), (0.4, 100))) == 1


def test_a_click_opens_nothing() -> None:
    """One or two hops of speech among silence are too few; what might become an utterance is told."""
    endpointer = Endpointer()
    assert run(endpointer, *[(0.0, 20), (0.95, 2)] * 5) == []
    assert endpointer.candidate == (5 * 22 - 2) * HOP - PRE_ROLL


def test_the_next_utterance_begins_after_the_one_before() -> None:
    """Its onset never takes samples that were the other's."""
    endpointer = Endpointer(endpointing_ms=64)
    events = [event for _, event in run(endpointer, (0.0, 40), (0.9, 10), (0.0, 2), (0.9, 10))]
    assert isinstance(events[1], SpeechEnded)
    assert events[2] == SpeechStarted(events[1].sample)


def test_a_long_utterance_is_cut_where_it_is_quietest() -> None:
    """In its second half, without a gap to the rest."""
    endpointer = Endpointer(max_utterance_s=3.2)
    events = [event for _, event in run(endpointer, (0.9, 60), (0.6, 1), (0.9, 45))]
    cut = 60 * HOP + HOP // 2
    assert events == [SpeechStarted(0), SpeechEnded(cut, 0), SpeechStarted(cut)]


def test_after_a_reset_nothing_before_it_is_used() -> None:
    """The floor holds for the next utterance's onset."""
    endpointer = Endpointer()
    run(endpointer, (0.9, 10))
    endpointer.reset(10 * HOP)
    assert endpointer.candidate is None
    assert [event for _, event in run(endpointer, (0.9, 5))] == [SpeechStarted(10 * HOP)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.4, 0.6, 0.95]), st.integers(1, 60)), max_size=30),
    st.integers(100, 1000),
    st.floats(1, 5),
)
def test_utterances_are_in_order_and_never_overlap(
    runs: list[tuple[float, int]], endpointing_ms: int, max_utterance_s: float
) -> None:
    """Starts and ends alternate, each at or after the one before, none past what was heard, none too long."""
    endpointer = Endpointer(endpointing_ms=endpointing_ms, max_utterance_s=max_utterance_s)
    here = 0
    open_at: int | None = None
    for hop, event in run(endpointer, *runs):
        assert here <= event.sample <= hop * HOP
        here = event.sample
        if isinstance(event, SpeechStarted):
            assert open_at is None
            open_at = event.sample
        else:
            assert open_at is not None
            assert event.sample - open_at <= max_utterance_s * 16000 + HOP
            open_at = None
