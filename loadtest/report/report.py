"""All that is told of a run, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from loadtest.events import Failed, Run
from loadtest.report import incidents, isolation, validity
from loadtest.report.collect import Collected
from loadtest.report.curves import Curves, Level, Minute, People, curves, load_curve, minutes
from loadtest.report.measures import (
    Counts,
    DutyCycle,
    Measure,
    Share,
    Summary,
    Words,
    column,
    counts,
    duty_cycle,
    measures,
    shares,
    summary,
    words,
)
from loadtest.report.server import Figures
from loadtest.report.thresholds import Thresholds


class Verdict(msgspec.Struct, frozen=True):
    """One threshold and what was found."""

    name: str
    """A field of `Thresholds`."""
    title: str
    limit: float
    found: float | None
    """Infinite: never; None: there was nothing to judge, and it does not hold."""
    holds: bool
    unit: str
    """`s`, `%` (of a share), `×` or empty for a number."""
    least: bool
    """Whether the limit is the least that may be, not the most."""
    note: str
    """Of how much this is told, or why it can't be."""


class Report(msgspec.Struct, frozen=True):
    """Everything; JSON has it as it is, infinite as null."""

    holds: bool
    """Every threshold, and the run is valid."""
    invalid: list[str]
    """Why nothing can be concluded from it; empty where something can."""
    verdicts: list[Verdict]
    started: float | None
    """Seconds since the epoch."""
    seconds: float
    users_most: int
    duty_cycle: DutyCycle | None
    counts: Counts
    measures: list[Measure]
    words: Words
    words_by_user: dict[str, Words]
    shares: list[Share]
    isolation: isolation.Isolation
    incidents: list[incidents.Incident]
    server: list[Figures]
    """What replicas, nginx and the machine told of themselves."""
    generators: list[validity.Lagged]
    failures: list[Failed]
    """The first of them."""
    minutes: list[Minute]
    load_curve: list[Level]
    curves: Curves | None
    """None where there is no record."""
    thresholds: Thresholds
    run: Run | None
    """Settings and machine; None where they were not recorded."""

    def measure(self, name: str) -> Measure:
        """By its name. Raises `KeyError`."""
        for each in self.measures:
            if each.name == name:
                return each
        raise KeyError(name)


def report(run: Collected, thresholds: Thresholds) -> Report:
    """The report of a run by those limits."""
    until = run.end or 0.0
    people = People(run.population, until)
    lagged = validity.generators(run, thresholds)
    why = validity.reasons(run, people, lagged, thresholds)
    word_errors, by_user = words(run)
    found_counts, found_measures, found_shares = counts(run), measures(run), shares(run)
    found_isolation, found_incidents = isolation.isolation(run), incidents.incidents(run)
    verdicts = list(
        _verdicts(
            thresholds, found_counts, found_measures, found_shares, word_errors, found_isolation, found_incidents, run
        )
    )
    return Report(
        holds=not why and bool(verdicts) and all(each.holds for each in verdicts),
        invalid=why,
        verdicts=verdicts,
        started=run.start,
        seconds=until - (run.start or 0.0),
        users_most=people.most,
        duty_cycle=duty_cycle(run, people.person_s),
        counts=found_counts,
        measures=found_measures,
        words=word_errors,
        words_by_user=by_user,
        shares=found_shares,
        isolation=found_isolation,
        incidents=found_incidents,
        server=run.server.figures(),
        generators=lagged,
        failures=run.failures,
        minutes=minutes(run, people) if run.start is not None else [],
        load_curve=load_curve(run, people),
        curves=curves(run, people) if run.start is not None else None,
        thresholds=thresholds,
        run=run.run,
    )


def _verdicts(
    limits: Thresholds,
    told: Counts,
    latencies: list[Measure],
    uses: list[Share],
    word_errors: Words,
    kept_apart: isolation.Isolation,
    lost: list[incidents.Incident],
    run: Collected,
) -> Iterable[Verdict]:
    """Of each limit that is judged, in the order of their importance to a listener."""
    by_name = {each.name: each.all for each in latencies}

    def verdict(name: str, title: str, unit: str, found: float | None, note: str, least: bool = False) -> list[Verdict]:
        limit = getattr(limits, name)
        if limit is None:
            return []
        if found is None:
            note = f"no data: {note}; {name}=off where there is to be none"
        holds = found is not None and (found >= limit if least else found <= limit)
        return [Verdict(name, title, limit, found, holds, unit, least, note)]

    def counted(name: str, title: str, found: int, of: int, what: str) -> list[Verdict]:
        return verdict(name, title, "", found if of else None, f"of {of} {what}" if of else f"no {what}")

    def p95(name: str, title: str, found: Summary, what: str) -> list[Verdict]:
        return verdict(name, title, "s", found.p95, f"of {found.count} {what}" if found.count else f"no {what}")

    finals, firsts = by_name["asr_final_s"], by_name["tts_first_audio_s"]
    yield from p95("asr_final_p95_s", "final after the true end of speech, p95", finals, "utterances")
    yield from p95("tts_first_audio_p95_s", "first audio of a reply, p95", firsts, "replies")
    heard, smooth = told.replies_heard, told.replies_heard - told.replies_with_gap
    yield from verdict(
        "replies_without_gap",
        "replies without a gap",
        "%",
        smooth / heard if heard else None,
        f"{smooth} of {heard}" if heard else "no reply with sound",
        least=True,
    )
    yield from counted("lost_utterances", "lost utterances", told.lost_utterances, told.utterances, "utterances")
    connections, refused = sum(told.connections.values()), sum(told.refusals.values())
    tried = connections + refused + told.failures
    yield from counted("errors", "errors", told.failures, tried, "connections, those that failed included")
    yield from counted("lost_connections", "lost connections", told.lost_connections, connections, "connections")
    yield from counted("refusals", "refusals", refused, tried, "connections, those that were refused included")
    checked = max(kept_apart.breaches, kept_apart.checked_utterances + kept_apart.checked_replies)
    yield from counted("breaches", "breaches of isolation", kept_apart.breaches, checked, "checked answers")
    yield from verdict(
        "proven",
        "people proven to have got only their own",
        "%",
        kept_apart.proven,
        f"{len(kept_apart.clean)} of {kept_apart.people}" if kept_apart.people else "no people",
        least=True,
    )
    uneven = max(uses, key=lambda each: each.deviation or 0, default=None)
    yield from verdict(
        "spread",
        "largest deviation of a replica's connections from even",
        "%",
        uneven.deviation if uneven else None,
        f"of the {len(uneven.connections)} replicas of {uneven.service}" if uneven else "no connections",
    )
    took = column([*run.connections["asr"].took, *run.connections["tts"].took])
    yield from p95("connect_p95_s", "connecting, p95", summary(took), "connections")
    yield from verdict(
        "word_error_rate",
        "word error rate",
        "%",
        word_errors.rate,
        f"{word_errors.errors} of {word_errors.words} words" if word_errors.words else "no words",
    )
    if lost:
        yield from verdict(
            "others_slower", "others' p95 in the minute of a loss, by the minute before", "×", *_slower(lost)
        )


def _slower(lost: list[incidents.Incident]) -> tuple[float | None, str]:
    """The worst of all incidents; one that can't be told makes the whole unknown."""
    worst, note = 0.0, ""
    for incident in lost:
        ratios = [(other.ratio, other) for other in incident.others if other.before.count or other.during.count]
        if not ratios:
            return None, f"nobody else was waiting for an answer around {incident.at_s:.0f} s"
        for ratio, other in ratios:
            if ratio is None:
                return None, f"{other.measure} of others has no p95 in both minutes around {incident.at_s:.0f} s"
            if ratio >= worst:
                worst, note = ratio, f"of {other.measure}, {incident.at_s:.0f} s after the start"
    return (worst if not math.isnan(worst) else None), note
