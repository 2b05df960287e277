"""Whether one more stream can be served in time: by how late finals have been, and by how much work they have made.

Lateness alone tells too late: a stream makes its first work seconds after it was let in, and a crowd that comes at once
would all be let in. So streams that are too young to have shown what they need are counted as what the others need.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 4.0
"""How far back the finals' latencies count: so soon after a crowd has gone, all is as before."""
YOUNG_S = 8.0
"""Age of a stream by which its work shows in the measured load."""
FULL = 0.75
"""Share of the engine's time that finals may need; beyond it they begin to wait for each other."""
FIRST_GUESS = 0.06
"""Share of the engine's time that a stream needs, before any has shown it: on the cautious side of a small model."""
LEAST_NEED = 0.01
"""A stream that is silent now may speak."""


class Admission:
    """Keeps what the decision needs; used on the event loop alone."""

    def __init__(self, limit_ms: int, *, need: Callable[[], float], oldest_wait_s: Callable[[], float]) -> None:
        """Refuse where the 95th percentile of the finals' latency is over `limit_ms`; 0 never refuses.

        `need` gives the share of the engine's time that finals took lately, `oldest_wait_s` how long the final that
        waits longest has waited.
        """
        self._limit_s = limit_ms / 1000
        self._need = need
        self._oldest_wait_s = oldest_wait_s
        self._latencies: deque[tuple[float, float]] = deque()
        self._opened: dict[object, float] = {}

    def opened(self, stream: object) -> None:
        """A stream was let in."""
        self._opened[stream] = time.monotonic()

    def closed(self, stream: object) -> None:
        """It has ended."""
        self._opened.pop(stream, None)

    def observe(self, latency_s: float) -> None:
        """A final was sent, so long after its utterance was decided to have ended."""
        self._latencies.append((time.monotonic(), latency_s))
        self._forget_old()

    def refusal(self) -> str | None:
        """Why one more stream would not be served in time, or None."""
        if not self._limit_s:
            return None
        late = self.p95_s()
        if late > self._limit_s:
            return f"finals are {late:.1f} s late; {self._limit_s:.1f} s is the limit"
        expected = self.expected_need()
        if expected > FULL:
            return f"the streams that are open are expected to keep the engine busy for {expected:.0%} of its time"
        return None

    def p95_s(self) -> float:
        """95th percentile of the latency of the finals sent lately, and of the one that waits longest."""
        self._forget_old()
        found = sorted([*(latency for _, latency in self._latencies), self._oldest_wait_s()])
        return found[min(len(found) - 1, int(0.95 * len(found)))]

    def expected_need(self) -> float:
        """Share of the engine's time that finals will need with one more stream."""
        now, need = time.monotonic(), self._need()
        young = sum(now - opened < YOUNG_S for opened in self._opened.values())
        grown = len(self._opened) - young
        each = max(LEAST_NEED, need / grown) if grown else FIRST_GUESS
        # What the young have already shown is counted twice: that errs on the side of those who are served.
        return need + (young + 1) * each

    def _forget_old(self) -> None:
        while self._latencies and self._latencies[0][0] < time.monotonic() - WINDOW_S:
            self._latencies.popleft()
