"""The stack file of a swarm, from what Compose really makes of compose.yaml, and by Swarm's own reader."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from serving.run import longest_end_s
from swarm.stack import LINGER_S, SERVICES, render
from tests.stack.conftest import compose_config
from tests.stack.test_compose import CPU, GPU

pytestmark = pytest.mark.stack


def as_swarm_reads(file: dict[str, Any]) -> str:
    """`docker stack config` of a stack file; fails where it is refused."""
    done = subprocess.run(
        ["docker", "stack", "config", "--compose-file", "-"],
        input=json.dumps(file), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("files", [GPU, CPU])
def test_swarm_takes_what_compose_yaml_says(files: str) -> None:
    """Of every profile; nothing in it is unknown, and limits, users and logs are bounded as they are under Compose."""
    config = compose_config(COMPOSE_FILE=files, COMPOSE_PROFILES="*")
    file = render(config).file
    read = as_swarm_reads(file)
    assert "${DOCKER_RESOURCE_ASR_GPU%%.*}" in read if files == GPU else "DOCKER_RESOURCE" not in read
    assert file["services"].keys() == set(SERVICES)
    for name, made in file["services"].items():
        given = config["services"][name]
        assert made["deploy"]["resources"]["limits"] == {"memory": given["mem_limit"], "pids": given["pids_limit"]}, (
            name
        )
        for key in ("init", "read_only", "cap_drop", "logging"):
            assert made[key] == given[key], name


@pytest.mark.parametrize("name", ["asr", "tts"])
def test_lingering_and_draining_fit_into_the_grace_period(name: str) -> None:
    """A replica ends by itself before Swarm's patience does."""
    made = render(compose_config()).file["services"][name]
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", made["stop_grace_period"]).groups(default="0")  # type: ignore[union-attr]
    assert made["environment"][f"{name.upper()}_LINGER_S"] == str(LINGER_S)
    drain_s = float(made["environment"][f"{name.upper()}_DRAIN_S"])
    assert longest_end_s(drain_s, LINGER_S) + 5 <= 60 * int(minutes) + int(seconds)


def test_what_stays_with_compose_joins_the_stacks_network() -> None:
    """With compose.swarm.yaml none of the swarm's services is Compose's any more, and no network is made."""
    files = f"{CPU}:compose.swarm.yaml"
    config = compose_config(COMPOSE_FILE=files, COMPOSE_PROFILES="monitoring,loadtest", COMPOSE_PROJECT_NAME="mine")
    assert not set(SERVICES) & config["services"].keys()
    assert {"prometheus", "loadtest"} <= config["services"].keys()
    network = config["networks"]["default"]
    assert (network["name"], network["external"]) == ("mine_default", True)
