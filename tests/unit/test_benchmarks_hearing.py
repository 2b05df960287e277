"""Which words a benchmark takes for which clip, and how late it finds them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hearing import DRAIN_S, Speaker, Text, judge
from benchmarks.speech import Speech, Spoken
from loadtest.clips import Clip

pytestmark = pytest.mark.unit

FIRST = Spoken(Clip(Path("one.flac"), "one two"), start=1.2, speech_start=1.4, speech_end=3.0, end=3.2)
SECOND = Spoken(Clip(Path("three.flac"), "three"), start=4.4, speech_start=4.6, speech_end=6.0, end=6.2)
SPEECH = Speech([FIRST, SECOND], np.zeros(16000, np.int16))


def final(at: float, words: str, start: float | None, end: float) -> Text:
    return Text(at, words, True, start, end)


def test_latency_runs_from_the_true_end_of_speech_to_the_last_final_that_covers_it() -> None:
    """A final of the clip's beginning does not count, nor does one of another clip."""
    heard = judge(SPEECH, [final(2.5, "one", 1.3, 1.9), final(3.7, "two", 2.1, 3.1), final(6.5, "three", 4.5, 6.0)])
    assert heard.latencies == pytest.approx([0.7, 0.5])
    assert (heard.said, heard.words) == ("one two three", "one two three")


def test_a_clip_without_a_final_in_time_waits_for_ever() -> None:
    """Neither a final that ends too early nor one that comes too late finalises a clip."""
    late = 6.0 + DRAIN_S + 0.1
    assert judge(SPEECH, [final(3.5, "one", 1.3, 1.9), final(late, "three", 4.5, 6.0)]).latencies == [math.inf] * 2


def test_a_final_that_spans_two_clips_finalises_both() -> None:
    """Some systems join what is said with a pause between."""
    assert judge(SPEECH, [final(7.0, "one two three", 1.3, 6.1)]).latencies == pytest.approx([4.0, 1.0])


def test_a_final_that_begins_where_the_clip_before_ended_is_not_of_that_clip() -> None:
    """Some systems let an utterance begin in the silence before it."""
    heard = judge(SPEECH, [final(3.4, "one two", 1.3, 2.9), final(6.4, "three", 2.9, 6.0)])
    assert heard.latencies == pytest.approx([0.4, 0.4])


def test_without_a_start_a_final_is_of_the_clip_that_it_ends_in() -> None:
    """Where a system tells only the end, word by word, the last word of a clip counts."""
    words = [final(2.2, "one", None, 1.9), final(3.6, "two", None, 2.9), final(6.4, "three", None, 5.9)]
    assert judge(SPEECH, words).latencies == pytest.approx([0.6, 0.4])


def test_first_words_are_the_first_that_tell_of_the_clip() -> None:
    """By their time where it is told; else they must come after all before the clip is final."""
    timed = [Text(2.0, "one", False, 1.3, 1.9), Text(5.0, "three", False, 4.5, 4.9)]
    assert judge(SPEECH, timed).first_partials == pytest.approx([0.6, 0.4])
    untimed = [
        Text(2.0, "one", False, None, None),
        Text(4.8, "two", False, None, None),  # still of the first clip
        final(5.0, "one two", None, 3.0),
        Text(5.2, "three", False, None, None),
    ]
    assert judge(SPEECH, untimed).first_partials == pytest.approx([0.6, 0.6])


def test_a_speaker_waits_until_every_clip_is_final_and_no_longer_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence goes on while something is missing, and a little beyond the last news."""
    now = 100.0
    monkeypatch.setattr("benchmarks.hearing.time.monotonic", lambda: now)
    speaker = Speaker(SPEECH)
    speaker.begin()
    now = 107.0
    assert speaker.waits()
    speaker.hear("one two three", final=True, start=1.3, end=6.1)
    assert speaker.waits()
    now = 110.0
    assert not speaker.waits()
    speaker.texts.clear()
    assert speaker.waits()
    now = 100.0 + 6.0 + DRAIN_S + 0.1
    assert not speaker.waits()
