"""What a result must say about the machine it was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, str | int]:
    """Processor, cores, memory, system and the versions of what was measured."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ("ctranslate2", "faster-whisper", "onnxruntime", "piper-tts")
    return {
        "processor": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def in_words() -> str:
    """The same as one line of Markdown."""
    found = describe()
    versions = ", ".join(f"{name} {found[name]}" for name in list(found)[4:])
    return f"{found['cores']} cores of {found['processor']}, {found['memory_gib']} GiB, {found['system']}; {versions}"
