"""The real compose stack: `make test` has started it, these helpers scale, ask and hurt it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT

ASR = "ws://127.0.0.1:8000"
TTS = "ws://127.0.0.1:8003"
FIRST_DIRECT_PORT = {"asr": 8001, "tts": 8002}


def docker(*arguments: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Output of a docker command run in the project's folder."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def compose_config(**env: str) -> dict[str, Any]:
    """The whole stack as Compose understands it, with these variables set."""
    config: dict[str, Any] = json.loads(docker("compose", "config", "--format", "json", env=env))
    return config


def scale(asr: int = 1, tts: int = 1) -> None:
    """Bring the stack to so many replicas, all healthy."""
    wanted = ("--scale", f"asr={asr}", "--scale", f"tts={tts}")
    docker("compose", "up", "-d", "--no-build", "--wait", "--wait-timeout", "180", *wanted)


def containers(service: str) -> list[str]:
    """Names of a service's running containers."""
    return sorted(docker("compose", "ps", "--format", "{{.Name}}", service).split())


def health(port: int, timeout_s: float = 10) -> tuple[int, dict[str, Any]]:
    """Status and body of /health on a published port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=timeout_s) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def replicas(service: str, count: int) -> list[dict[str, Any]]:
    """What each replica says of itself, by its direct port."""
    found = []
    for number in range(count):
        status, body = health(FIRST_DIRECT_PORT[service] + 10 * number)
        assert status == 200, body
        found.append(body)
    return found


async def settled(service: str, count: int, connections: int) -> list[int]:
    """Connections of each replica, once their sum is what it should be."""
    async with asyncio.timeout(30):
        while True:
            held = [body["active_connections"] for body in await asyncio.to_thread(replicas, service, count)]
            if sum(held) == connections:
                return held
            await asyncio.sleep(0.2)


def kill_process(container: str) -> None:
    """kill -9 of the container's process by its pid on this machine: a crash, as the restart policy sees it."""
    pid = int(docker("inspect", "--format", "{{.State.Pid}}", container))
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        subprocess.run(["sudo", "-n", "kill", "-9", str(pid)], check=True)


@pytest.fixture(scope="session", autouse=True)
def stack() -> Iterator[None]:
    """One replica of each at the start and at the end."""
    if "chorus-nginx-1" not in docker("compose", "ps", "--format", "{{.Name}}", check=False):
        pytest.fail("the stack is not up: run  make up")
    scale()
    yield
    scale()
