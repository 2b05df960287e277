"""Chunk plans, runs of phonemes, and an engine whose thread has died."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_without_its_thread_is_stuck() -> None:
    """A bug that ends the thread must not look like an idle engine."""

    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    engine = Engine(ahead_s=10, post=broken, metrics=TtsMetrics(CollectorRegistry()))
    assert engine.seconds_stuck() == 0
    engine.start()
    assert engine.seconds_stuck() == 0
    engine.submit(ListenerStream(), Sentence("text", RampVoice(), Manner(), object(), lambda _: None))
    for thread in engine._threads:
        thread.join(timeout=30)
    assert engine.seconds_stuck() == float("inf")
    engine.stop()
    assert engine.seconds_stuck() == 0
