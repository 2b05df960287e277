"""The result of a run as a page of Markdown and as JSON."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import machine
from chaos.abrupt import Ends
from chaos.checks import Process
from chaos.fault import Row
from chaos.overload import Overload
from loadtest.figures import percentile

BEGIN = "<!-- the sections below are written by `make chaos`; what stands above is kept -->"


def write(page: Path, json_file: Path, rows: list[Row], ends: list[Ends], overloads: list[Overload]) -> list[str]:
    """Write both, and return what was not as it has to be. What was not measured now stays as it was."""
    date = time.strftime("%Y-%m-%d")
    sections = {title: text for title, text in (_faults(rows), _ends(ends), _overloads(overloads)) if text}
    told = f"{date}; {machine.in_words()}; CPU models."
    _write_page(page, {title: f"{told}\n\n{text}" for title, text in sections.items()})
    found: dict[str, object] = json.loads(json_file.read_text(encoding="utf-8")) if json_file.exists() else {}
    measured = {
        "faults": [_as_json(row) for row in rows],
        "abrupt_ends": [asdict(each) for each in ends],
        "overload": [asdict(each) | {"complaints": each.complaints} for each in overloads],
    }
    machine.write_json(
        json_file, found | {name: {"date": date, "rows": each} for name, each in measured.items() if each}
    )
    complaints = [row.complaints for row in rows] + [each.complaints for each in ends]
    return [line for lines in complaints + [each.complaints for each in overloads] for line in lines]


def _as_json(row: Row) -> dict[str, object]:
    noticed = None if row.noticed is None else vars(row.noticed)  # `asdict` makes nonsense of a Counter
    return {**asdict(replace(row, noticed=None)), "noticed": noticed}


def _write_page(page: Path, sections: dict[str, str]) -> None:
    """Put these sections, by title, in the place of those that are there."""
    before, _, after = page.read_text(encoding="utf-8").partition(BEGIN) if page.exists() else ("# Reliability", "", "")
    kept = dict(part.split("\n", 1) for part in after.split("\n## ")[1:])
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in (kept | sections).items())
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{body}\n", encoding="utf-8")


def _faults(rows: list[Row]) -> tuple[str, str]:
    heads = [
        "fault", "what is done", "what people notice", "words lost or doubled", "all replicas serve after",
        "no stream counted after", "all slots open after", "memory, MiB", "descriptors", "restarted", "holds",
    ]  # fmt: skip
    cells: list[list[object]] = [
        [
            row.name, row.what, row.clients, row.words_lost, _seconds(row.serving_s), _seconds(row.idle_s),
            _seconds(row.capacity_s), row.memory, row.descriptors, len(row.restarted) or "", _verdict(row.sound),
        ]
        for row in rows
    ]  # fmt: skip
    return _section("Faults", heads, cells, [f"{row.name}: {line}" for row in rows for line in row.complaints])


def _ends(ends: list[Ends]) -> tuple[str, str]:
    heads = [
        "service", "through", "RST", "gone without FIN", "frozen", "no stream counted after, worst: RST / others",
        "all slots taken again after, worst", "memory after a tenth → all, MiB", "descriptors", "holds",
    ]  # fmt: skip
    cells: list[list[object]] = [
        [
            each.service.upper(), each.through, *each.opened.values(),
            " / ".join(f"{spent:.1f}" for spent in each.idle_s.values()) + " s",
            f"{each.reopened_s:.1f} s", _change(each, "rss_mb"), _change(each, "descriptors"), _verdict(each.sound),
        ]
        for each in ends
    ]  # fmt: skip
    wrong = [f"{each.service}, {each.through}: {line}" for each in ends for line in each.complaints]
    return _section("Abrupt ends", heads, cells, wrong)


def _change(ends: Ends, what: str) -> str:
    def shown(process: Process | None) -> str:
        return "" if process is None else f"{getattr(process, what):.6g}"

    return f"{shown(ends.first)} → {shown(ends.last)}"


def _overloads(overloads: list[Overload]) -> tuple[str, str]:
    heads = [
        "service", "slots", "people", "minutes", "streams served", "p95 at capacity", "p95 of those admitted",
        "refusals", "refused in, p50 / p99", "alone before", "alone after", "calm after", "holds",
    ]  # fmt: skip
    cells: list[list[object]] = [
        [
            each.service.upper(), each.slots, 2 * each.slots, f"{each.minutes:g}", each.overload.streams,
            _seconds(each.capacity.p95), _seconds(each.overload.p95), len(each.overload.refusals),
            " / ".join(_milliseconds(each.overload.refusals, share) for share in (0.5, 0.99)),
            _seconds(each.alone_before_s), _seconds(each.alone_after_s), _seconds(each.calm_s),
            _verdict(each.sound),
        ]
        for each in overloads
    ]  # fmt: skip
    return _section("Overload", heads, cells, [line for each in overloads for line in each.complaints])


def _section(title: str, heads: list[str], cells: list[list[object]], wrong: list[str]) -> tuple[str, str]:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in cells]
    if wrong:
        lines += ["", "What did not hold:", "", *(f"- {line}" for line in wrong)]
    return title, "\n".join(lines) if cells else ""


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _milliseconds(values: list[float], share: float) -> str:
    found = percentile(values, share)
    return "" if found is None else f"{1000 * found:.0f} ms"


def _verdict(sound: bool) -> str:
    return "yes" if sound else "**no**"
