"""How a replica's process ends: by a signal, by a second one, in time whatever hangs in it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from serving.run import EXIT_STUCK, Stall
from tests.conftest import ROOT

pytestmark = pytest.mark.unit


async def told(process: Process, message: str) -> dict[str, Any]:
    """Its next log line with this message."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if line.startswith(b"{") and (found := json.loads(line))["message"] == message:
                return dict(found)
    raise AssertionError(f"it ended without {message!r}")


async def ended(process: Process) -> int:
    """Its exit status; the time is a safety net, not a claim."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.read()
        return await process.wait()


@asynccontextmanager
async def replica(*how: str, **settings: float) -> AsyncIterator[Process]:
    """A process that echoes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.echo_replica", json.dumps(settings), *how,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}, stdout=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def at_work(process: Process) -> ClientConnection:
    """A stream of the process that never ends by itself."""
    port = (await told(process, "serving"))["port"]
    stream = await connect(f"ws://127.0.0.1:{port}/v1/stream/asr", proxy=None)
    await stream.send("work")
    assert "ready" in str(await stream.recv())
    assert "echo work" in str(await stream.recv())
    return stream


async def test_a_client_that_never_closes_does_not_keep_the_process() -> None:
    """It neither ends its stream nor answers the close, and the process ends cleanly all the same."""
    async with replica(drain_s=1) as process:
        stream = await at_work(process)
        stream.transport.pause_reading()
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        stream.transport.abort()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    """Whatever it still waits for."""
    async with replica(drain_s=3600) as process:
        stream = await at_work(process)
        process.send_signal(signal.SIGTERM)
        await told(process, "draining")
        process.send_signal(number)
        assert await ended(process) == 128 + number
        stream.transport.abort()


async def test_a_replica_that_lingers_serves_on_after_the_signal() -> None:
    """It takes streams and closes none, until it drains; a second signal ends that too."""
    async with replica(linger_s=3600) as process:
        first = await at_work(process)
        process.send_signal(signal.SIGTERM)
        await told(process, "lingering")
        port = first.transport.get_extra_info("peername")[1]
        async with connect(f"ws://127.0.0.1:{port}/v1/stream/asr", proxy=None) as second:
            assert "ready" in str(await second.recv())
            await first.send("more")
            assert "echo more" in str(await first.recv())
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 128 + signal.SIGTERM
        first.transport.abort()


async def test_after_it_has_lingered_a_replica_drains() -> None:
    """And ends cleanly."""
    async with replica(linger_s=0.1) as process:
        await told(process, "serving")
        process.send_signal(signal.SIGTERM)
        await told(process, "lingering")
        await told(process, "draining")
        assert await ended(process) == 0


async def test_an_engine_that_does_not_stop_does_not_keep_the_process() -> None:
    """After `drain_s` it ends whatever hangs."""
    async with replica("hang", drain_s=0) as process:
        await told(process, "serving")
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == EXIT_STUCK


async def test_an_engine_that_hangs_ends_its_process() -> None:
    """Its status tells the container's restart policy that this was no wish of anybody."""
    async with replica("stuck", stuck_s=0.1) as process:
        assert await ended(process) == EXIT_STUCK


async def test_a_process_that_was_frozen_does_not_take_its_engine_for_stuck() -> None:
    """The call that was under way looks as long as the freeze was, which says nothing about it."""
    async with replica("busy", stuck_s=2) as process:
        stream = await at_work(process)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(5)
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
        await stream.send("more")
        assert "echo more" in str(await stream.recv())
        process.send_signal(signal.SIGTERM)
        stream.transport.abort()
        assert await ended(process) == 0


def test_time_in_which_the_watch_was_late_does_not_count() -> None:
    """An engine is stuck by what was watched of its call; another call, or a dead thread, begins anew."""
    stall = Stall()
    assert [stall.seconds(stuck, late_s=0) for stuck in (0.0, 0.7, 1.7, 2.7)] == [0.0, 0.7, 1.7, 2.7]
    assert stall.seconds(63.7, late_s=60) == pytest.approx(3.7)
    assert stall.seconds(64.7, late_s=0) == pytest.approx(4.7)
    assert stall.seconds(0.5, late_s=0) == 0.0
    assert stall.seconds(1.5, late_s=0) == pytest.approx(1.0)
    assert stall.seconds(math.inf, late_s=5) == math.inf
