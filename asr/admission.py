"""Whether one more stream can be served in time: by how late finals have been, and by how much work they have made.

Lateness alone tells too late: a stream makes its first work seconds after it was let in, and a crowd that comes at once
would all be let in. So a stream that has not had a final yet is counted as if it spoke without pause, at what a second
of speech has cost so far.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 4.0
"""How far back the finals' latencies count: so soon after a crowd has gone, all is as before."""
NEED_OVER_S = (4.0, 15.0)
"""What finals need is their larger share of these: the short one sees a crowd begin, the long one does not take a
moment's quiet in it for room."""
YOUNG_S = 30.0
"""Age from which a stream without a final is taken to be silent: an utterance is shorter."""
FULL = 0.75
"""Share of the engine's time that finals may need; beyond it they begin to wait for each other."""
FIRST_GUESS = 0.06
"""Share of the engine's time that a second of speech needs, on the cautious side of a small model: before any has been
heard, and for as long as what has been heard is not much more than `GUESSED_S`."""
GUESSED_S = 5.0
LEARNT_FROM = 50
"""Newest utterances whose cost counts."""


class Admission:
    """Keeps what the decision needs; used on the event loop alone."""

    def __init__(self, limit_ms: int, *, spent_s: Callable[[], float], oldest_wait_s: Callable[[], float]) -> None:
        """Refuse where the 95th percentile of the finals' latency is over `limit_ms`; 0 never refuses.

        `spent_s` gives how much of the engine's time finals have taken so far, `oldest_wait_s` how long the final that
        waits longest has waited.
        """
        self._limit_s = limit_ms / 1000
        self._spent_s = spent_s
        self._oldest_wait_s = oldest_wait_s
        self._latencies: deque[tuple[float, float]] = deque()
        self._young: dict[object, float] = {}
        """Streams that have not had a final yet, and when they were let in."""
        self._spendings: deque[tuple[float, float]] = deque()
        """When each final was sent, and what had been spent by then, as far back as `NEED_OVER_S`."""
        self._heard_s = 0.0
        """Speech whose final was sent."""
        self._learnt: deque[tuple[float, float]] = deque([(0.0, 0.0)], maxlen=LEARNT_FROM)
        """What had been heard and spent after each of the newest utterances."""

    def opened(self, stream: object) -> None:
        """A stream was let in."""
        self._young[stream] = time.monotonic()

    def closed(self, stream: object) -> None:
        """It has ended."""
        self._young.pop(stream, None)

    def observe(self, stream: object, latency_s: float, speech_s: float) -> None:
        """A stream's final was sent, so long after its utterance of that length was decided to have ended."""
        self._young.pop(stream, None)
        self._heard_s += speech_s
        now, spent = time.monotonic(), self._spent_s()
        self._learnt.append((self._heard_s, spent))
        self._spendings.append((now, spent))
        while len(self._spendings) > 1 and self._spendings[1][0] <= now - max(NEED_OVER_S):
            self._spendings.popleft()
        self._latencies.append((now, latency_s))
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
        now = time.monotonic()
        young = sum(now - opened < YOUNG_S for opened in self._young.values())
        return self._need() + (young + 1) * self._cost()

    def _need(self) -> float:
        """Share of the engine's time that finals took lately."""
        now, spent = time.monotonic(), self._spent_s()
        shares = []
        for seconds in NEED_OVER_S:
            before = next((then for at, then in reversed(self._spendings) if at <= now - seconds), 0.0)
            shares.append((spent - before) / seconds)
        return max(shares)

    def _cost(self) -> float:
        """Share of the engine's time that somebody who speaks without pause needs."""
        (heard_before, spent_before), (heard, spent) = self._learnt[0], self._learnt[-1]
        return (spent - spent_before + FIRST_GUESS * GUESSED_S) / (heard - heard_before + GUESSED_S)

    def _forget_old(self) -> None:
        while self._latencies and self._latencies[0][0] < time.monotonic() - WINDOW_S:
            self._latencies.popleft()
