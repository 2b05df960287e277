"""The result of a run as a page of Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine
from chaos.abrupt import Ends
from chaos.checks import Process
from chaos.fault import Row
from chaos.overload import Overload
from loadtest.figures import percentile

BEGIN = "<!-- the tables below are written by `make chaos`; what stands above is kept -->"


def write(
    page: Path, json_file: Path, rows: list[Row], ends: list[Ends], overloads: list[Overload], how: str
) -> list[str]:
    """Write both; of the page only what stands below `BEGIN`. Returns what was not as it has to be."""
    tables = "\n\n".join(
        part for part in (_faults(rows), _ends(ends), _overloads(overloads), _complaints(rows, ends, overloads)) if part
    )
    before = page.read_text(encoding="utf-8").split(BEGIN)[0].rstrip() if page.exists() else "# Reliability"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}\n\n{BEGIN}\n\n{machine.in_words()}. {how}\n\n{tables}\n", encoding="utf-8")
    found = {
        "how": how,
        "faults": [asdict(row) for row in rows],
        "abrupt_ends": [asdict(each) for each in ends],
        "overload": [asdict(each) | {"complaints": each.complaints} for each in overloads],
    }
    for row in found["faults"]:
        if row["noticed"] is not None:
            del row["noticed"]["heard"]  # every final of every speaker
    machine.write_json(json_file, found)
    return [line for each in (*rows, *ends, *overloads) for line in each.complaints]


def _faults(rows: list[Row]) -> str:
    if not rows:
        return ""
    return _table(
        "## Faults",
        ["fault", "what is done", "what people notice", "words lost or doubled", "all replicas serve after", "no stream counted after",
         "all slots open after", "memory, MiB", "descriptors", "restarted", "holds"],
        (
            [
                row.name, row.what, row.clients, row.words_lost, _seconds(row.serving_s), _seconds(row.idle_s),
                _seconds(row.capacity_s), row.memory, row.descriptors, len(row.restarted) or "", _verdict(row.sound),
            ]
            for row in rows
        ),
    )  # fmt: skip


def _ends(ends: list[Ends]) -> str:
    if not ends:
        return ""
    return _table(
        "## Abrupt ends",
        ["service", "through", "RST", "gone without FIN", "frozen", "no stream counted after, worst",
         "memory after a tenth → all, MiB", "descriptors", "holds"],
        (
            [
                each.service.upper(), each.through, *each.opened.values(),
                " / ".join(f"{spent:.1f}" for spent in each.idle_s.values()) + " s",
                _change(each, "rss_mb"), _change(each, "descriptors"), _verdict(each.sound),
            ]
            for each in ends
        ),
    )  # fmt: skip


def _change(ends: Ends, what: str) -> str:
    def shown(process: Process | None) -> str:
        return "" if process is None else f"{getattr(process, what):.6g}"

    return f"{shown(ends.first)} → {shown(ends.last)}"


def _overloads(overloads: list[Overload]) -> str:
    if not overloads:
        return ""
    return _table(
        "## Overload",
        ["service", "slots", "people", "minutes", "streams served", "p95 at capacity", "p95 of those admitted", "refusals",
         "refused in, p50 / p99", "alone before", "alone after", "calm after", "holds"],
        (
            [
                each.service.upper(), each.slots, 2 * each.slots, f"{each.minutes:g}", each.overload.streams,
                _seconds(each.capacity.p95), _seconds(each.overload.p95), len(each.overload.refusals),
                " / ".join(_milliseconds(each.overload.refusals, share) for share in (0.5, 0.99)),
                _seconds(each.alone_before_s), _seconds(each.alone_after_s), _seconds(each.calm_s), _verdict(each.sound),
            ]
            for each in overloads
        ),
    )  # fmt: skip


def _complaints(rows: list[Row], ends: list[Ends], overloads: list[Overload]) -> str:
    named = [(row.name, row.complaints) for row in rows]
    named += [(f"abrupt ends, {each.service} {each.through}", each.complaints) for each in ends]
    named += [("overload", each.complaints) for each in overloads]
    lines = [f"- {name}: {line}" for name, complaints in named for line in complaints]
    return "## What did not hold\n\n" + "\n".join(lines) if lines else ""


def _table(title: str, heads: list[str], rows: Iterable[list[object]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join([title, "", *lines])


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _milliseconds(values: list[float], share: float) -> str:
    found = percentile(values, share)
    return "" if found is None else f"{1000 * found:.0f} ms"


def _verdict(sound: bool) -> str:
    return "yes" if sound else "**no**"
