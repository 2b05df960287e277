"""Known vulnerabilities of the pinned Python packages, by pip-audit, which asks PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from audit.findings import Finding

TIMEOUT_S = 20
"""Of one request; pip-audit makes one for each package."""


class NotAnswered(Exception):
    """PyPI does not answer, or a mirror without its JSON does; or pip-audit fails otherwise."""


def of_requirements(file: Path) -> tuple[list[Finding], list[str]]:
    """The vulnerabilities of a file of requirements with hashes, and the packages that PyPI does not know.

    Raises `NotAnswered`.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--disable-pip", "--require-hashes",
               "--format", "json", "--progress-spinner", "off", "--timeout", str(TIMEOUT_S)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise NotAnswered(lines[-1]) from None
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    if len(unknown) == len(packages):  # pip-audit itself then says that there is no known vulnerability
        raise NotAnswered("it knows none of the packages")
    found = [
        Finding(file.name, f"{each['name']} {each['version']} has {hole['id']}{_remedy(hole['fix_versions'])}")
        for each in packages
        for hole in each.get("vulns", [])
    ]
    return found, unknown


def _remedy(fixed: list[str]) -> str:
    return f"; mended in {', '.join(fixed)}" if fixed else "; nothing mends it yet"
