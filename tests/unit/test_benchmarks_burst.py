"""What the burst's judge makes of clusters that do well, and of those that don't."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import burst
from benchmarks.burst import Burst, measure, table
from chorus.errors import Refused

pytestmark = pytest.mark.unit


class Cluster:
    """Two replicas of fifty streams each, balanced by least connections."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter({"one": 0, "two": 0})
        self.retry_after: float | None = 5.0
        self.favourite: str | None = None
        self.slots_freed_after_s = 0.0
        self.ids = map(str, itertools.count())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        replica = self.favourite or min(self.held, key=lambda name: self.held[name])
        if self.held[replica] >= 50:
            replica = min(self.held, key=lambda name: self.held[name])
        if self.held[replica] >= 50:
            raise Refused(503, "overloaded", "all 50 streams are taken", self.retry_after)
        self.held[replica] += 1
        ready = SimpleNamespace(instance=replica, connection_id=next(self.ids))
        try:
            yield SimpleNamespace(protocol=SimpleNamespace(ready=ready), socket=SimpleNamespace(close_code=None))
        finally:
            asyncio.get_running_loop().call_later(self.slots_freed_after_s, self.free, replica)

    def free(self, replica: str) -> None:
        self.held[replica] -= 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes between arrivals."""
    monkeypatch.setattr(burst, "BURST_S", 0.0)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_cluster_that_does_as_it_should_has_no_faults(cluster: Cluster) -> None:
    """Spread evenly, full at a hundred, room at once."""
    found = await measure(cluster.connect)
    assert found.faults == []
    assert found.spread == {"one": 40, "two": 40}
    assert (found.accepted, len(found.refused_s), found.retry_after) == (100, 100, {"5": 100})
    await asyncio.sleep(0)
    assert cluster.held.total() == 0
    assert "| 80 within 0 s, by replica | 40 / 40 |" in table({"ASR": found})


async def faults(cluster: Cluster) -> str:
    found: Burst = await measure(cluster.connect)
    assert found.faults
    return "\n".join(found.faults)


async def test_each_promise_that_is_broken_is_a_fault(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time."""
    cluster.favourite = "one"
    assert "spread" in await faults(cluster)
    cluster.favourite, cluster.retry_after = None, None
    assert "Retry-After None" in await faults(cluster)
    cluster.retry_after, cluster.slots_freed_after_s = 5.0, 0.3
    monkeypatch.setattr(burst, "ROOM_WITHIN_S", 0.2)
    assert "were in after" in await faults(cluster)
    await asyncio.sleep(0.4)
    cluster.slots_freed_after_s, cluster.ids = 0.0, itertools.repeat("the same")  # type: ignore[assignment]
    assert "greeted with 1 ids" in await faults(cluster)


async def test_a_cluster_without_bounds_is_found_out(cluster: Cluster) -> None:
    """Who is accepted beyond what it holds."""
    cluster.held = Counter({"one": -1000, "two": -1000})
    assert "beyond was accepted" in await faults(cluster)
