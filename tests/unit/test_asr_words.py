"""Times of words from an alignment of tokens, without a model."""

from __future__ import annotations

import numpy as np
import pytest

from asr.engine import Word
from asr.words import group_tokens, retimed, snug, timed

pytestmark = pytest.mark.unit


def grouped(pieces: list[str], texts: list[str], language: str = "en") -> list[str]:
    return [word for word, _, _ in group_tokens(pieces, texts, language)]


def test_words_begin_at_spaces() -> None:
    """Marks and the rest of a word stay with it."""
    pieces = ["ĠHel", "lo", ",", "Ġit", "'s", "Ġ5", "."]
    texts = [" Hel", " Hello", " Hello,", " Hello, it", " Hello, it's", " Hello, it's 5", " Hello, it's 5."]
    assert group_tokens(pieces, texts, "en") == [("Hello,", 0, 3), ("it's", 3, 5), ("5.", 5, 7)]


def test_a_language_without_spaces_goes_by_whole_characters() -> None:
    """A character of several tokens is one word."""
    assert grouped(["a", "b", "c"], ["\ufffd", "日", "日本"], "ja") == ["日", "本"]
    assert group_tokens(["a", "b", "c"], ["\ufffd", "日", "日本"], "ja")[0] == ("日", 0, 2)


def test_no_tokens_are_no_words() -> None:
    """And a lone space is none either."""
    assert group_tokens([], [], "en") == []
    assert grouped(["Ġ", "Ġso"], [" ", "  so"]) == ["so"]


def test_a_word_lasts_until_the_next_begins() -> None:
    """Times are the alignment's states of 20 ms; confidence is the mean of the word's tokens."""
    words = timed(
        [("one", 0, 2), ("two", 2, 3)], [(0, 10), (1, 20), (1, 21), (2, 50), (3, 80)], [0.5, 1, 0.9], seconds=2
    )
    assert words == (Word("one", 0.2, 1.0, 0.75), Word("two", 1.0, 1.6, 0.9))


def test_times_are_counted_from_behind_what_went_before() -> None:
    """And lie within the request's audio, whatever the alignment says."""
    words = timed([("one", 0, 1), ("two", 1, 2)], [(0, 90), (1, 150), (2, 400)], [1, 1], skip=2.0, seconds=3.0)
    assert [(word.start, word.end) for word in words] == [(0.0, 1.0), (1.0, 3.0)]


def test_words_are_as_long_as_their_sound() -> None:
    """Silence at their edges goes; a word without any sound stays where it is."""
    samples = np.zeros(3 * 16000, np.float32)
    samples[4800:8000] = samples[20000:24000] = 0.5
    words = (Word("one", 0.0, 0.9, 1.0), Word("mute", 0.9, 1.0, 1.0), Word("two", 1.0, 1.3, 1.0))
    heard = snug(words, samples)
    assert [(word.start, word.end) for word in heard] == [(0.3, 0.5), (0.9, 1.0), (1.25, 1.3)]
    assert snug(words, samples[:0]) == words


HEARD = (Word("grey", 0.0, 0.4, 0.5), Word("honor", 0.4, 1.0, 0.7), Word("bound", 1.0, 1.5, 0.9))


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("grey honor bound", [0.0, 0.4, 1.0]),
        ("grey honour bound", [0.0, 0.4, 1.0]),
        ("gray honour bound", [0.0, 0.4, 1.0]),
        ("grey hon or bound", [0.0, 0.4, 0.76, 1.0]),
        ("grey bound", [0.0, 1.0]),
        ("grey honor bound so", [0.0, 0.4, 1.0, 1.5]),
    ],
)
def test_a_promised_word_takes_the_time_of_what_it_replaces(text: str, starts: list[float]) -> None:
    """In proportion to the words' lengths; the others keep theirs."""
    words = retimed(text, HEARD, 1.5)
    assert [word.text for word in words] == text.split()
    assert [word.start for word in words] == pytest.approx(starts, abs=0.01)
    assert words[text.split().index("bound")] == HEARD[2]


def test_words_before_the_first_that_was_heard_take_no_time() -> None:
    """There is none to give them, and they are told all the same."""
    words = retimed("so bound", (HEARD[2],), 1.5)
    assert [(word.text, word.start, word.end) for word in words] == [("so", 1.0, 1.0), ("bound", 1.0, 1.5)]


def test_promised_words_share_the_time_where_none_was_heard() -> None:
    """The final may find nothing where partials promised words."""
    assert retimed("any thing", (), 1.6) == (Word("any", 0.0, 0.6, 0.0), Word("thing", 0.6, 1.6, 0.0))
