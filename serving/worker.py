"""A thread that computes for the event loop: started once, stopped between two pieces of work, watched from outside."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager


class Worker(ABC):
    """Base of the engines' threads.

    `_changed` guards what a subclass shares with its thread, and is notified when there may be work.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._started = False
        self._stopping = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._started = True

    def stop(self) -> None:
        """Stop after the running piece of work; what waits is not done. Blocks for that piece."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def seconds_stuck(self) -> float:
        """For how long the running piece of work has run; 0 while idle, and without end once the thread has died."""
        if self._started and not self._stopping and not self._thread.is_alive():
            return math.inf
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @contextmanager
    def _busy(self) -> Iterator[float]:
        """Around a piece of work; gives the monotonic second of its start."""
        started = self._busy_since = time.monotonic()
        try:
            yield started
        finally:
            self._busy_since = None

    @abstractmethod
    def _work(self) -> None:
        """Run until `_stopping`, waiting on `_changed` while there is nothing to do."""
