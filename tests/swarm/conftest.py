"""A swarm of one node, made for these tests on an engine that is in none, and the stack on it, on ports of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.conftest import ROOT

NAME = "chorus-swarm-test"
ADMIN_PORT = {"asr": 9001, "tts": 9002}
OWN = """
services:
  asr: {{healthcheck: {{retries: 100}}}}
  tts: {{healthcheck: {{retries: 100}}}}
  nginx:
    ports: !override ["{asr}:8000", "{tts}:8003"]
    healthcheck: {{retries: 100}}
"""
"""Its ports; and Swarm is not to replace what only waits for the processor of a busy machine."""
BRIDGE = "docker_gwbridge"
"""The network by which Swarm's containers reach the machine, and it them; the engine makes it, and keeps it."""


def docker(*arguments: str) -> str:
    """Output of a docker command."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Swarm:
    """The stack, as its administrator and its clients know it."""

    asr_url: str
    tts_url: str
    folder: Path
    """For files of the test: as long as the stack is there."""
    env: dict[str, str] = field(default_factory=dict)

    def make(self, target: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`make TARGET` with the stack's settings and these."""
        return subprocess.run(
            ["make", target],
            cwd=ROOT,
            env={**os.environ, **self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def deploy(self, **env: str) -> None:
        """Bring the stack to these settings."""
        done = self.make("swarm-deploy", **env)
        assert done.returncode == 0, done.stdout + done.stderr

    def scale(self, **counts: int) -> None:
        """As many replicas, all healthy."""
        docker("service", "scale", "--detach=false", *(f"{NAME}_{name}={count}" for name, count in counts.items()))

    def containers(self, service: str) -> list[str]:
        """Ids of a service's running containers."""
        label = f"label=com.docker.swarm.service.name={NAME}_{service}"
        return docker("ps", "--no-trunc", "--quiet", "--filter", label).split()

    def replicas(self, service: str) -> list[dict[str, Any]]:
        """What each replica that serves says of itself."""
        (network,) = json.loads(docker("network", "inspect", BRIDGE))
        addresses = {each: body["IPv4Address"].partition("/")[0] for each, body in network["Containers"].items()}
        told = []
        for container in self.containers(service):
            try:
                url = f"http://{addresses[container]}:{ADMIN_PORT[service]}/health"
                with urllib.request.urlopen(url, timeout=10) as answer:
                    told.append(json.load(answer))
            except (KeyError, OSError, urllib.error.URLError):
                continue  # not ready, or gone meanwhile
        return told

    async def settled(self, service: str, count: int, connections: int) -> list[int]:
        """Connections of each replica, once there are so many of both."""
        async with asyncio.timeout(120):
            while True:
                held = [each["active_connections"] for each in await asyncio.to_thread(self.replicas, service)]
                if (len(held), sum(held)) == (count, connections):
                    return held
                await asyncio.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("0.0.0.0", 0))
        return [each.getsockname()[1] for each in found]


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """This machine's engine as the manager of a swarm of one node, and afterwards as it was."""
    state = docker("info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Nodes}}").split()
    if state[0] == "active":
        if state[1:] != ["true", "1"]:
            pytest.fail(
                "this engine is in a swarm that it does not manage alone; these tests need one of one node, or none"
            )
        yield
        return
    if docker("ps", "--quiet"):
        pytest.fail("containers run here, and an engine that leaves a swarm forgets the names of all: make down first")
    bridge = BRIDGE in docker("network", "ls", "--format", "{{.Name}}").split()
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    yield
    docker("swarm", "leave", "--force")
    if not bridge:
        docker("network", "rm", BRIDGE)


@pytest.fixture(scope="session")
def swarm(engine: None) -> Iterator[Swarm]:
    """Two replicas of each service, of the images that `make images` has built, with the models of the tests."""
    # Not pytest's: it removes the folders of runs that go on when others begin.
    with TemporaryDirectory(prefix=NAME) as folder:
        yield from deployed(Path(folder))


def deployed(folder: Path) -> Iterator[Swarm]:
    """The stack, until it is not needed any more."""
    asr, tts = free_ports(2)
    own = folder / "own.yaml"
    own.write_text(OWN.format(asr=asr, tts=tts), encoding="utf-8")
    files = os.environ.get("COMPOSE_FILE", "compose.yaml:compose.cpu.yaml")
    env = {
        "COMPOSE_PROJECT_NAME": NAME,
        "COMPOSE_FILE": f"{files}:{own}",
        "LOCAL_MODELS_DIR": str(Path(os.environ.get("MODELS_DIR", ROOT / ".models")).resolve()),
        "ASR_STUCK_S": "600",
        "TTS_STUCK_S": "600",
        "CHORUS_API_KEYS_FILE": "",
        "SWARM_REGISTRY": "",
    }
    stack = Swarm(f"ws://127.0.0.1:{asr}", f"ws://127.0.0.1:{tts}", folder, env)
    try:
        stack.deploy()
        stack.scale(asr=2, tts=2)
        yield stack
    finally:
        removed = stack.make("swarm-remove")
        assert removed.returncode == 0, removed.stdout + removed.stderr
        docker("volume", "rm", "--force", f"{NAME}_models")
