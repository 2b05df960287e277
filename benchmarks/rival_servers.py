"""Installs a rival from PyPI into an environment of its own, and runs its server."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

import psutil

REQUIREMENTS = Path(__file__).resolve().parent / "rivals"
"""NAME.txt, and NAME-no-deps.txt for what is installed without its dependencies."""
HOME = Path(__file__).resolve().parents[1] / ".rivals"
"""An environment and a log for each rival; git ignores it."""
STARTS_WITHIN_S = 180.0
STOPS_WITHIN_S = 10.0


class DoesNotRun(Exception):
    """A rival could not be installed, or its server not started or talked to."""


def install(name: str, progress: str) -> None:
    """Make the rival's environment, unless it is there from its present requirements. Raises `DoesNotRun`."""
    files = [file for file in (REQUIREMENTS / f"{name}.txt", REQUIREMENTS / f"{name}-no-deps.txt") if file.exists()]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    mark = HOME / name / "wanted"
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return
    print(f"{progress}: installing into {HOME.name}/{name}", file=sys.stderr)
    _run(sys.executable, "-m", "venv", "--clear", str(HOME / name))
    for file in files:
        without = ["--no-deps"] if file.stem.endswith("-no-deps") else []
        _run(python_of(name), "-m", "pip", "install", "--quiet", *without, "--requirement", str(file))
    mark.write_text(wanted, encoding="utf-8")


def look_up(name: str) -> None:
    """Ask the package registry for it, and install nothing. Raises `DoesNotRun` with pip's answer where it has none."""
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", name)


def version(name: str, package: str) -> str:
    """Which version of a package is installed for a rival."""
    folders = [str(folder) for folder in (HOME / name).glob("lib/python*/site-packages")]
    return next(found.version for found in distributions(name=package, path=folders))


def python_of(name: str) -> str:
    """The interpreter of a rival's environment."""
    return str(HOME / name / "bin" / "python")


class Server:
    """A rival's server process on a port of its own."""

    def __init__(self, name: str, port: int, arguments: list[str]) -> None:
        self._log = HOME / f"{name}.log"
        # OpenMP's threads: what CTranslate2 takes where a server has no option of its own. No model hub is asked.
        environment = {**os.environ, "OMP_NUM_THREADS": str(cores()), "HF_HUB_OFFLINE": "1"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python_of(name), *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=HOME / name
            )
        try:
            self._await(port)
        except BaseException:
            self.stop()
            raise

    def _await(self, port: int) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise DoesNotRun(f"its server ended at once: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise DoesNotRun(f"its server does not listen after {STARTS_WITHIN_S:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing in its log")

    def usage(self) -> tuple[float, float]:
        """Processor seconds spent so far and MiB resident now, of the process and all its children."""
        server = psutil.Process(self._process.pid)
        everybody = [server, *server.children(recursive=True)]
        times = [process.cpu_times() for process in everybody]
        seconds = sum(spent.user + spent.system for spent in times)
        return seconds, sum(process.memory_info().rss for process in everybody) / 2**20

    def stop(self) -> None:
        """End it, by force where it does not go."""
        self._process.terminate()
        try:
            self._process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cores() -> int:
    """How many the benchmark, and so every system, may use."""
    return len(os.sched_getaffinity(0))


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        raise DoesNotRun("; ".join(errors) or done.stdout[-300:] or f"{command[0]} failed")
