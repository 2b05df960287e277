"""Threads that compute for the event loop: started once, stopped between two pieces of work, watched from outside."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager


class Worker(ABC):
    """Base of the engines' threads.

    `_changed` guards what a subclass shares with its threads, and is notified when there may be work.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._changed = threading.Condition()
        self._started = False
        self._stopping = False
        self._busy_since: dict[int, float] = {}
        """Of each thread that is at work, by its identifier."""
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        self._started = True

    def stop(self) -> None:
        """Stop after the running pieces of work; what waits is not done. Blocks for those pieces."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def seconds_stuck(self) -> float:
        """For how long the longest running piece of work has run; 0 while idle, without end once a thread has died."""
        if self._started and not self._stopping and not all(thread.is_alive() for thread in self._threads):
            return math.inf
        # A copy: the threads come and go meanwhile.
        return max((time.monotonic() - since for since in list(self._busy_since.values())), default=0.0)

    @contextmanager
    def _busy(self) -> Iterator[float]:
        """Around a piece of work; gives the monotonic second of its start."""
        me = threading.get_ident()
        started = self._busy_since[me] = time.monotonic()
        try:
            yield started
        finally:
            del self._busy_since[me]

    @abstractmethod
    def _work(self) -> None:
        """Run until `_stopping`, waiting on `_changed` while there is nothing to do."""
