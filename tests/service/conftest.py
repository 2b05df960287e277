"""Both services in process with the real models, on ports of their own choice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from asr.service import AsrService
from asr.settings import AsrSettings
from tests.conftest import running
from tts.service import TtsService
from tts.settings import TtsSettings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asr(models_dir: Path) -> AsyncIterator[str]:
    """Address of a recognition replica."""
    settings = AsrSettings(host="127.0.0.1", port=0, admin_port=0, MODELS_DIR=models_dir)
    async with running(AsrService(settings)) as replica:
        yield f"ws://127.0.0.1:{replica.stream_listener.port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tts(models_dir: Path) -> AsyncIterator[str]:
    """Address of a synthesis replica."""
    # However slow the machine, nobody is refused here; admission has tests of its own.
    settings = TtsSettings(host="127.0.0.1", port=0, admin_port=0, MODELS_DIR=models_dir, max_wait_s=600)
    async with running(TtsService(settings)) as replica:
        yield f"ws://127.0.0.1:{replica.stream_listener.port}"
