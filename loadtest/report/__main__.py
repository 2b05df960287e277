"""The report of a run: `python -m loadtest.report RUN.jsonl --out FOLDER [--thresholds cpu refusals=off …]`.

Writes `report.html`, `report.md`, `report.json` and `report.csv`. Exit status: 0 when every threshold holds and the run
is valid, 1 when not, 2 when it can't be read or the call is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.report import told
from loadtest.report.collect import read
from loadtest.report.page import page
from loadtest.report.report import Report, report
from loadtest.report.tables import as_csv, as_json, as_markdown
from loadtest.report.thresholds import BadThreshold, thresholds_from


def write(found: Report, folder: Path) -> None:
    """The report in all four forms. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "report.html": page(found),
        "report.md": as_markdown(found),
        "report.json": as_json(found),
        "report.csv": as_csv(found),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.report", description=__doc__)
    parser.add_argument("run", type=Path, help="the records of a run, JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.html, .md, .json, .csv")
    parser.add_argument(
        "--thresholds",
        nargs="*",
        default=[],
        metavar="LIMIT",
        help="gpu (default) or cpu, then NAME=NUMBER or NAME=off",
    )
    options = parser.parse_args(arguments)
    try:
        found = report(read(options.run), thresholds_from(options.thresholds))
        write(found, options.out)
    except (BadThreshold, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for verdict in found.verdicts:
        mark = "holds" if verdict.holds else "FAILS"
        value = told.of_unit(verdict.found, verdict.unit)
        print(f"{mark}  {verdict.title}: {value} ({told.limit(verdict)}; {verdict.note})")
    print(f"{told.outcome(found)}: {told.headline(found)}")
    print(f"report: {options.out / 'report.html'}")
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
