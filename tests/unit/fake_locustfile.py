"""The load test's locustfile with a crew that makes its records up (`fake_crew.py`), over real pipes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from loadtest import crew_process
from loadtest.locustfile import *  # noqa: F403

_popen = subprocess.Popen


def _fake(command: list[str], **options: Any) -> Any:
    place = command.index("-m")
    return _popen([*command[:place], str(Path(__file__).with_name("fake_crew.py")), *command[place + 2 :]], **options)


class _Subprocess:
    """As the module, but for the one thing."""

    Popen = staticmethod(_fake)
    PIPE = subprocess.PIPE
    TimeoutExpired = subprocess.TimeoutExpired


crew_process.subprocess = _Subprocess  # type: ignore[assignment]
