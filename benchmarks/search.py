"""The search for the most that still holds."""

from __future__ import annotations

from collections.abc import Callable

PRECISION = 16
"""The number is found to one part in so many."""


def most_held(holds: Callable[[int], bool], first: int, most: int) -> int:
    """The highest number, up to `most`, for which `holds`, to one part in `PRECISION`: by doubling, then halving."""
    low, high = 0, min(first, most)
    while holds(high):
        low = high
        if low == most:
            return most
        high = min(2 * low, most)
    while high - low > max(1, low // PRECISION):
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
