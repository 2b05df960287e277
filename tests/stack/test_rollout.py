"""Roll-outs as clients see them: nobody notices, direct ports still answer, an interrupted one is made good."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from benchmarks.rollout import measure, spoken_for
from benchmarks.speech import CLIPS
from loadtest.clips import read_manifest
from tests.conftest import ROOT
from tests.stack.conftest import containers, docker, replicas, scale

pytestmark = pytest.mark.stack

NUMBER = '{{index .Config.Labels "com.docker.compose.container-number"}}'
MOST_S = 300.0
"""What a speaker has to say; more than the roll-outs take."""


def rolled_out(service: str) -> str:
    """Roll out; what it told."""
    done = subprocess.run(
        ["make", "rollout", f"SERVICE={service}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(service: str) -> dict[str, str]:
    """Of each container of a service, by its name, what Compose takes its number to be."""
    return {name: docker("inspect", "--format", NUMBER, name).strip() for name in containers(service)}


async def test_nobody_notices_a_roll_out() -> None:
    """No connect fails, nothing is cut, no audio is lost; the instances are others, on the same ports."""
    before = {service: replicas(service, 1)[0]["instance"] for service in ("asr", "tts")}

    async def roll_out(service: str) -> None:
        await asyncio.to_thread(rolled_out, service)

    told = spoken_for(read_manifest(CLIPS), 3, MOST_S)
    noticed, _ = await measure(told, 3, 1, roll_out=roll_out)
    assert noticed.faults == []
    assert noticed.moved_speakers >= 3
    assert noticed.moved_listeners >= 3
    assert noticed.replies > 0
    for service in ("asr", "tts"):
        assert replicas(service, 1)[0]["instance"] != before[service]
        assert numbers(service) == {f"chorus-{service}-1": "1"}


def test_an_interrupted_roll_out_is_made_good_and_compose_goes_on_counting() -> None:
    """Whatever was left, the next run ends with replicas 1 and 2; Compose leaves those alone and adds the third."""
    scale(asr=2)
    # As far as one gets: the first has given its name to its successor, and a sample for another was made.
    docker("rename", "chorus-asr-1", "chorus-asr-1-old")
    docker("compose", "up", "--no-start", "--no-deps", "--no-recreate", "--no-build", "--scale", "asr=3", "asr")
    before = {body["instance"] for body in replicas("tts", 1)}
    told = rolled_out("asr")
    assert "replaced 2 of 2" in told
    assert numbers("asr") == {"chorus-asr-1": "1", "chorus-asr-2": "2"}
    assert len({body["instance"] for body in replicas("asr", 2)}) == 2
    kept = docker("compose", "ps", "--quiet", "asr").split()
    scale(asr=3)
    assert numbers("asr") == {f"chorus-asr-{number}": str(number) for number in (1, 2, 3)}
    assert set(kept) <= set(docker("compose", "ps", "--quiet", "asr").split())
    assert len({body["instance"] for body in replicas("asr", 3)}) == 3
    assert {body["instance"] for body in replicas("tts", 1)} == before
    scale()
