"""What a result must say about the machine and the software it was measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("ctranslate2", "faster-whisper", "onnxruntime", "piper-tts")
"""What decides how fast and how well the engines work; this process's versions, which the images pin too."""


def describe() -> dict[str, str | int]:
    """Processor, cores, memory, system, and the versions of `PACKAGES` that are installed."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **_versions(),
    }


def in_words() -> str:
    """The same as one line of Markdown."""
    found = describe()
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    hardware = f"{found['cores']} cores of {found['processor']}, {found['memory_gib']} GiB, {found['system']}"
    return f"{hardware}; Python {found['python']}, {versions}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
