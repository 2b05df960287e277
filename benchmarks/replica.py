"""A replica as a process of this machine, for benchmarks that need settings of their own; no Docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.metrics import Metrics, read_metrics
from benchmarks.ports import free_ports

ROOT = Path(__file__).resolve().parents[1]
START_S = 300.0
"""A large model on a slow disk takes long to load."""
STOP_S = 15.0


class Replica:
    """`python -m MODULE` on free ports of 127.0.0.1: `with` starts it, waits until it serves, and ends it."""

    def __init__(self, module: str = "asr", prefix: str = "ASR", /, **settings: object) -> None:
        """`settings` without their prefix, in lower case: `admit_p95_ms=2000`."""
        self._module = module
        self._port, self._admin_port = free_ports(2)
        own = {"host": "127.0.0.1", "port": self._port, "admin_port": self._admin_port, **settings}
        self._environment = {f"{prefix}_{name.upper()}": str(value) for name, value in own.items()}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  deleted when it is closed
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its streams."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def ports(self) -> tuple[int, int]:
        """Of its streams, and of its health and metrics."""
        return self._port, self._admin_port

    def health(self) -> dict[str, Any]:
        """What it says of itself, also while it can't serve. Raises `OSError` where it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/health", timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def metrics(self) -> Metrics:
        """Its metrics now. Raises `OSError`."""
        return read_metrics(f"http://127.0.0.1:{self._admin_port}/metrics")

    def __enter__(self) -> Replica:
        command = [sys.executable, "-m", self._module]
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "MODELS_DIR": str(ROOT / ".models")}
        environment |= os.environ | self._environment
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log)
        try:
            self._wait_until_it_serves()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def log(self) -> str:
        """What it has written so far."""
        self._log.seek(0)
        return self._log.read()

    def _wait_until_it_serves(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise SystemExit(f"{self._module} ended with {self._process.returncode}:\n{self.log()[-4000:]}")
            try:
                if self.health()["status"] == "ok":
                    return
            except OSError:
                pass  # its port is not open yet
            time.sleep(0.1)
        raise SystemExit(f"{self._module} does not serve after {START_S:.0f} s:\n{self.log()[-4000:]}")

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
