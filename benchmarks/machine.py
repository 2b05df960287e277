"""What a result must say about the machine and the software it was measured with."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("ctranslate2", "faster-whisper", "onnxruntime", "piper-tts")
"""What decides how fast and how well the engines work; this process's versions, which the images pin too."""

VECTORS = (("amx_int8", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))
"""Flags of /proc/cpuinfo and their names, the widest first: processors of one name differ in them, and with them in
speed by far."""


def describe() -> dict[str, str | int]:
    """Processor, cores, memory, system, and the versions of `PACKAGES` that are installed."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
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


def write_result(output: Path, text: str, result: Mapping[str, object]) -> None:
    """A result as Markdown and, with the machine, as JSON; `output` is the files' name without suffix."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(text, encoding="utf-8")
    write_json(output.with_suffix(".json"), result)


def write_json(path: Path, result: Mapping[str, object]) -> None:
    """A result with the machine, as JSON."""
    told = json.dumps(_finite({"machine": describe(), **result}), indent=2, allow_nan=False)
    path.write_text(told + "\n", encoding="utf-8")


def _finite(found: Any) -> Any:
    """The same for JSON, which knows finite numbers alone: null for others, at any depth."""
    if isinstance(found, Mapping):
        return {key: _finite(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


def processor(cpuinfo: str) -> str:
    """The processor's name by the text of /proc/cpuinfo, and the widest of `VECTORS` that it has."""
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    told = {name.strip(): value.strip() for name, _, value in pairs}
    name = told.get("model name") or platform.processor() or "unknown processor"
    flags = told.get("flags", "").split()
    widest = next((vectors for flag, vectors in VECTORS if flag in flags), None)
    return f"{name} ({widest})" if widest else name


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
