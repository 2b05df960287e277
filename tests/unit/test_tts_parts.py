"""Sentence splitting, chunk plans, and who is rendered next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.unit.fakes import RampVoice
from tts.chunks import FIRST_FRAMES, OVERLAP_FRAMES, plan
from tts.engine import Engine, ListenerStream, Sentence
from tts.metrics import TtsMetrics
from tts.phonemes import MOST_PHONEMES, runs
from tts.sentences import LONGEST, SentenceSplitter
from tts.voice import Manner

pytestmark = pytest.mark.unit


def split(pieces: list[str]) -> list[str]:
    """Every sentence of a text in pieces."""
    splitter = SentenceSplitter()
    found: list[str] = []
    for piece in pieces:
        splitter.feed(piece)
        while (sentence := splitter.next()) is not None:
            found.append(sentence)
    splitter.finish()
    while (sentence := splitter.next()) is not None:
        found.append(sentence)
    return found


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("It costs 3.50 dollars. Nothing more!", ["It costs 3.50 dollars.", "Nothing more!"]),
        ("Dr. Smith came at 5 p.m. on Monday.", ["Dr. Smith came at 5 p.m. on Monday."]),
        ("See www.example.org/a.b for more. Then call.", ["See www.example.org/a.b for more.", "Then call."]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("no end", ["no end"]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    """Abbreviations, decimals, addresses and languages without spaces."""
    assert split([text]) == sentences


TEXTS = st.lists(st.sampled_from(["Hello", "world", "3.5", "Dr.", "end.", "Why?", "Stop!", "«Oui»", "\n\n", "a,"])).map(
    " ".join
)


@given(TEXTS)
def test_one_character_at_a_time_gives_the_same_sentences(text: str) -> None:
    """A fragment's size never shows."""
    assert split(list(text)) == split([text])


def test_text_without_an_end_is_broken_at_the_best_place() -> None:
    """Pieces of at most 2,000 characters, at commas where there are any, and nothing is lost."""
    text = ", ".join(["some words"] * 1000)
    pieces = split([text])
    assert all(len(piece) <= LONGEST for piece in pieces)
    assert all(piece.endswith(",") for piece in pieces[:-1])
    assert " ".join(pieces) == text
    assert "".join(split(["x" * 5000])) == "x" * 5000


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
    assert all(run[-2:] == [",", " "] for run in runs(clause * 100))
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
