"""Whether a replica can serve: its status, its slots, and who holds them."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Literal

Status = Literal["loading", "ok", "draining", "failed"]


@dataclass(frozen=True)
class Refusal:
    """Why a client can't be served, told by HTTP before the upgrade."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


class ReplicaState:
    """Status and admission of one replica; changed only on the event loop."""

    def __init__(self, max_connections: int, retry_after_s: int) -> None:
        self.instance = socket.gethostname()
        self.max_connections = max_connections
        self.retry_after_s = retry_after_s
        self.active_connections = 0
        self._status: Status = "loading"
        self._started = time.monotonic()
        self._draining_since: float | None = None

    @property
    def status(self) -> Status:
        """What `/health` reports."""
        return self._status

    @property
    def uptime_s(self) -> float:
        """Seconds since the process's start."""
        return time.monotonic() - self._started

    @property
    def draining_s(self) -> float:
        """Seconds since the drain began; 0 before."""
        return 0.0 if self._draining_since is None else time.monotonic() - self._draining_since

    def set_status(self, status: Status) -> None:
        """Change the status; once draining, a replica stays so."""
        if self._status == "draining":
            return
        self._status = status
        if status == "draining":
            self._draining_since = time.monotonic()

    def refusal(self) -> Refusal | None:
        """Why one more stream can't be accepted now, or None."""
        if self._status != "ok":
            return Refusal(503, "overloaded", f"this replica is {self._status}", self.retry_after_s)
        if self.active_connections >= self.max_connections:
            full = f"this replica is full: {self.active_connections} of {self.max_connections} streams"
            return Refusal(503, "overloaded", full, self.retry_after_s)
        return None

    def acquire(self) -> None:
        """Take a slot; `refusal` was None in the same turn of the event loop."""
        self.active_connections += 1

    def release(self) -> None:
        """Give the slot back."""
        self.active_connections -= 1
