"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from serving.run import Replica
from serving.service import Service

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile("chorus", deadline=None)
hypothesis.settings.load_profile("chorus")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test says which kind it is."""
    kinds = {"unit", "model", "stack", "gpu"}
    for item in items:
        if not kinds & {mark.name for mark in item.iter_markers()}:
            raise pytest.UsageError(f"{item.nodeid}: give its module a pytestmark of {sorted(kinds)}")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The models that `make test` has fetched."""
    return Path(os.environ.get("MODELS_DIR", ROOT / ".models")).resolve()


async def eventually(condition: Callable[[], Any], *, within_s: float = 30.0) -> None:
    """Wait until a condition holds; the time is a safety net, not a claim."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Replica]:
    """A replica that serves on ports of its own choice, ended as SIGTERM would."""
    replica = Replica(service)
    task = asyncio.create_task(replica.run())
    try:
        await eventually(lambda: replica.stream_listener.port is not None or task.done(), within_s=120)
        if task.done():
            task.result()
        yield replica
    finally:
        replica.terminate.set()
        await task
