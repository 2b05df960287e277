"""Whether a run tells of the server at all: a load generator that lags measures itself."""

from __future__ import annotations

import msgspec
import numpy as np

from loadtest.report.collect import Collected, Generator
from loadtest.report.curves import People
from loadtest.report.measures import Floats, column, percentile
from loadtest.report.thresholds import Thresholds

SILENT_S = 15.0
"""A load generator that has people and told nothing for so long has stopped."""
WHOLE = 0.95
"""A run that was to last a time has lasted it when it came so far."""


class Lagged(msgspec.Struct, frozen=True):
    """One load generator's state over the time that it had people."""

    worker: str
    seconds: float
    lagged_s: float
    """Of them, those in which the p95 of its lateness was over the limit."""
    late_p95: float
    """95th percentile over its seconds of the p95 in each."""
    late_worst: float
    cpu_mean: float
    """Of one core, as the next."""
    cpu_most: float

    @property
    def share(self) -> float:
        """Of its time that it lagged."""
        return self.lagged_s / self.seconds if self.seconds else 0.0


def generators(run: Collected, thresholds: Thresholds) -> list[Lagged]:
    """Those that had people at any time."""
    return [_state(worker, rows, thresholds) for worker, rows in sorted(run.generators.items()) if any(rows.users)]


def reasons(run: Collected, people: People, lagged: list[Lagged], thresholds: Thresholds) -> list[str]:
    """Why a run is invalid; empty where it is valid."""
    if run.start is None or run.end is None:
        return ["there is no record"]
    found = []
    if run.unread:
        found.append(f"{run.unread} lines are no record; {run.unread_first}")
    if not lagged:
        found.append("no load generator told how late it was, so nothing can be said of the server")
    limit, share = thresholds.generator_late_p95_s, thresholds.generator_late_share
    for each in lagged:
        if each.share > share:
            found.append(
                f"load generator {each.worker} lagged: its p95 lateness was over {limit * 1000:g} ms in "
                f"{each.share:.1%} of {each.seconds:.0f} s (at most {share:.0%} may be); give it more workers or cores"
            )
        rows = run.generators[each.worker]
        last, users = max(zip(rows.when, rows.users, strict=True))
        if users and run.end - last > SILENT_S:
            found.append(f"load generator {each.worker} told nothing over the last {run.end - last:.0f} s")
    planned = run.run
    if planned is not None and planned.seconds is not None and run.end - run.start < WHOLE * planned.seconds:
        found.append(f"it ended after {run.end - run.start:.0f} of {planned.seconds:.0f} s")
    if planned is not None and planned.users is not None and people.most < planned.users:
        found.append(f"only {people.most} of {planned.users} people came")
    return found


def _state(worker: str, rows: Generator, thresholds: Thresholds) -> Lagged:
    order = np.argsort(column(rows.when), kind="stable")
    when, users, late, cpu = (column(each)[order] for each in (rows.when, rows.users, rows.late_p95, rows.cpu))
    # A record tells of the time since the one before: one that froze for a minute tells of all of it.
    seconds = np.diff(when, prepend=when[0] - 1)
    some = users > 0
    lagged = some & (late > thresholds.generator_late_p95_s)
    return Lagged(
        worker,
        float(seconds[some].sum()),
        float(seconds[lagged].sum()),
        _p95(late[some]),
        max(rows.late_worst),
        float(cpu[some].mean()),
        float(cpu[some].max()),
    )


def _p95(values: Floats) -> float:
    return percentile(np.sort(values), 0.95)
