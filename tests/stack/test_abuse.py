"""A short form of `make conformance` through nginx, on the real stack."""

from __future__ import annotations

import pytest

from abuse.conformance import run_cases
from abuse.targets import Service, Target
from abuse.vitals import lost, settled
from tests.stack.conftest import FIRST_DIRECT_PORT

pytestmark = pytest.mark.stack

GROUPS = ("1.", "2.1", "2.5", "3.", "4.", "5.", "6.2.", "6.4.", "7.", "L.", "12.", "H.")
BALANCED = {"asr": 8000, "tts": 8003}


@pytest.mark.parametrize("service", ["asr", "tts"])
def test_nginx_passes_frames_as_they_are(service: Service) -> None:
    """Good ones, bad ones, and the close frames that tell why; afterwards nothing is left of them."""
    target = Target(service, "nginx", "127.0.0.1", BALANCED[service], FIRST_DIRECT_PORT[service])
    before = settled(target)
    results = run_cases(target, only=GROUPS, slow=False)
    assert {f"{each.id} {each.sends}": each.problems for each in results if each.problems} == {}
    assert lost(before, settled(target, before)) == []
