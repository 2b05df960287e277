"""Short forms of `make conformance` and `make fuzz`, on both services with their real models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from abuse.conformance import groups, run_cases
from abuse.fuzz import Tally, fuzz
from abuse.targets import Service, Target
from abuse.vitals import lost, settled
from asr.service import AsrService
from asr.settings import AsrSettings
from tests.conftest import running
from tts.service import TtsService
from tts.settings import TtsSettings

pytestmark = pytest.mark.model

INPUTS = 1000
"""A service; the long form sends a hundred thousand."""
SEED = 20260000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def targets(models_dir: Path) -> AsyncIterator[dict[Service, Target]]:
    """A replica of each service; none counts as stuck, however slow the machine."""
    own = {"host": "127.0.0.1", "port": 0, "admin_port": 0, "MODELS_DIR": models_dir, "stuck_s": 600}
    async with AsyncExitStack() as stack:
        found: dict[Service, Target] = {}
        for name, service in (("asr", AsrService(AsrSettings(**own))), ("tts", TtsService(TtsSettings(**own)))):
            replica = await stack.enter_async_context(running(service))
            ports = (replica.stream_listener.port or 0, replica.admin_listener.port or 0)
            found[name] = Target(name, "direct", "127.0.0.1", *ports)
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("service", ["asr", "tts"])
async def test_frames_are_taken_and_refused_as_the_rfc_has_it(targets: dict[Service, Target], service: Service) -> None:
    """Every case but those that take many seconds; afterwards nothing is left of them."""
    target = targets[service]
    before = await asyncio.to_thread(settled, target)
    results = await asyncio.to_thread(run_cases, target, slow=False)
    assert {f"{each.id} {each.sends}": each.problems for each in results if each.problems} == {}
    assert set(groups(results)) == {"1", "2", "3", "4", "5", "6", "7", "9", "12", "L", "H"}
    assert lost(before, await asyncio.to_thread(settled, target, before)) == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("service", ["asr", "tts"])
async def test_bad_input_is_answered_and_leaves_nothing(targets: dict[Service, Target], service: Service) -> None:
    """A thousand inputs: no crash, no fault of our own, no word of how we are made, every mistake named, no leak."""
    tally: Tally = await asyncio.to_thread(fuzz, targets[service], INPUTS, SEED)
    assert (tally.failures, tally.left) == ([], [])
    assert tally.count >= INPUTS
