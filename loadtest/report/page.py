"""The report as one HTML page that needs nothing else: no script, no font, no image, only inline SVG.

Every text that comes from a run is escaped where it is put in: `table`, `items` and `heading` take plain text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from loadtest.report import told
from loadtest.report.curves import Curve, Curves
from loadtest.report.measures import Share
from loadtest.report.report import Report
from loadtest.report.svg import Axis, line_chart

CSS = Path(__file__).with_name("page.css")
MINUTES_OPEN = 15
"""The table of a longer run is folded."""
SECONDS, MILLISECONDS, PERCENT, COUNT = Axis(" s"), Axis(" ms", 1000), Axis(" %", 100), Axis()
MIB, GIB = Axis(" MiB", 2.0**-20), Axis(" GiB", 2.0**-30)
SERVER = {
    "connections": ("connections", COUNT),
    "queue": ("jobs in the queue", COUNT),
    "queue_wait_s": ("mean wait in the queue", MILLISECONDS),
    "real_time_factor": ("engine time for a second of audio", COUNT),
    "cpu": ("CPU, in cores", COUNT),
    "memory_bytes": ("memory", MIB),
    "gpu": ("GPU utilisation", PERCENT),
    "vram_bytes": ("GPU memory in use", GIB),
    "up": ("serves (1) or does not (0)", COUNT),
}
"""What is read of replicas, in the order of the page."""
MACHINE_CPU = "machine_cpu"
AROUND = {
    "machine_memory_bytes": ("Memory in use on this machine", GIB),
    "nginx_connections": ("Connections open at nginx", COUNT),
}
"""And around them; "this machine" is the load generator's."""


class Markup(str):
    """Text that is HTML already."""


Cell = str | tuple[str, str]
"""Text, or text and the class of its cell."""


def page(report: Report) -> str:
    """The whole page."""
    title = f"Load test: {told.title(report)}"
    return document(f"{title}: {told.outcome(report)}", "".join(_sections(report, title)))


def document(title: str, body: str) -> str:
    """A page around its sections."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f"<style>\n{CSS.read_text(encoding='utf-8')}</style></head><body><main>\n{body}</main></body></html>\n"
    )


def _sections(report: Report, title: str) -> Iterable[str]:
    outcome = told.outcome(report)
    yield f'<header><div class="verdict {outcome}"><b>{outcome}</b><h1>{escape(title)}</h1></div>'
    yield f"<p>{escape(told.headline(report))}</p>"
    yield f'<p class="soft">{told.moment(report.started)}. {escape(told.duty_cycle(report))}</p></header>\n'
    yield items(_figures(report))
    yield heading("Thresholds")
    yield table(("", "threshold", "limit", "found"), _verdicts(report), numeric=(2, 3))
    if report.incidents:
        yield from _incidents(report)
    if report.curves is not None:
        yield from _over_time(report, report.curves)
    if report.load_curve:
        yield from _by_load(report)
    yield heading("Latencies")
    yield from _latencies(report)
    yield heading("Counts")
    yield table((), ((name, value) for name, value in told.counted(report)))
    yield heading("Share of each replica")
    yield from _shares(report.shares)
    yield heading("Isolation")
    yield from _isolation(report)
    yield heading("Words")
    yield from _words(report)
    yield heading("Load generator")
    yield from _generators(report)
    if report.curves is not None and report.curves.server:
        yield heading("Server")
        yield from _server(report.curves, report)
    yield from _settings(report)
    yield from _details(report)


def _figures(report: Report) -> Iterable[tuple[str, str]]:
    counts, isolation = report.counts, report.isolation
    yield "people at a time", str(report.users_most)
    yield "final after the end of speech, p95", told.seconds(report.measure("asr_final_s").all.p95)
    yield "first audio of a reply, p95", told.seconds(report.measure("tts_first_audio_s").all.p95)
    gapless = 1 - counts.replies_with_gap / counts.replies_heard if counts.replies_heard else None
    yield "replies without a gap", told.percent(gapless)
    yield "word error rate", told.percent(report.words.rate)
    yield "people proven isolated", f"{len(isolation.clean)} of {isolation.people}"


def _verdicts(report: Report) -> Iterable[Sequence[Cell]]:
    for each in report.verdicts:
        mark = ("✓ holds", "pass") if each.holds else ("✗ fails", "fail")
        title = Markup(f"{escape(each.title)}<small>{escape(each.note)}</small>")
        yield mark, (title, "title"), told.limit(each), told.of_unit(each.found, each.unit)


def _incidents(report: Report) -> Iterable[str]:
    yield heading(
        "Incidents", "Others are those who lost no connection: the minute before beside the one from the loss on."
    )
    for each in report.incidents:
        yield f"<p>{escape(told.incident(each))}</p>"
        yield f"<details><summary>These people</summary><p>{escape(', '.join(each.people))}</p></details>"
    yield table(told.OTHERS, told.others(report), numeric=(1, 2, 3))


def _over_time(report: Report, curves: Curves) -> Iterable[str]:
    limits = report.thresholds
    yield heading("Over time", f"In steps of {told.length(curves.step_s)}; an answer stands where it was waited for."
                  + (" Dotted lines are incidents." if report.incidents else ""))  # fmt: skip
    yield '<div class="charts">'
    yield _chart(report, "People", [curves.users], COUNT)
    yield _chart(report, "Final after the true end of speech", curves.asr_final_s, SECONDS, limits.asr_final_p95_s)
    yield _chart(report, "First audio of a reply", curves.tts_first_audio_s, SECONDS, limits.tts_first_audio_p95_s)
    yield _chart(report, "First partial after the begin of speech", curves.asr_partial_s, SECONDS)
    if curves.troubles:
        yield _chart(report, "Refusals and troubles, in each step", curves.troubles, COUNT)
    else:
        text = "No refusal, failure, lost connection or gap in this run."
        yield f'<figure><h3>Refusals and troubles</h3><p class="soft">{text}</p></figure>'
    if MACHINE_CPU in curves.server:
        yield _chart(report, "CPU of this machine, all cores", curves.server[MACHINE_CPU], PERCENT)
    yield "</div>"


def _by_load(report: Report) -> Iterable[str]:
    levels, limits = report.load_curve, report.thresholds
    yield heading("Load curve", "Latency by how many people there were when it was waited for.")
    yield '<div class="charts">'
    for title, name, limit in (
        ("Final after the true end of speech", "asr_final_s", limits.asr_final_p95_s),
        ("First audio of a reply", "tts_first_audio_s", limits.tts_first_audio_p95_s),
    ):
        curves = []
        for share in ("p50", "p95"):
            known = [(float(each.users), getattr(each, name)) for each in levels if getattr(each, name).count]
            curves.append(Curve(share, [users for users, _ in known], [getattr(found, share) for _, found in known]))
        most = float(max(each.users for each in levels))
        drawn = line_chart(curves, SECONDS, limit=limit, x_end=most, people=True)
        yield f"<figure><h3>{title}, by people</h3>{drawn}</figure>"
    yield "</div>"
    yield table(told.LEVELS, told.levels(report), numeric=range(len(told.LEVELS)))


def _chart(report: Report, title: str, curves: Sequence[Curve], axis: Axis, limit: float | None = None) -> str:
    if not any(curve.x for curve in curves):
        return f'<figure><h3>{escape(title)}</h3><p class="soft">Nothing of it in this run.</p></figure>'
    marks = [each.at_s for each in report.incidents]
    drawn = line_chart(curves, axis, limit=limit, marks=marks, x_end=report.seconds)
    return f"<figure><h3>{escape(title)}</h3>{drawn}</figure>"


def _latencies(report: Report) -> Iterable[str]:
    rows = list(told.latencies(report))
    parts = [number for number, (part, _) in enumerate(rows) if part]
    yield table(("", "count", *told.HEAD), (row for _, row in rows), numeric=range(1, 6), parts=parts)


def _shares(shares: Sequence[Share]) -> Iterable[str]:
    if not shares:
        yield "<p>Nobody was connected.</p>"
    for share in shares:
        most = max(share.connections.values(), default=0) or 1
        rows: list[Sequence[Cell]] = [
            (instance, str(many), Markup(f'<i class="bar" style="width:{100 * many / most:.0f}%"></i>'),
             str(share.answers[instance]))
            for instance, many in share.connections.items()
        ]  # fmt: skip
        what = "utterances" if share.service == "asr" else "replies"
        yield table(
            (told.SERVICE[share.service], "connections", "", what),
            rows,
            numeric=(1, 3),
            bars=2,
            caption=f"Largest deviation of connections from even: {told.percent(share.deviation)}",
        )


def _isolation(report: Report) -> Iterable[str]:
    yield f"<p>{escape(told.isolation(report))}</p>"
    rows = told.breaches(report)
    if rows:
        yield table(("who got it", "on connection", "whose it was", "on connection", "what"), rows)
    if report.isolation.not_proven:
        many = len(report.isolation.not_proven)
        yield f"<details><summary>Not proven, for want of two checked answers of each service: {many}</summary>"
        yield table(("", "checked"), report.isolation.not_proven.items()) + "</details>"


def _words(report: Report) -> Iterable[str]:
    found = report.words
    yield f"<p>Word error rate {told.percent(found.rate)}: {found.errors} of {found.words} words.</p>"
    if report.words_by_user:
        yield f"<details><summary>By person, the worst first: {len(report.words_by_user)}</summary>"
        rows = [
            (user, str(each.words), str(each.errors), told.percent(each.rate))
            for user, each in report.words_by_user.items()
        ]
        yield table(("", "words", "errors", "rate"), rows, numeric=(1, 2, 3)) + "</details>"


def _generators(report: Report) -> Iterable[str]:
    limits = report.thresholds
    late, share = f"{limits.generator_late_p95_s * 1000:g} ms", told.percent(limits.generator_late_share)
    yield (
        f"<p>A second lags where the 95th percentile of how late frames were sent is over {late}; a run with more than "
        f"{share} of such seconds is invalid.</p>"
    )
    yield table(told.GENERATORS, told.generators(report), numeric=range(1, 7))
    if report.curves is not None and report.generators:
        yield '<div class="charts">'
        curves = report.curves
        yield _chart(
            report, "How late frames were sent, p95", curves.generator_late_s, MILLISECONDS, limits.generator_late_p95_s
        )
        yield _chart(report, "CPU of load generators, in cores", curves.generator_cpu, COUNT)
        yield "</div>"


def _server(curves: Curves, report: Report) -> Iterable[str]:
    yield table(told.SERVER_HEAD, told.server(report), numeric=(3, 4))
    yield '<div class="charts">'
    for name, (title, axis) in SERVER.items():
        for service, service_title in told.SERVICE.items():
            found = [curve for curve in curves.server.get(name, []) if curve.name.startswith(service + " ")]
            if found and not (name == "up" and all(min(curve.y) == 1 for curve in found)):
                yield _chart(report, f"{service_title.capitalize()}: {title}", found, axis)
    for name, (title, axis) in AROUND.items():
        if name in curves.server:
            yield _chart(report, title, curves.server[name], axis)
    yield "</div>"


def _settings(report: Report) -> Iterable[str]:
    yield heading("Machine and settings")
    if report.run is None:
        yield "<p>The run did not record them.</p>"
        return
    yield table((), [(name.replace("_", " "), str(value)) for name, value in report.run.machine.items()])
    yield table(
        (), [(name, told.ABSENT if value is None else str(value)) for name, value in report.run.settings.items()]
    )


def _details(report: Report) -> Iterable[str]:
    if report.failures:
        yield heading("Errors", f"The first {len(report.failures)} of {report.counts.failures}.")
        rows = [(told.length(each.at - (report.started or 0)), each.user, told.SERVICE[each.service], each.instance,
                 each.connection_id, each.what) for each in report.failures]  # fmt: skip
        yield table(("after", "who", "service", "replica", "connection", "what"), rows)
    yield heading("Minute by minute")
    shown = " open" * (len(report.minutes) <= MINUTES_OPEN)
    yield f"<details{shown}><summary>{len(report.minutes)} minutes</summary>"
    yield table(told.MINUTES, told.minutes(report), numeric=range(len(told.MINUTES))) + "</details>"


def heading(text: str, explained: str = "") -> str:
    """A section's title and what it shows."""
    return f"\n<h2>{escape(text)}</h2>" + (f'<p class="soft">{escape(explained)}</p>' if explained else "")


def items(figures: Iterable[tuple[str, str]]) -> str:
    """Large numbers, each with its name."""
    told_items = "".join(
        f"<li><span>{escape(name)}</span><strong>{escape(text)}</strong></li>" for name, text in figures
    )
    return f'<ul class="figures">{told_items}</ul>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    numeric: Iterable[int] = (),
    parts: Iterable[int] = (),
    bars: int | None = None,
    caption: str = "",
) -> str:
    """Rows under their head, if they have one; `numeric` columns to the right, `parts` are rows of the row before."""
    right, within = set(numeric), set(parts)
    out = [f'<div class="table{"" if head else " pairs"}"><table>']
    if caption:
        out.append(f"<caption>{escape(caption)}</caption>")
    if head:
        cells = "".join(f"<th{_class('n' * (column in right))}>{escape(name)}</th>" for column, name in enumerate(head))
        out.append(f"<thead><tr>{cells}</tr></thead>")
    out.append("<tbody>")
    for number, row in enumerate(rows):
        out.append(f"<tr{_class('part' * (number in within))}>")
        for column, cell in enumerate(row):
            text, kind = cell if isinstance(cell, tuple) else (cell, "")
            kind = kind or ("n" if column in right else "bars" if column == bars else "")
            tag = "th" if column == 0 and not kind else "td"
            out.append(f"<{tag}{_class(kind)}>{text if isinstance(text, Markup) else escape(text)}</{tag}>")
        out.append("</tr>")
    return "".join(out) + "</tbody></table></div>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
