"""Whether words read as finished."""

from __future__ import annotations

import pytest

from asr.engine import Transcript
from asr.turn import FINISHED, UNFINISHED, patience

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("readings", "confidence", "expected"),
    [
        (["You want to go home.", "You want to go home!"], 0.9, FINISHED),
        (["Shall we go home?"], 0.9, FINISHED),
        (["He said “I know that.”"], 0.9, FINISHED),
        (["You want to go home."], 0.6, 1.0),  # it may have misheard
        (["Yes.", "Yes!"], 0.95, 1.0),  # too short to tell
        (["You want to go home.", "You want to go home.", "You want to go home"], 0.9, 1.0),
        (["You want to go home.", "You want to go home"], 0.9, UNFINISHED),
        (["You want to go home,"], 0.9, UNFINISHED),
        (["You want to go home..."], 0.9, UNFINISHED),
        (["You want to go to the."], 0.9, UNFINISHED),
        (["I want"], 0.9, UNFINISHED),
        ([""], 0.0, 1.0),  # noise: nothing to wait for
    ],
)
def test_how_long_to_wait(readings: list[str], confidence: float, expected: float) -> None:
    """By the marks that the readings end with, the last word, the length, and how sure the recogniser is."""
    text, *others = readings
    assert patience(Transcript(text, confidence, "en", tuple(others))) == expected


def test_a_language_without_spaces_goes_by_its_marks() -> None:
    """Its words can't be counted."""
    assert patience(Transcript("我想现在回家。", 0.9, "zh")) == FINISHED
    assert patience(Transcript("我想现在回家，", 0.9, "zh")) == UNFINISHED
