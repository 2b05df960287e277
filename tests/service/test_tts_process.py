"""`python -m tts` as a process of its own: its memory, its listeners, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chorus.aio import connect_tts
from chorus.speech import speak
from chorus.tts import Audio
from chorus.wire import tts as wire
from serving.memory import EVERY_S
from tests.conftest import ROOT, eventually
from tests.service.synthetic_voices import REAL, make_voice

pytestmark = pytest.mark.model

MOST_MB = 300  # with one voice; 255 to 285 were seen
MOST_WITH_TWO_MB = 350
A_VOICE_MB = 90
KEPT_MB = 30  # 8 to 16 were seen: more code and more of Python's heap are in use after the first listeners
TEXTS = [
    "Yes, of course.",
    "The weather tomorrow will be sunny with a light breeze from the west after noon today.",
    "If you would like to change your reservation, please tell me the new date and the number of guests, "
    "and I will look for a free table near the window for you and your friends.",
]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_mb(pid: int) -> float:
    """Memory in use, pages that are mapped twice counted once, as a container's limit counts them.

    VmRSS counts a voice's weights once for every session that maps them, which is 70 MB more.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


async def until_it_listens(port: int) -> None:
    """Wait for the stream port to open; the time is a safety net, not a claim."""
    async with asyncio.timeout(120):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


@asynccontextmanager
async def replica(models_dir: Path, **settings: str) -> AsyncIterator[tuple[Process, str]]:
    """A process that serves, and its address."""
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
        "MODELS_DIR": str(models_dir),
        "TTS_HOST": "127.0.0.1",
        "TTS_PORT": str(port),
        "TTS_ADMIN_PORT": "0",
        "TTS_VOICES": REAL,
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tts", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until_it_listens(port)
        yield process, f"ws://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_memory_is_bounded_and_sigterm_ends_it(models_dir: Path) -> None:
    """Short and long sentences, four at once, and a text that never ends leave it below its limit; then it exits 0."""
    async with replica(models_dir) as (process, url):
        for _ in range(3):
            spoken = await asyncio.gather(*(speak(text, url) for text in [*TEXTS, TEXTS[1]]))
            assert all(each.seconds > 0.5 for each in spoken)
            assert memory_mb(process.pid) < MOST_MB
        async with connect_tts(url, speed=0.25) as stream:
            await stream.send(stream.protocol.synthesize("word " * 400, "endless"))
            while not isinstance(await stream.receive(), Audio):
                pass
            assert memory_mb(process.pid) < MOST_MB
            await stream.send(stream.protocol.cancel("endless"))
            while not isinstance(await stream.receive(), wire.Cancelled):
                pass
        assert memory_mb(process.pid) < MOST_MB
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_what_a_crowd_needed_goes_back(models_dir: Path) -> None:
    """A crowd leaves a replica with what it holds at rest; the arena alone would keep 70 MB and more."""
    async with replica(models_dir) as (process, url):
        await asyncio.sleep(2 * EVERY_S + 1)
        at_rest = memory_mb(process.pid)
        async with AsyncExitStack() as crowd:
            streams = [await crowd.enter_async_context(connect_tts(url)) for _ in range(30)]
            for stream in streams:
                await stream.send(stream.protocol.synthesize(f"{TEXTS[2]} {TEXTS[1]} " * 20))
            for stream in streams[:10]:
                while not isinstance(await stream.receive(), Audio):
                    pass
            in_need = memory_mb(process.pid)
        assert in_need > at_rest + KEPT_MB
        await eventually(lambda: memory_mb(process.pid) < at_rest + KEPT_MB, within_s=60)


async def test_voices_that_come_and_go_leave_no_memory_behind(models_dir: Path, tmp_path: Path) -> None:
    """Two that take turns in the room for one: after eight loads the process holds what it held after two."""
    real = models_dir / f"piper-{REAL}"
    (tmp_path / real.name).symlink_to(real)
    for seed, name in enumerate(("red", "green")):
        make_voice(tmp_path, name, real, seed)
    async with replica(tmp_path, TTS_VOICE_MEMORY_MB="190") as (process, url):
        held = []
        for _ in range(4):
            for name in ("red", "green"):
                assert (await speak(TEXTS[1], url, voice=name)).seconds > 0.5
            held.append(memory_mb(process.pid))
        assert held[-1] < held[0] + A_VOICE_MB / 2
        assert max(held) < MOST_WITH_TWO_MB


async def test_without_its_default_voice_it_says_why_and_ends(models_dir: Path, tmp_path: Path) -> None:
    """Its container starts it anew, and nobody is sent to it."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
        "MODELS_DIR": str(tmp_path),
        "TTS_PORT": "0",
        "TTS_ADMIN_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tts", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode != 0
    assert f"the default voice '{REAL}' can't be used: it is not installed" in said.decode()
