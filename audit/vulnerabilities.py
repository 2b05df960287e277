"""Known vulnerabilities of the pinned Python packages, by pip-audit, which asks PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from audit.findings import Finding

TIMEOUT_S = 20
"""Of one request; pip-audit makes one for each package."""


class NotAsked(Exception):
    """PyPI does not answer, or pip-audit fails otherwise; the message is its own."""


def of_requirements(file: Path) -> list[Finding]:
    """The vulnerabilities of a file of requirements with hashes. Raises `NotAsked`."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--disable-pip", "--require-hashes",
               "--format", "json", "--progress-spinner", "off", "--timeout", str(TIMEOUT_S)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise NotAsked(lines[-1]) from None
    return [
        Finding(file.name, f"{each['name']} {each['version']} has {hole['id']}{_remedy(hole['fix_versions'])}")
        for each in packages
        for hole in each.get("vulns", [])
    ]


def _remedy(fixed: list[str]) -> str:
    return f"; mended in {', '.join(fixed)}" if fixed else "; nothing mends it yet"
