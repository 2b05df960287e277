"""Numbers and names as a reader sees them, the same in the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from loadtest.report.incidents import Incident
from loadtest.report.measures import Summary
from loadtest.report.report import Report, Verdict

ABSENT = "–"
SERVICE = {"asr": "recognition", "tts": "synthesis"}
HEAD = ("p50", "p95", "p99", "worst")
"""Of a latency's columns."""


def seconds(value: float | None) -> str:
    """A latency: `140 ms`, `1.25 s`, `never`."""
    if value is None:
        return ABSENT
    if math.isinf(value):
        return "never"
    return f"{value * 1000:.0f} ms" if abs(value) < 0.9995 else f"{value:.2f} s"


def length(value: float) -> str:
    """A length of time: `45 s`, `5 min`, `2 h 30 min`."""
    whole = round(value)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours} h" * (hours > 0), f"{minutes} min" * (minutes > 0), f"{rest} s" * (not hours and rest > 0)]
    return " ".join(part for part in parts if part) or "0 s"


def percent(value: float | None) -> str:
    """A share: `12.5 %`."""
    return ABSENT if value is None else f"{value * 100:.3g} %"


def number(value: float | None) -> str:
    """As short as it can be told."""
    return (
        ABSENT if value is None else "never" if math.isinf(value) else f"{value:.4g}" if value < 1e4 else f"{value:.0f}"
    )


def mib(value: float | None) -> str:
    """Bytes as MiB."""
    return ABSENT if value is None else f"{value / 2**20:.0f} MiB"


def moment(value: float | None) -> str:
    """In UTC."""
    return ABSENT if value is None else datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def latency(found: Summary) -> tuple[str, ...]:
    """Its columns: how many, and `HEAD`."""
    return str(found.count), *(seconds(value) for value in (found.p50, found.p95, found.p99, found.worst))


def of_unit(value: float | None, unit: str) -> str:
    """A verdict's number."""
    if unit == "s":
        return seconds(value)
    if unit == "%":
        return percent(value)
    if unit == "×" and value is not None:
        return f"{value:.2f} ×"
    return number(value)


def limit(verdict: Verdict) -> str:
    """As `at most 1.50 s`."""
    return f"{'at least' if verdict.least else 'at most'} {of_unit(verdict.limit, verdict.unit)}"


def outcome(report: Report) -> str:
    """`invalid`, `pass` or `fail`."""
    return "invalid" if report.invalid else "pass" if report.holds else "fail"


def headline(report: Report) -> str:
    """What decided, in a sentence."""
    if report.invalid:
        return "Nothing can be concluded from this run: " + "; ".join(report.invalid) + "."
    failed = [verdict for verdict in report.verdicts if not verdict.holds]
    if not failed:
        return f"All {len(report.verdicts)} thresholds hold."
    told = "; ".join(f"{each.title}: {of_unit(each.found, each.unit)}, {limit(each)}" for each in failed)
    return f"{len(failed)} of {len(report.verdicts)} thresholds do not hold: {told}."


def title(report: Report) -> str:
    """As `60 people, 5 min`."""
    return f"{report.users_most} people, {length(report.seconds)}"


def duty_cycle(report: Report) -> str:
    """In a sentence."""
    found = report.duty_cycle
    if found is None:
        return "Duty cycle: not known, since no record tells how many people there were."
    told = (
        f"Duty cycle: a person spoke {percent(found.speaking)} of the time and was spoken to {percent(found.listening)}"
    )
    if found.utterance_s is not None:
        told += f"; utterances of {found.utterance_s:.1f} s"
    if found.reply_words is not None and found.reply_s is not None:
        told += f"; replies of {found.reply_words:.1f} words, {found.reply_s:.1f} s of audio"
    return told + ", in the mean."


def machine_and_settings(report: Report) -> list[tuple[str, str]]:
    """By their names, as they were recorded; none where the run did not."""
    run = report.run
    return [(name, str(value)) for name, value in (*run.machine.items(), *run.settings.items())] if run else []


def counted(report: Report) -> list[tuple[str, str]]:
    """Everything that was counted, each with its name."""
    found = report.counts
    replies = ", ".join(f"{many} {what}" for what, many in found.replies.items())
    return [
        ("people", f"{found.people}, at most {report.users_most} at a time"),
        ("connections", f"{found.connections['asr']} to recognition, {found.connections['tts']} to synthesis"),
        ("of them again, after a hang-up or a loss", str(found.reconnects)),
        ("refusals (no errors)", f"{found.refusals['asr']} by recognition, {found.refusals['tts']} by synthesis"),
        ("errors", str(found.failures)),
        ("lost connections", str(found.lost_connections)),
        ("slow readers cut off (not lost)", str(found.cut_off)),
        ("utterances", f"{found.utterances}, {found.lost_utterances} lost"),
        ("replies", f"{sum(found.replies.values())}: {replies}" if replies else "0"),
        (
            "replies with a gap",
            f"{found.replies_with_gap} of {found.replies_heard} with sound, {found.gap_s:.2f} s in all",
        ),
        (
            "word error rate",
            f"{percent(report.words.rate)}, {report.words.errors} of {report.words.words} words",
        ),
    ]


def isolation(report: Report) -> str:
    """In a sentence or two."""
    found = report.isolation
    checked = f"{found.checked_utterances} utterances and {found.checked_replies} replies were checked"
    told = f"{len(found.clean)} of {found.people} people are proven to have got their own and nobody else's; {checked}."
    if found.breaches:
        told += f" Breaches: {found.breaches}; people on either side of them: {len(found.breached)}."
    return told


def breaches(report: Report) -> list[tuple[str, ...]]:
    """Who got it, on which connection, whose it was, on which connection, and what."""
    return [
        (
            each.user,
            each.connection_id or ABSENT,
            each.whose or "not known",
            each.other_connection_id or ABSENT,
            f"{SERVICE[each.service]}: {each.what}",
        )
        for each in report.isolation.named
    ]


def incident(found: Incident) -> str:
    """In three sentences."""
    where = f" on {', '.join(found.instances)}" if found.instances else ""
    told = (
        f"{length(found.at_s)} after the start: {found.lost} connections of {len(found.people)} people{where} were lost"
    )
    told += f" ({'; '.join(found.reasons)}). {found.reconnected} of {found.lost} came back"
    if found.reconnected:
        told += f", after {seconds(found.away_s.p50)} (p50), {seconds(found.away_s.worst)} at the longest"
    return f"{told}. These people lost {found.lost_utterances} utterances."


def latencies(report: Report) -> Iterable[tuple[bool, tuple[str, ...]]]:
    """Rows of a latency each, those of one replica (True) after that of all, where there are several."""
    for each in report.measures:
        yield False, (f"{SERVICE[each.service]}: {each.title}", *latency(each.all))
        if len(each.by_instance) > 1 and each.all.count:
            for instance, found in each.by_instance.items():
                yield True, (instance, *latency(found))


OTHERS = ("others' p95 (of how many)", "before", "after", "ratio")


def others(report: Report) -> Iterable[tuple[str, ...]]:
    """Rows under `OTHERS`."""
    for each in report.incidents:
        for other in each.others:
            before, during = (f"{seconds(found.p95)} ({found.count})" for found in (other.before, other.during))
            ratio = ABSENT if other.ratio is None else f"{other.ratio:.2f} ×"
            yield f"{length(each.at_s)}: {report.measure(other.measure).title}", before, during, ratio


LEVELS = ("people", "utterances", "final p50", "p95", "replies", "first audio p50", "p95")


def levels(report: Report) -> Iterable[tuple[str, ...]]:
    """Rows under `LEVELS`."""
    for each in report.load_curve:
        yield str(each.users), *latency(each.asr_final_s)[:3], *latency(each.tts_first_audio_s)[:3]


MINUTES = ("minute", *LEVELS, "with a gap", "refusals", "errors", "lost")


def minutes(report: Report) -> Iterable[tuple[str, ...]]:
    """Rows under `MINUTES`."""
    for each in report.minutes:
        answers = *latency(each.asr_final_s)[:3], *latency(each.tts_first_audio_s)[:3]
        troubles = each.replies_with_gap, each.refusals, each.failures, each.lost_connections
        yield str(each.minute), f"{each.users:.1f}", *answers, *map(str, troubles)


SERVER: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "cpu": ("CPU in cores", lambda value: ABSENT if value is None else f"{value:.2f}"),
    "memory_bytes": ("memory", mib),
    "queue": ("jobs in the queue", number),
    "queue_wait_s": ("wait in the queue", seconds),
    "real_time_factor": ("engine time for a second of audio", number),
    "gpu": ("GPU", percent),
    "vram_bytes": ("GPU memory", mib),
}
"""What a table tells of a replica, and how."""
SERVER_HEAD = ("service", "replica", "", "mean", "most")


def server(report: Report) -> Iterable[tuple[str, ...]]:
    """Rows under `SERVER_HEAD`: what each replica told, then the machine of the load generator."""
    for each in report.server:
        for name, (what, shown) in SERVER.items():
            if each.service in SERVICE and name in each.mean:
                yield SERVICE[each.service], each.instance, what, shown(each.mean[name]), shown(each.most[name])
    for each in report.server:
        for name, what, shown in (("machine_cpu", "CPU, all cores", percent), ("machine_memory_bytes", "memory", mib)):
            if name in each.mean:
                yield "this machine", "", what, shown(each.mean[name]), shown(each.most[name])


GENERATORS = ("worker", "time", "lagged", "late, p95", "worst", "CPU in cores, mean", "most")


def generators(report: Report) -> Iterable[tuple[str, ...]]:
    """Rows under `GENERATORS`."""
    for each in report.generators:
        lateness = percent(each.share), seconds(each.late_p95), seconds(each.late_worst)
        yield each.worker, length(each.seconds), *lateness, f"{each.cpu_mean:.2f}", f"{each.cpu_most:.2f}"
