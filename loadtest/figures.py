"""Arithmetic that the people, the report and the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterable


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value below which that share of them lies; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def gaps(arrivals: Iterable[tuple[float, float]]) -> list[float]:
    """Silences that a player hears, seconds, in order, of pieces of audio: when each came, how long it sounds.

    It begins with the first audio and plays on whatever came; where the next piece comes after the last one was
    played, there is a gap, and what follows is that much later.
    """
    found = []
    played: float | None = None
    for at, seconds in arrivals:
        if played is not None and at > played:
            found.append(at - played)
        played = (at if played is None else max(at, played)) + seconds
    return found
