"""What Locust's master and workers of a load test tell each other beside Locust's own: one message type each way.

    master  → worker   prepare, arrive, finish
    worker  → master   progress, prepared, records, trouble, finished

Each is a dictionary of plain values, with `what` as above and the `run` that it belongs to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypedDict

TO_WORKER = "loadtest_order"
TO_MASTER = "loadtest_told"

Send = Callable[[str, dict[str, Any]], None]
"""Of a message type and its data."""


class PrepareOrder(TypedDict):
    """Make a crew ready for these people."""

    what: str
    run: str
    changes: dict[str, Any]
    """Of the worker's own settings."""
    people: dict[str, int]
    first: int
    """Number of the worker's first person of each kind."""
    worker: str
    """Its name in records."""


class Outbox:
    """Lines that wait to be sent to the master, bounded: beyond the limit they are dropped, and counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, line: bytes) -> None:
        """Add one."""
        if len(self._lines) < self._limit:
            self._lines.append(line)
        else:
            self.dropped += 1

    def take(self, count: int) -> list[bytes]:
        """The oldest, at most so many; they are no longer here."""
        return [self._lines.popleft() for _ in range(min(count, len(self._lines)))]

    def put_back(self, lines: list[bytes]) -> None:
        """Those that could not be sent, in front."""
        self._lines.extendleft(reversed(lines))

    def clear(self) -> None:
        """Begin anew."""
        self._lines.clear()
        self.dropped = 0
