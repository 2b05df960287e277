"""Docker's command line."""

from __future__ import annotations

import json
import subprocess
from typing import Any


class DockerError(Exception):
    """A command failed; the message is what it said."""


def docker(*arguments: str, partly: bool = False) -> str:
    """Output of a docker command, with `partly` also where it failed in the middle. Raises `DockerError`."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and not partly:
        raise DockerError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def within(image: str, *command: str) -> str:
    """Output of a command in a new container of an image, which may look at all and touch nothing.

    Raises `DockerError`.
    """
    confined = ("--network", "none", "--read-only", "--cap-drop", "ALL", "--cap-add", "DAC_READ_SEARCH", "--user", "0")
    return docker("run", "--rm", *confined, "--entrypoint", command[0], image, *command[1:])


def services() -> dict[str, dict[str, Any]]:
    """Every service as Compose understands it, those of profiles included. Raises `DockerError`."""
    found: dict[str, dict[str, Any]] = json.loads(docker("compose", "--profile", "*", "config", "--format", "json"))[
        "services"
    ]
    return found


def images_here(wanted: set[str]) -> dict[str, dict[str, Any]]:
    """What Docker knows of those images that are on this machine, by name."""
    here = {}
    for name in sorted(wanted):
        try:
            (here[name],) = json.loads(docker("image", "inspect", name))
        except DockerError:
            continue
    return here


def running() -> list[str]:
    """Names of the stack's containers that run now. Raises `DockerError`."""
    return sorted(docker("compose", "--profile", "*", "ps", "--status", "running", "--format", "{{.Name}}").split())
