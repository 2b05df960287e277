"""The short form of `make chaos`: on a stack of its own, which is gone afterwards, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stack.conftest import docker

pytestmark = pytest.mark.stack

PROJECT = "chorus-chaos"
LONGEST_S = 900.0


def left() -> list[str]:
    """Containers, networks and volumes of the suite's own project."""
    mine = ("--filter", f"label=com.docker.compose.project={PROJECT}", "--quiet")
    return [
        *docker("ps", "--all", *mine).split(),
        *docker("network", "ls", *mine).split(),
        *docker("volume", "ls", *mine).split(),
    ]


def chaos(*arguments: str) -> subprocess.Popen[str]:
    """The suite in a process group of its own."""
    return subprocess.Popen(
        ["scripts/chaos.sh", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_short_form_holds_and_is_put_away(tmp_path: Path) -> None:
    """Every row of it: nobody lost anything, and all is as before."""
    with chaos("--short", "--output", str(tmp_path / "chaos")) as process:
        told, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, told
    found = json.loads((tmp_path / "chaos.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in found["faults"]["rows"]] == ["hang"]
    assert all(row["restarted"] for row in found["faults"]["rows"])
    assert {row["service"] for row in found["abrupt_ends"]["rows"]} == {"asr", "tts"}
    for row in found["abrupt_ends"]["rows"]:
        assert all(row["opened"].values()), row
    assert left() == []


def test_an_interrupted_run_is_put_away() -> None:
    """In the midst of its start, as by Ctrl-C."""
    with chaos("faults", "--only", "kill") as process:
        end = time.monotonic() + LONGEST_S
        while not left():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        told, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130, told
    assert left() == []
