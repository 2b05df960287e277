"""How many people a stack holds: the search for the number, and runs side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import msgspec

from benchmarks.search import PRECISION, most_held
from loadtest.report import told
from loadtest.report.curves import Curve
from loadtest.report.page import SECONDS, Cell, document, heading, items, table
from loadtest.report.report import Report
from loadtest.report.svg import line_chart
from loadtest.report.tables import escaped, markdown_table

RunAt = Callable[[int], Report]
"""Makes a run with so many people and reports it."""


class Attempt(msgspec.Struct, frozen=True):
    """One run."""

    users: int
    report: Report


class Capacity(msgspec.Struct, frozen=True):
    """What was found in one setting, as one duty cycle."""

    title: str
    users: int
    """The most for which every threshold held, in the confirmation too; 0: for none."""
    attempts: list[Attempt]
    """By users, those of the same number in their order."""
    limited_by_generator: bool
    """More people could not be judged, since the load generator lagged: the stack may hold more."""


def search(title: str, run_at: RunAt, first: int, most: int, confirm: RunAt | None = None) -> Capacity:
    """The most people for whom every threshold holds, to one part in `PRECISION`: by doubling, then halving.

    `confirm` is a longer run at the number found; while it does not hold, the next lower number is confirmed.
    An invalid run does not hold.
    """
    attempts: list[Attempt] = []

    def holds(users: int, run: RunAt = run_at) -> bool:
        attempts.append(Attempt(users, run(users)))
        return attempts[-1].report.holds

    users = most_held(holds, first, most)
    while confirm is not None and users and not holds(users, confirm):
        users -= max(1, users // PRECISION)
    return of_runs(title, users, attempts)


def of_runs(title: str, users: int, attempts: Sequence[Attempt]) -> Capacity:
    """Of runs that were made, and the number found in them."""
    ordered = sorted(attempts, key=lambda each: each.users)
    above = [each for each in ordered if each.users > users and not each.report.holds]
    return Capacity(title, users, ordered, bool(above) and bool(above[0].report.invalid))


def write_capacity(found: Sequence[Capacity], folder: Path) -> None:
    """`capacity.html`, `.md`, `.json` and `.csv`. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "capacity.html": as_page(found),
        "capacity.md": as_markdown(found),
        "capacity.json": msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n",
        "capacity.csv": as_csv(found),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


def headline(found: Capacity) -> str:
    """The number and what limits it, in a sentence."""
    text = f"{found.users} people: every threshold holds"
    if not found.users:
        text = "With no number of people that was tried every threshold holds"
    if found.limited_by_generator:
        return f"{text}; with more the load generator lagged, so the stack may hold more"
    above = [each for each in found.attempts if each.users > found.users and not each.report.holds]
    if not above:
        return f"{text}; more were not tried"
    failed = [verdict for verdict in above[0].report.verdicts if not verdict.holds]
    text = f"{text}; with {above[0].users} not: {'; '.join(each.title for each in failed)}"
    if [each.name for each in failed] == ["refusals"]:
        # A setting was found, not what the machine holds.
        text += " (the replicas took no more; ASR_MAX_CONNECTIONS and TTS_MAX_CONNECTIONS say how many they take)"
    return text


HEAD = (
    "people", "run", "", "final p95", "first audio p95", "without a gap", "lost", "errors", "refusals", "CPU", "failed"
)  # fmt: skip


def _rows(found: Capacity) -> Iterable[tuple[Cell, ...]]:
    """Under `HEAD`."""
    for each in found.attempts:
        report, counts = each.report, each.report.counts
        outcome = told.outcome(report)
        gapless = 1 - counts.replies_with_gap / counts.replies_heard if counts.replies_heard else None
        failed = report.invalid or [verdict.title for verdict in report.verdicts if not verdict.holds]
        yield (
            str(each.users),
            told.length(report.seconds),
            (outcome, outcome),
            told.seconds(report.measure("asr_final_s").all.p95),
            told.seconds(report.measure("tts_first_audio_s").all.p95),
            told.percent(gapless),
            str(counts.lost_utterances),
            str(counts.failures),
            str(sum(counts.refusals.values())),
            told.percent(_machine_cpu(report)),
            "; ".join(failed),
        )


def _machine_cpu(report: Report) -> float | None:
    """Mean over the run of the share of all cores of the load generator's machine."""
    curves = report.curves.server.get("machine_cpu") if report.curves else None
    return sum(curves[0].y) / len(curves[0].y) if curves else None


def as_page(found: Sequence[Capacity]) -> str:
    """One page of all, as self-contained as that of a run."""
    body = ["<header><h1>Capacity</h1></header>\n", items((each.title, f"{each.users} people") for each in found)]
    for each in found:
        body.append(heading(each.title, f"{headline(each)}."))
        if each.attempts:
            body.append(f'<p class="soft">{escape(told.duty_cycle(_told_of(each)))}</p>')
            body += ['<div class="charts">', *_charts(each), "</div>"]
            body.append(table(HEAD, _rows(each), numeric=(0, 1, *range(3, 10))))
            if settings := told.machine_and_settings(_told_of(each)):
                body.append(table((), settings))
    return document("Capacity", "".join(body))


def _told_of(found: Capacity) -> Report:
    """The longest run with the number found, else the one with the fewest: its duty cycle and settings are told."""
    held = [each.report for each in found.attempts if each.users == found.users]
    return max(held, key=lambda report: report.seconds, default=found.attempts[0].report)


def _charts(found: Capacity) -> Iterable[str]:
    limits = found.attempts[0].report.thresholds
    for title, name, limit in (
        ("Final after the true end of speech", "asr_final_s", limits.asr_final_p95_s),
        ("First audio of a reply", "tts_first_audio_s", limits.tts_first_audio_p95_s),
    ):
        # Where a number was tried twice, the last run, the longer one, is drawn.
        known = {float(each.users): each.report.measure(name).all for each in found.attempts}
        known = {people: summary for people, summary in known.items() if summary.count}
        users = list(known)
        curves = [Curve(share, users, [getattr(each, share) for each in known.values()]) for share in ("p50", "p95")]
        marks = [float(found.users)] if found.users else []
        drawn = line_chart(curves, SECONDS, limit=limit, marks=marks, x_end=max(users, default=1.0), people=True)
        yield f"<figure><h3>{title}, by people</h3>{drawn}</figure>"


def as_markdown(found: Sequence[Capacity]) -> str:
    """A table of each."""
    parts = ["# Capacity"]
    for each in found:
        rows = ([cell[0] if isinstance(cell, tuple) else cell for cell in row] for row in _rows(each))
        parts += [f"## {escaped(each.title)}", f"{headline(each)}.", markdown_table(HEAD, rows)]
        if each.attempts:
            parts.append(told.duty_cycle(_told_of(each)))
            if settings := told.machine_and_settings(_told_of(each)):
                parts.append(markdown_table(("machine and settings", ""), settings))
    return "\n\n".join(parts) + "\n"


def as_csv(found: Sequence[Capacity]) -> str:
    """A row for each run and threshold; `inf` never came, empty: no data."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("title", "capacity", "users", "seconds", "outcome", "threshold", "limit", "found", "holds"))
    for capacity in found:
        for each in capacity.attempts:
            run = (capacity.title, capacity.users, each.users, round(each.report.seconds), told.outcome(each.report))
            for verdict in each.report.verdicts:
                told_found = "" if verdict.found is None else f"{verdict.found:.6g}"
                rows.writerow((*run, verdict.name, f"{verdict.limit:g}", told_found, verdict.holds))
    return out.getvalue()
