"""How many people the stack holds: `python -m loadtest.capacity --every 45 20 [--minutes 5] [--probe-minutes 1.5]`.

For each duty cycle the most people for whom every threshold holds, found by runs of some length with more and fewer,
and confirmed by a longer one. Each run is one of Locust without a UI; `LOADTEST_…` set what is not given here.
Exit status: 0 when a number was found for each, 1 where not even one person was served in time, 2 when a run could not
be made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from loadtest.report.capacity import Capacity, headline, search, write_capacity
from loadtest.report.collect import read
from loadtest.report.report import Report, report
from loadtest.report.thresholds import BadThreshold, Thresholds, thresholds_from
from loadtest.runs import RECORDS, list_runs, new_run, runs_folder
from loadtest.settings import ROOT

LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"


class NoRun(Exception):
    """A run could not be made."""


def run_at(users: int, *, every_s: float, minutes: float, workers: int, limits: Thresholds, runs: Path) -> Report:
    """One run with so many people, by Locust. Raises `NoRun`."""
    before = {run.name for run in list_runs(runs)}
    environment = {
        **os.environ,
        "LOADTEST_RUNS": str(runs),
        "LOADTEST_SHAPE": "steady",
        "LOADTEST_USERS": str(users),
        "LOADTEST_MINUTES": str(minutes),
        "LOADTEST_TURN_EVERY_S": str(every_s),
    }
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    done = subprocess.run([*command, "--processes", str(workers)], env=environment, check=False)
    made = [run.name for run in list_runs(runs) if run.name not in before]
    if not made or done.returncode not in (0, 1):
        raise NoRun(
            f"a run with {users} people could not be made: Locust ended with status {done.returncode}, see above"
        )
    return report(read(runs / made[0] / RECORDS), limits)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.capacity", description=__doc__)
    parser.add_argument(
        "--every", type=float, nargs="+", default=[45.0], help="seconds from turn to turn, a search each"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="for which the number found is held (default: 5)")
    parser.add_argument("--probe-minutes", type=float, default=1.5, help="of each run before (default: 1.5)")
    parser.add_argument("--first", type=int, default=16, help="people of the first run (default: 16)")
    parser.add_argument("--most", type=int, default=200, help="with more it is not tried (default: 200)")
    parser.add_argument("--workers", type=int, default=int(os.environ.get("LOCUST_WORKERS") or 1))
    options = parser.parse_args(arguments)
    try:
        limits = thresholds_from((os.environ.get("LOADTEST_THRESHOLDS") or "gpu").split())
        found = [_search(options, every_s, limits) for every_s in options.every]
    except (BadThreshold, NoRun) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = new_run(runs_folder(), "capacity")
    write_capacity(found, folder)
    for each in found:
        print(f"{each.title}: {headline(each)}")
    print(f"report: {folder / 'capacity.html'}")
    return 0 if all(each.users for each in found) else 1


def _search(options: argparse.Namespace, every_s: float, limits: Thresholds) -> Capacity:
    run: Callable[..., Report] = partial(
        run_at, every_s=every_s, workers=options.workers, limits=limits, runs=runs_folder()
    )
    return search(
        f"a turn every {every_s:g} s",
        partial(run, minutes=options.probe_minutes),
        options.first,
        options.most,
        partial(run, minutes=options.minutes),
    )


if __name__ == "__main__":
    sys.exit(main())
