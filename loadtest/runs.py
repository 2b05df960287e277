"""The folder of runs: each has one of its own, with its records and its report."""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtest.settings import ROOT

RECORDS = "run.jsonl"
TROUBLED = 3
"""Exit status of Locust where the load generator failed, whatever the report says."""
TROUBLE = "trouble.txt"
"""Why a run ended before its time, where it did."""
REPORTS = ("report.html", "report.md", "report.json", "report.csv")
CAPACITY = ("capacity.html", "capacity.md", "capacity.json", "capacity.csv")
"""Of a search for how many people there may be, over several runs."""


def runs_folder() -> Path:
    """`LOADTEST_RUNS`, or `loadtest-runs` here."""
    return Path(os.environ.get("LOADTEST_RUNS") or ROOT / "loadtest-runs")


@dataclass(frozen=True)
class RunInfo:
    """A run as lists show it."""

    name: str
    outcome: str
    """`pass`, `fail`, `invalid`, `capacity` for a search, or `no report` while there is none."""
    note: str
    files: tuple[str, ...]


def new_run(folder: Path, name: str, now: datetime | None = None) -> Path:
    """A folder that did not exist, named by the time (UTC) and what is run."""
    stem = f"{now or datetime.now(UTC):%Y-%m-%d-%H%M%S}-{name}"
    number = 1
    while True:
        path = folder / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1


def list_runs(folder: Path) -> list[RunInfo]:
    """The newest first."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if _is_run(path))
    return [_info(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def find_run(folder: Path, name: str) -> Path | None:
    """The folder of a run by its name, None where there is none; no name leads out of the folder."""
    path = folder / name
    return path if path.parent == folder and name != ".." and _is_run(path) else None


def zipped(run: Path) -> bytes:
    """The report in all its forms, without the records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*REPORTS, *CAPACITY, TROUBLE):
            if (run / name).is_file():
                archive.write(run / name, f"{run.name}/{name}")
    return file.getvalue()


def _is_run(path: Path) -> bool:
    return (path / RECORDS).is_file() or (path / CAPACITY[0]).is_file()


def _info(run: Path) -> RunInfo:
    trouble = (run / TROUBLE).read_text(encoding="utf-8").strip() if (run / TROUBLE).is_file() else ""
    files = tuple(name for name in (*REPORTS, *CAPACITY, RECORDS) if (run / name).is_file())
    if CAPACITY[0] in files:
        return RunInfo(run.name, "capacity", "", files)
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return RunInfo(run.name, "no report", trouble, files)
    outcome = "invalid" if report["invalid"] or trouble else "pass" if report["holds"] else "fail"
    return RunInfo(run.name, outcome, trouble or "; ".join(report["invalid"]), files)
