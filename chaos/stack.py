"""The stack under test: its containers, their processes, what they say of themselves, and their network namespaces.

`scripts/chaos.sh` starts it and runs this program in the network namespace of its container `outside`, as root of this
machine: the names of the stack's network are known, clients connect as from another machine, and `docker` still works.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = os.environ.get("COMPOSE_PROJECT_NAME", "chorus-chaos")
FOLDER = Path(os.environ.get("CHAOS_DIR", ".build/chaos"))
"""Mounted at /chaos in every container: what the faults tell them."""
ROOT = Path(__file__).resolve().parents[1]
COMMAND_S = 240.0
"""For one command; Compose waits 180 s for healthy containers."""
SERVICES = ("asr", "tts")
STREAM_PORT = {"asr": 8001, "tts": 8002}
ADMIN_PORT = {"asr": 9001, "tts": 9002}
FRONT = {"asr": "ws://nginx:8000", "tts": "ws://nginx:8003"}
"""Where clients connect."""


class ChaosError(Exception):
    """The suite itself can't go on: a command failed, or the stack does not come back."""


@dataclass(frozen=True)
class Replica:
    """One container of a service."""

    service: str
    number: int

    @property
    def container(self) -> str:
        """Its name, which is also its name on the network."""
        return f"{PROJECT}-{self.service}-{self.number}"

    @property
    def url(self) -> str:
        """Its own streams, not through nginx."""
        return f"ws://{self.container}:{STREAM_PORT[self.service]}"


NGINX = f"{PROJECT}-nginx-1"
OUTSIDE = f"{PROJECT}-outside-1"


@dataclass(frozen=True)
class Stack:
    """How much of it runs."""

    replicas: int
    """Of each service."""
    max_connections: int
    """Streams of each replica."""

    def of(self, service: str) -> list[Replica]:
        """The replicas of a service."""
        return [Replica(service, number) for number in range(1, self.replicas + 1)]

    @property
    def all(self) -> list[Replica]:
        """Of both services."""
        return [replica for service in SERVICES for replica in self.of(service)]

    @property
    def containers(self) -> list[str]:
        """Whose processes, memory and descriptors are compared: the replicas and nginx."""
        return [*(replica.container for replica in self.all), NGINX]

    @property
    def streams(self) -> int:
        """How many a service can hold."""
        return self.replicas * self.max_connections


def run(*command: str, check: bool = True, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
    """A command of this machine, run in the project's folder. Raises `ChaosError`."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ChaosError(f"{' '.join(command)}: no end after {timeout_s:.0f} s") from None
    if check and done.returncode != 0:
        raise ChaosError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


async def shell(*command: str, check: bool = True) -> str:
    """The output of a command, which does not hold up the clients."""
    return (await asyncio.to_thread(run, *command, check=check)).stdout


async def docker(*arguments: str, check: bool = True) -> str:
    """The output of a docker command."""
    return await shell("docker", *arguments, check=check)


async def save_logs(stack: Stack, name: str) -> Path:
    """Write what all containers have said to a file, and return its place."""
    place = ROOT / ".build" / f"chaos-{name}.log"
    said = [await asyncio.to_thread(run, "docker", "logs", "-t", each, check=False) for each in stack.containers]
    place.parent.mkdir(exist_ok=True)
    place.write_text(
        "".join(f"==> {each} <==\n{log.stdout}{log.stderr}" for each, log in zip(stack.containers, said, strict=True)),
        encoding="utf-8",
    )
    return place


async def up(stack: Stack, **settings: str) -> None:
    """Bring the stack to these replicas and settings, all healthy."""
    given = [f"{name}={value}" for name, value in settings.items()]
    threads = max(1, (os.cpu_count() or 1) // stack.replicas)
    for service in SERVICES:
        given += [f"{service.upper()}_MAX_CONNECTIONS={stack.max_connections}", f"{service.upper()}_THREADS={threads}"]
    scales = [part for service in SERVICES for part in ("--scale", f"{service}={stack.replicas}")]
    await shell(
        "env", *given, "docker", "compose", "up", "-d", "--no-build", "--wait", "--wait-timeout", "180", *scales
    )


async def inspect(container: str, template: str) -> str:
    """One of the container's facts, by Docker's template."""
    return (await docker("inspect", "--format", template, container)).strip()


async def main_pid(container: str) -> int:
    """Of the container's first process, which is Docker's init; 0 while the container does not run."""
    return int(await inspect(container, "{{.State.Pid}}"))


async def process_of(container: str) -> int:
    """The process that init started: the replica itself, or nginx's master. Raises `ChaosError`."""
    pid = await main_pid(container)
    children = _children(pid) if pid else []
    if not children:
        raise ChaosError(f"{container} has no process")
    return children[0]


async def processes_of(container: str) -> list[int]:
    """`process_of` and, of nginx, its workers; nothing while the container does not run."""
    try:
        first = await process_of(container)
    except ChaosError:
        return []
    return [first, *_children(first)] if container == NGINX else [first]


async def restarts(container: str) -> int:
    """How often Docker has started it anew."""
    return int(await inspect(container, "{{.RestartCount}}"))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def rss_mb(pid: int) -> float:
    """Resident memory, MiB; 0 for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("VmRSS", "0 kB").split()[0]) / 1024


def descriptors(pid: int) -> int:
    """How many it has open; 0 for a process that is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


async def in_network_of(container: str, *command: str, check: bool = True) -> str:
    """The output of a command of this machine, run in a container's network namespace."""
    pid = await main_pid(container)
    if not pid:
        raise ChaosError(f"{container} does not run")
    return await shell("nsenter", f"--net=/proc/{pid}/ns/net", *command, check=check)


async def iptables(container: str, *rules: str, check: bool = True) -> None:
    """Rules of iptables in a container's own tables, each as on its command line.

    Without `check` one that can't be followed is let go: a container that was started anew has new tables.
    """
    for rule in rules:
        await in_network_of(container, "iptables", "--wait", *rule.split(), check=check)


def say(replica: Replica, timeout_s: float = 5.0) -> dict[str, Any]:
    """What a replica answers to /health on its admin port. Raises `OSError` where it does not."""
    url = f"http://{replica.container}:{ADMIN_PORT[replica.service]}/health"
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


async def health(replica: Replica) -> dict[str, Any]:
    """`say`, or a status `silent` where there is no answer."""
    try:
        return await asyncio.to_thread(say, replica)
    except (OSError, ValueError):
        return {"status": "silent", "active_connections": -1, "queue_depth": -1}


async def until_serving(replicas: list[Replica], within_s: float) -> float:
    """Seconds until all of them say `ok`. Raises `ChaosError`."""
    began = time.monotonic()
    while True:
        states = {replica.container: (await health(replica))["status"] for replica in replicas}
        spent = time.monotonic() - began
        if set(states.values()) == {"ok"}:
            return spent
        if spent > within_s:
            raise ChaosError(f"after {within_s:.0f} s not all serve: {states}")
        await asyncio.sleep(0.3)


async def until(condition: Any, within_s: float, what: str) -> float:
    """Seconds until an async condition holds. Raises `ChaosError` that names it."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > within_s:
            raise ChaosError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(0.2)
    return time.monotonic() - began
