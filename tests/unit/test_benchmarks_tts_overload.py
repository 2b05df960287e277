"""The verdict on an overload of synthesis."""

from __future__ import annotations

import pytest

from benchmarks.listening import Reply
from benchmarks.tts_overload import Crowd, complaints, table

pytestmark = pytest.mark.unit


def heard(first_s: float, *, gap_s: float = 0.0) -> Reply:
    """A reply of two seconds."""
    return Reply("text", 100.0, [(100 + first_s, 1.0), (101 + first_s + gap_s, 1.0)], complete=True)


def crowd(*, refused: int = 2, retry: int | None = 1500, gap_s: float = 0.0) -> Crowd:
    replies = [heard(1.0, gap_s=gap_s), *(Reply("text", 100.0, refused=True) for _ in range(refused))]
    return Crowd(replies, [retry] * refused)


def test_an_overload_that_leaves_everything_as_it_was() -> None:
    """Some are refused and told when to come again, the others hear everything."""
    before, after = Crowd([heard(0.1)]), Crowd([heard(0.12)])
    assert complaints(before, crowd(), after) == []
    assert "| all | 3 | 2 | 1.5 (at most 1.5) | 1000 | 1000 | 1000 | 0 | 0 |" in table({"all": crowd()})


@pytest.mark.parametrize(
    ("crowd_of", "after_s", "complaint"),
    [
        (crowd(refused=0), 0.1, "nobody was refused"),
        (crowd(retry=None), 0.1, "does not tell when"),
        (crowd(gap_s=0.5), 0.1, "1 gaps in 1 accepted replies, 0.50 s"),
        (crowd(), 0.3, "0.100 s before, 0.300 s after"),
    ],
)
def test_what_is_not_as_it_has_to_be_is_said(crowd_of: Crowd, after_s: float, complaint: str) -> None:
    """One line for each."""
    (found,) = complaints(Crowd([heard(0.1)]), crowd_of, Crowd([heard(after_s)]))
    assert complaint in found


def test_a_reply_that_fails_is_named() -> None:
    """With how often."""
    failed = crowd()
    failed.replies.append(Reply("text", 100.0, failure="internal: x"))
    found = complaints(Crowd([heard(0.1)]), failed, Crowd([heard(0.1)]))
    assert found == ["1 × internal: x"]
