"""promtool and the monitoring's image; the stack that runs beside is not touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import ROOT

Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def image() -> str:
    """The monitoring's image, built where it is not there or not up to date."""
    environment = {**os.environ, "COMPOSE_PROFILES": "monitoring"}
    done = subprocess.run(
        ["docker", "compose", "build", "prometheus"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "chorus/monitoring"


@pytest.fixture(scope="session")
def promtool(image: str) -> Promtool:
    """Runs promtool in the project's folder, which is `/work` there."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "run", "--rm", "--network", "none", "-v", f"{ROOT}:/work:ro", "-w", "/work", image,
             "promtool", *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run
