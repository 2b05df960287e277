"""The promised prefix: when words are promised, and that a promise is never broken."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.agreement import StablePrefix, keep_promise

pytestmark = pytest.mark.unit

WORDS = st.lists(st.sampled_from(["so", "So,", "it", "it's", "is", "was", "Was.", "a", "an", "and", "…", "end."]))
HYPOTHESES = st.lists(st.tuples(WORDS.map(" ".join), st.lists(WORDS.map(" ".join), max_size=2)), max_size=8)


def test_words_that_two_hypotheses_share_are_promised_but_the_last() -> None:
    """The newest agreed word stands at the older audio's end and may still change."""
    stable = StablePrefix()
    stable.update("the stillness was", 1.0)
    assert stable.text == ""
    stable.update("the stillness was awful", 2.0)
    assert stable.text == "the stillness"


def test_what_another_reading_doubts_is_not_promised() -> None:
    """A word that is heard wrong twice in the same way often has a rival in the beam."""
    stable = StablePrefix()
    stable.update("a squire of dings and so on", 1.0, ["a squire of things and so on"])
    stable.update("a squire of dings and so on", 2.0, ["a squire of dings and so forth"])
    assert stable.text == "a squire"


def test_marks_and_case_do_not_count_as_doubt() -> None:
    """Whisper wavers about them; the promise has them as they read last."""
    stable = StablePrefix()
    stable.update("Well, the crowd ran away", 1.0, ["well the crowd ran away"])
    stable.update("well the crowd ran away", 2.0)
    assert stable.text == "well the crowd ran"


def test_a_mark_after_the_last_word_is_not_promised() -> None:
    """It may turn into another one, or go."""
    stable = StablePrefix()
    stable.update("he said, yes", 1.0)
    stable.update("he said, yes", 2.0)
    assert stable.text == "he said"


def test_hypotheses_of_nearly_the_same_audio_do_not_count() -> None:
    """They agree because they heard the same."""
    stable = StablePrefix()
    for end in (1.0, 1.3, 1.6):
        stable.update("one two three four", end)
        assert stable.text == ""
    stable.update("one two three four", 2.0)
    assert stable.text == "one two three"


def test_a_hypothesis_in_between_that_differs_prevents_a_promise() -> None:
    """All that were heard since the older one must agree."""
    stable = StablePrefix()
    for end, text in ((1.0, "one two three four"), (1.5, "one too three four"), (2.0, "one two three four")):
        stable.update(text, end)
    assert stable.text == ""


@pytest.mark.parametrize(
    ("promised", "hypothesis", "kept"),
    [
        ("", "anything at all", "anything at all"),
        ("the crowd", "the crowd ran", "the crowd ran"),
        ("the crowd", "The crowd, it ran", "the crowd, it ran"),
        ("the crowd", "the crowds ran", "the crowd ran"),
        ("a squire of dings", "a squire of things, and so on", "a squire of dings and so on"),
        ("I had the honour", "But I had the honor to be", "I had the honour to be"),
        ("he was", "he never was there", "he was there"),
        ("Towson", "Tossing his gun up", "Towson his gun up"),
        ("the end", "", "the end"),
    ],
)
def test_promised_words_replace_what_stands_for_them(promised: str, hypothesis: str, kept: str) -> None:
    """What follows them is the hypothesis' own, nothing of it lost and nothing said twice."""
    assert keep_promise(promised, hypothesis) == kept


@settings(max_examples=500, deadline=None)
@given(HYPOTHESES, WORDS.map(" ".join))
@example([("so so … …", []), ("so so … …", [])], "")
def test_no_promise_is_ever_broken(partials: list[tuple[str, list[str]]], final: str) -> None:
    """Whatever the hypotheses: each promise begins every later partial, every later promise, and the final."""
    stable = StablePrefix()
    promises: list[str] = []
    for second, (hypothesis, alternatives) in enumerate(partials):
        shown = stable.update(hypothesis, float(second), alternatives)
        promises.append(stable.text)
        assert all(shown.startswith(promise) for promise in promises)
    text = keep_promise(stable.text, final)
    assert all(text.startswith(promise) for promise in promises)
    assert text == text.strip()
