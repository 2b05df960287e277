"""How the round trip counts errors, and where it draws the line."""

from __future__ import annotations

import pytest

from benchmarks.tts_round_trip import WORSE_BY_POINTS, bar, judge

pytestmark = pytest.mark.unit

TEXTS = ["Yes, that is already done.", "It is nine o'clock."]


def test_errors_are_of_all_takes_and_the_rate_of_each_is_told() -> None:
    """Case and punctuation are no errors."""
    row = judge("Chorus", TEXTS, [["yes that is already done", "it is nine o'clock"], ["Yes, that is done.", "It is."]])
    assert (row.errors.substituted, row.errors.left_out, row.errors.put_in) == (0, 3, 0)
    assert row.takes[0] == 0
    assert row.errors.wer_percent == pytest.approx(row.takes[1] / 2)


def test_the_bar_is_half_a_point_above_piper() -> None:
    """Of which there is the last row."""
    perfect, poor = judge("Chorus", TEXTS, [TEXTS]), judge("piper-tts", TEXTS, [["Yes.", "It is nine o'clock."]])
    assert bar([perfect, poor]) == poor.errors.wer_percent + WORSE_BY_POINTS
