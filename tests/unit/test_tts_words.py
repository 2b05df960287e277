"""When words are heard: written words found again in phonemes and in sound, without a model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.audio import Samples
from tts.timeline import SpokenWord, Timeline, shared
from tts.words import Span, place, symbols, written_words

pytestmark = pytest.mark.unit

ALONE = {
    "the": "ðə",
    "The": "ðə",
    "end": "ˈɛnd",
    "of": "ʌv",
    "day.": "dˈeɪ.",
    "I": "ˈaɪ",
    "am": "æm",
    "42": "fˈɔːɹɾi tˈuː",
    "dogs,": "dˈɑːɡz, ",
    "12": "twˈɛlv",
    "345": "θɹˈiːhˈʌndɹɪd fˈɔːɹɾi fˈaɪv",
    "—": "",
    "red": "ɹˈɛd",
    "fox": "fˈɑːks",
    "May": "mˈeɪ",
    "3": "θɹˈiː",
    "May the third": "mˈeɪ ðə θˈɜːd",
}
"""What espeak-ng makes of English texts that stand alone."""


def spoken(text: str, *runs: str, pieces: list[tuple[str, str]] | None = None) -> list[list[tuple[str, str]]]:
    """Which phonemes of each run speak which words of a text."""
    placed = place(pieces or [(word, word) for word in text.split()], runs, lambda alone: symbols(ALONE[alone]))
    return [
        [(" ".join(span.words), run[span.first : span.end]) for span in spans]
        for run, spans in zip(runs, placed, strict=True)
    ]


def test_a_word_is_what_stands_between_white_space() -> None:
    """Punctuation stays attached; a block of phonemes is a word, whatever is in it."""
    assert written_words(' He said: "go" —\n now, to [[ həlˈoʊ wˈɜːld ]]. ') == [
        "He",
        "said:",
        '"go"',
        "—",
        "now,",
        "to",
        "[[ həlˈoʊ wˈɜːld ]].",
    ]
    assert written_words("日本語。 [[ not closed") == ["日本語。", "[[", "not", "closed"]
    assert written_words(" \n") == []


def test_phonemes_are_compared_by_their_sounds() -> None:
    """Stress and length aside, with one gap between words however they are parted, none at the ends."""
    assert symbols("ˈɪn, ðə  mˈɔːɹnɪŋ.") == ("ɪ", "n", "", "ð", "ə", "", "m", "ɔ", "ɹ", "n", "ɪ", "ŋ")
    assert symbols(" ʌ̃ — ") == ("ʌ",)
    assert symbols("") == symbols("—ˈ, ") == ()


def test_words_that_are_joined_are_parted_again() -> None:
    """Each keeps its own sounds, stress and glides included, however the sentence says them."""
    assert spoken("I am the end of the day.", "aɪɐm ðɪʲ ˈɛnd ʌvðə dˈeɪ.") == [
        [("I", "aɪ"), ("am", "ɐm"), ("the", "ðɪʲ"), ("end", "ˈɛnd"), ("of", "ʌv"), ("the", "ðə"), ("day.", "dˈeɪ")]
    ]


def test_a_number_is_one_word_however_long_it_is_spoken() -> None:
    """From the first of its groups to its last; what only its neighbours make of it ("thousand") goes with it."""
    assert spoken("The 42 dogs,", "ðə fˈɔːɹɾi tˈuː dˈɑːɡz, ") == [
        [("The", "ðə"), ("42", "fˈɔːɹɾi tˈuː"), ("dogs,", "dˈɑːɡz")]
    ]
    ((first, second, _),) = spoken("12 345 dogs,", "twˈɛlv θˈaʊzənd θɹˈiːhˈʌndɹɪd fˈɔːɹɾi fˈaɪv dˈɑːɡz, ")
    assert first == ("12", "twˈɛlv θˈaʊzənd")
    assert second == ("345", "θɹˈiːhˈʌndɹɪd fˈɔːɹɾi fˈaɪv")


def test_what_nobody_says_lasts_no_time() -> None:
    """A dash stands where the word before it ends, or at the start."""
    assert spoken("— The — end", "ðɪ; ˈɛnd") == [[("—", ""), ("The", "ðɪ"), ("—", ""), ("end", "ˈɛnd")]]


def test_words_go_with_the_run_that_speaks_them() -> None:
    """Each run has its own; a word that runs part goes with the first, a silent one with the word before."""
    assert spoken("The 42 — dogs,", "ðə fˈɔːɹɾi ", "tˈuː; ", "dˈɑːɡz, ") == [
        [("The", "ðə"), ("42", "fˈɔːɹɾi"), ("—", "")],
        [],
        [("dogs,", "dˈɑːɡz")],
    ]


def test_words_read_as_one_expression_share_its_time() -> None:
    """In proportion to how long each is when it stands alone."""
    placed = place([("May 3", "May the third")], ["mˈeɪ ðə θˈɜːd."], lambda text: symbols(ALONE[text]))
    assert placed == [[Span(("May", "3"), (3, 3), 0, 13, True)]]


def test_words_that_cannot_be_told_apart_share_their_time() -> None:
    """Where less than half of the sounds of neighbours is heard, or none of a word's."""
    assert spoken("The red fox of", "ðə bˈiʃopˈu ʌv") == [[("The", "ðə"), ("red fox", "bˈiʃopˈu"), ("of", "ʌv")]]
    assert spoken("The red fox", "ðə ɹˈɛd") == [[("The", "ðə"), ("red fox", "ɹˈɛd")]]
    assert spoken("red The fox", "ðə fˈɑːks") == [[("red The", "ðə"), ("fox", "fˈɑːks")]]


def test_pauses_are_where_punctuation_is() -> None:
    """And at a run's start; a dash that nobody says counts with the word before it."""
    placed = place(
        [(word, word) for word in ["The", "end", "—", "of", "42", "dogs,"]],
        ["ðɪ ˈɛnd; ʌv fˈɔːɹɾi tˈuː ", "dˈɑːɡz, "],
        lambda alone: symbols(ALONE[alone]),
    )
    assert [[(*span.words, span.after_pause) for span in spans] for spans in placed] == [
        [("The", True), ("end", False), ("—", False), ("of", True), ("42", False)],
        [("dogs,", True)],
    ]


def test_time_is_shared_by_weight() -> None:
    """Without rounding up: the parts are the whole. Words without weight share evenly where all are so."""
    assert list(shared(Span(("a", "b", "c"), (1, 0, 2), 0, 2, True), 10, 33)) == [
        SpokenWord("a", 10, 17),
        SpokenWord("b", 17, 17),
        SpokenWord("c", 17, 33),
    ]
    assert list(shared(Span(("d", "e"), (0, 0), 2, 3, True), 33, 60)) == [
        SpokenWord("d", 33, 46),
        SpokenWord("e", 46, 60),
    ]


RATE = 1000
"""Hz; a frame of the timeline is five samples."""


def spans(*words: tuple[str, int, int, bool]) -> list[Span]:
    return [Span((word,), (1,), first, end, after_pause) for word, first, end, after_pause in words]


def sound(*parts: tuple[int, float]) -> Samples:
    """Audio of so many samples of such a loudness each."""
    return np.concatenate([np.full(length, level, np.float32) for length, level in parts])


def test_a_phrase_is_told_with_the_chunk_in_which_it_is_heard() -> None:
    """Its first word begins with the sound, sooner or later than its phonemes say; the others where these do."""
    placed = spans(("well", 0, 1, True), ("but", 2, 3, True), ("then", 3, 4, False), ("oh", 5, 6, True))
    timeline = Timeline([placed], [[1, 2, 3, 4, 5, 6, 7]], RATE)
    # before, well, a pause, but, then, a pause, oh, after
    timeline.expect(np.array([100, 100, 200, 100, 100, 200, 100, 100]))
    assert timeline.hear(sound((60, 0))) == []
    assert timeline.hear(sound((30, 0.1), (60, 0.5))) == [SpokenWord("well", 60, 200)]
    assert timeline.hear(sound((50, 0.5), (200, 0.00001))) == []
    assert timeline.hear(sound((60, 0.00001), (140, 0.2))) == [
        SpokenWord("but", 460, 500),
        SpokenWord("then", 500, 600),
    ]
    assert timeline.hear(sound((140, 0), (260, 0.3))) == [SpokenWord("oh", 740, 900)]


def test_what_sounds_long_before_a_word_is_not_the_word() -> None:
    """A breath in a pause; a word that is never heard begins where its phonemes do."""
    placed = spans(("a", 0, 1, True), ("b", 2, 3, True), ("c", 4, 5, True))
    timeline = Timeline([placed], [[0, 1, 2, 3, 4, 5]], RATE)
    timeline.expect(np.array([100, 400, 100, 100, 100]))
    told = timeline.hear(sound((100, 0.5), (250, 0), (50, 0.5), (100, 0), (100, 0.5), (200, 0)))
    assert told == [SpokenWord("a", 0, 100), SpokenWord("b", 500, 600), SpokenWord("c", 700, 800)]


def test_a_timeline_goes_on_from_run_to_run() -> None:
    """The second run begins where all ids of the first have ended, ids before and after its phonemes included."""
    timeline = Timeline([spans(("a", 0, 1, True)), spans(("b", 0, 1, True))], [[1, 2], [1, 2]], RATE)
    timeline.expect(np.array([50, 100, 200]))
    assert timeline.hear(sound((50, 0), (300, 0.5))) == [SpokenWord("a", 50, 150)]
    timeline.expect(np.array([10, 20, 30]))
    assert timeline.hear(sound((10, 0), (50, 0.5))) == [SpokenWord("b", 360, 380)]


PHONEMES = st.text(st.sampled_from("aɪəðvtdnˈː ,.̃"), max_size=12)
WORDS = st.lists(st.tuples(st.text(st.sampled_from("ab —[].1"), max_size=6), PHONEMES), max_size=12)
RUNS = st.lists(PHONEMES, max_size=4)
LEVELS = st.sampled_from([0.0, 0.0001, 0.3])


@settings(deadline=None)
@given(WORDS, RUNS, st.data())
def test_every_word_once_in_order_within_the_audio(
    words: list[tuple[str, str]], runs: list[str], data: st.DataObject
) -> None:
    """Whatever the phonemes are: nothing fails, no time runs backwards, and none lies outside its run's audio."""
    sounds = dict(words)
    placed = place(((word, word) for word, _ in words), runs, lambda word: symbols(sounds.get(word, word)))
    timeline = Timeline(placed, [range(len(run) + 1) for run in runs], RATE)
    told, at = [], 0
    for run in runs:
        lasts = data.draw(st.lists(st.integers(1, 40), min_size=len(run), max_size=len(run)))
        timeline.expect(np.array(lasts, np.int64))
        audio = np.repeat(data.draw(st.lists(LEVELS, min_size=len(run), max_size=len(run))), lasts).astype(np.float32)
        cut = data.draw(st.integers(0, len(audio)))
        heard = timeline.hear(audio[:cut]) + timeline.hear(audio[cut:])
        edges = [at, *(edge for word in heard for edge in (word.start, word.end)), at + sum(lasts)]
        assert all(before <= after for before, after in pairwise(edges))
        told += heard
        at = edges[-1]
    if runs:
        assert [word.word for word in told] == [each for word, _ in words for each in written_words(word)]


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("aɪəðvtdn"), min_size=2, max_size=8), min_size=1, max_size=12), st.data())
def test_joined_words_are_found_wherever_they_are_joined(words: list[str], data: st.DataObject) -> None:
    """Said as when alone, with or without gaps between them, each word has exactly its own phonemes."""
    text = words[0]
    for word in words[1:]:
        text += data.draw(st.sampled_from(["", " ", ", "])) + word
    (spans,) = place([(word, word) for word in words], [text], symbols)
    assert [text[span.first : span.end] for span in spans] == words
