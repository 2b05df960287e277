"""The report as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from loadtest.report import told
from loadtest.report.measures import Summary
from loadtest.report.report import Report

CSV_HEAD = ("minute", "measure", "service", "instance", "count", "value", "p50", "p95", "p99", "worst")
"""`minute` is empty for the whole run, `instance` for all; latencies are in seconds, `inf` never came. Of what replicas
and load generators tell of themselves, `value` is the mean and `worst` the most."""
MOST_ERRORS = 20
"""Those that Markdown shows; the page has more, the records have all."""


def as_json(report: Report) -> str:
    """Everything, indented; infinite numbers as null."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def as_markdown(report: Report) -> str:
    """What a reader looks at first; the page has the rest."""
    parts = [
        f"# Load test: {told.title(report)}: {told.outcome(report)}",
        escaped(told.headline(report)),
        f"{told.moment(report.started)}. {told.duty_cycle(report)}",
        markdown_table(
            ("threshold", "limit", "found", "", "of"),
            (
                (each.title, told.limit(each), told.of_unit(each.found, each.unit), _mark(each.holds), each.note)
                for each in report.verdicts
            ),
        ),
        "## Latencies",
        markdown_table(
            ("", "count", *told.HEAD),
            ((f"– {name}" if part else name, *numbers) for part, (name, *numbers) in told.latencies(report)),
        ),
        "## Counts",
        markdown_table(("", ""), told.counted(report)),
        "## Share of each replica",
        markdown_table(
            ("service", "replica", "connections", "utterances or replies", "largest deviation from even"),
            (
                (
                    told.SERVICE[share.service],
                    instance,
                    str(many),
                    str(share.answers[instance]),
                    told.percent(share.deviation),
                )
                for share in report.shares
                for instance, many in share.connections.items()
            ),
        ),
        "## Isolation",
        told.isolation(report),
    ]
    if report.isolation.breaches:
        head = ("who got it", "on connection", "whose it was", "on connection", "what")
        parts.append(markdown_table(head, told.breaches(report)))
    if report.isolation.not_proven:
        parts.append("Not proven: " + ", ".join(map(escaped, report.isolation.not_proven)) + ".")
    if report.incidents:
        parts += ["## Incidents", *(escaped(told.incident(each)) for each in report.incidents)]
        parts.append(markdown_table(told.OTHERS, told.others(report)))
    if report.load_curve:
        parts += ["## Load curve", markdown_table(told.LEVELS, told.levels(report))]
    if report.server:
        parts += ["## Server", markdown_table(told.SERVER_HEAD, told.server(report))]
    parts += ["## Load generator", markdown_table(told.GENERATORS, told.generators(report))]
    parts += ["## Minute by minute", markdown_table(told.MINUTES, told.minutes(report))]
    if report.failures:
        parts.append("## Errors")
        if report.counts.failures > MOST_ERRORS:
            parts.append(f"The first {MOST_ERRORS} of {report.counts.failures}.")
        rows = ((each.user, told.SERVICE[each.service], each.connection_id, each.what) for each in report.failures)
        parts.append(markdown_table(("who", "service", "connection", "what"), islice(rows, MOST_ERRORS)))
    if settings := told.machine_and_settings(report):
        parts += ["## Machine and settings", markdown_table(("", ""), settings)]
    return "\n\n".join(parts) + "\n"


def as_csv(report: Report) -> str:
    """One row for each measure over the run, by replica, for each count, and for each measure and minute."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(CSV_HEAD)
    for measure in report.measures:
        for instance, found in {"": measure.all, **measure.by_instance}.items():
            rows.writerow(("", measure.name, measure.service, instance, *_numbers(found)))
    for verdict in report.verdicts:
        rows.writerow(("", f"threshold_{verdict.name}", "", "", "", _number(verdict.found), "", "", "", ""))
    for name, service, number in _counts(report):
        rows.writerow(("", name, service, "", "", _number(number), "", "", "", ""))
    for share in report.shares:
        for instance, many in share.connections.items():
            rows.writerow(("", "connections", share.service, instance, "", many, "", "", "", ""))
    for replica in report.server:
        of = replica.service, replica.instance, ""
        for name, mean in replica.mean.items():
            rows.writerow(("", f"server_{name}", *of, _number(mean), "", "", "", _number(replica.most[name])))
    for worker in report.generators:
        of = "", worker.worker, ""
        rows.writerow(("", "generator_cpu", *of, _number(worker.cpu_mean), "", "", "", _number(worker.cpu_most)))
        rows.writerow(("", "generator_late_s", *of, "", "", _number(worker.late_p95), "", _number(worker.late_worst)))
    for minute in report.minutes:
        for name, service, found in (
            ("asr_final_s", "asr", minute.asr_final_s),
            ("asr_partial_s", "asr", minute.asr_partial_s),
            ("tts_first_audio_s", "tts", minute.tts_first_audio_s),
        ):
            rows.writerow((minute.minute, name, service, "", *_numbers(found)))
        for name in ("users", "replies_with_gap", "refusals", "failures", "lost_connections", "connections"):
            rows.writerow((minute.minute, name, "", "", "", _number(getattr(minute, name)), "", "", "", ""))
    return out.getvalue()


def _counts(report: Report) -> Iterable[tuple[str, str, float | None]]:
    """What is counted over the run: its name, its service if it is of one, and the number."""
    found = report.counts
    yield from (("refusals", service, many) for service, many in found.refusals.items())
    for name in (
        "people", "reconnects", "failures", "lost_connections", "cut_off", "utterances", "lost_utterances",
        "replies_heard", "replies_with_gap", "gap_s",
    ):  # fmt: skip
        yield name, "", getattr(found, name)
    yield from ((f"replies_{outcome}", "tts", many) for outcome, many in found.replies.items())
    yield "word_errors", "asr", report.words.errors
    yield "words", "asr", report.words.words
    yield "breaches", "", report.isolation.breaches
    yield "people_proven", "", len(report.isolation.clean)
    if report.duty_cycle is not None:
        yield "duty_cycle_speaking", "asr", report.duty_cycle.speaking
        yield "duty_cycle_listening", "tts", report.duty_cycle.listening


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of plain text, which is escaped."""
    lines = [head, ["---"] * len(head)]
    lines += [[escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """What Markdown and the HTML within it would take for markup."""
    for mark, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*"), ("[", "\\[")):
        text = text.replace(mark, written)
    return " ".join(text.split())


def _mark(holds: bool) -> str:
    return "holds" if holds else "**fails**"


def _numbers(found: Summary) -> tuple[str, ...]:
    return str(found.count), "", *(_number(value) for value in (found.p50, found.p95, found.p99, found.worst))


def _number(value: float | None) -> str:
    return "" if value is None else "inf" if math.isinf(value) else f"{value:.6g}"
