"""How benchmarks search for the most that still holds."""

from __future__ import annotations

import pytest

from benchmarks.search import PRECISION, most_held

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("true", [*range(20), 63, 100, 500, 512, 600])
@pytest.mark.parametrize("first", [1, 16])
def test_the_number_found_holds_and_little_more_would(true: int, first: int) -> None:
    """Whatever the truth and wherever the search begins, with few tries."""
    tried: list[int] = []

    def holds(speakers: int) -> bool:
        tried.append(speakers)
        return speakers <= true

    found = most_held(holds, first, 512)
    assert found <= true
    assert found == 512 or true < found + max(1, found // PRECISION) + 1
    assert max(tried) <= 512
    assert len(tried) <= 16
