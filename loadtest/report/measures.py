"""What is measured: latencies and their percentiles, counts, shares of replicas, word errors, the duty cycle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loadtest.events import Service
from loadtest.report.collect import SERVICES, Collected

Floats = npt.NDArray[np.float64]
MINUTE_S = 60.0


class Summary(msgspec.Struct, frozen=True):
    """Of one latency, in seconds. Infinite: that share of what was asked for never came; None: there is nothing."""

    count: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    worst: float | None = None


class Measure(msgspec.Struct, frozen=True):
    """One latency over all and by replica."""

    name: str
    """As `asr_final_s`, in JSON and CSV."""
    title: str
    service: Service
    all: Summary
    by_instance: dict[str, Summary]


class Counts(msgspec.Struct, frozen=True):
    """How often what happened."""

    people: int
    connections: dict[Service, int]
    reconnects: int
    refusals: dict[Service, int]
    """503 before the upgrade, and replies that were `overloaded`; no errors."""
    failures: int
    lost_connections: int
    cut_off: int
    """Connections that the service ended because they were read too slowly, as it promises; not lost."""
    utterances: int
    lost_utterances: int
    replies: dict[str, int]
    """By outcome."""
    replies_heard: int
    """Those with sound."""
    replies_with_gap: int
    gap_s: float


class Words(msgspec.Struct, frozen=True):
    """Word errors of utterances, those that were lost included."""

    words: int
    errors: int

    @property
    def rate(self) -> float | None:
        """Errors by reference words."""
        return self.errors / self.words if self.words else None


class DutyCycle(msgspec.Struct, frozen=True):
    """How much people spoke and were spoken to; a number of users says little without it."""

    person_s: float
    """Time that people were there, of all together."""
    speaking: float
    """Share of it that they spoke."""
    listening: float
    """Share of it for which they got audio."""
    utterance_s: float | None
    """Mean length; None: nobody spoke."""
    reply_words: float | None
    reply_s: float | None


class Share(msgspec.Struct, frozen=True):
    """How evenly the replicas of a service were used."""

    service: Service
    connections: dict[str, int]
    answers: dict[str, int]
    """Utterances or replies."""
    deviation: float | None
    """The largest deviation of a replica's connections from even, as a share of even: see `deviation`."""


def percentile(ordered: Floats, share: float) -> float:
    """The smallest value that at least that share of them do not exceed (nearest rank), of sorted values.

    No value is made up between two, so that one which never came (infinite) stays so.
    """
    return float(ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)])


def summary(values: Floats) -> Summary:
    """Of those that are known."""
    ordered = np.sort(values[~np.isnan(values)])
    if not len(ordered):
        return Summary(0)
    p50, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.95, 0.99))
    return Summary(len(ordered), p50, p95, p99, float(ordered[-1]))


def deviation(counts: Sequence[int]) -> float | None:
    """The largest deviation from even, as a share of even; 0 where whole numbers allow no better. None of nothing."""
    if not sum(counts):
        return None
    even = sum(counts) / len(counts)
    return max(0.0 if abs(count - even) < 1 else abs(count - even) / even for count in counts)


def column(values: Any) -> Floats:
    """A column as an array, without a copy where it holds float64."""
    return np.asarray(values, dtype=np.float64)


def measures(run: Collected) -> list[Measure]:
    """Every latency, in the order in which a person meets them."""
    asr, tts, utterances, replies = run.connections["asr"], run.connections["tts"], run.utterances, run.replies
    gaps = column(replies.longest_gap_s)
    gaps = np.where(gaps > 0, gaps, np.nan)
    partial, final = "first partial after the begin of speech", "final after the true end of speech"
    return [
        _measure(run, "asr_connect_s", "connecting", "asr", asr.instance, asr.took),
        _measure(run, "asr_partial_s", partial, "asr", utterances.instance, utterances.partial_s),
        _measure(run, "asr_final_s", final, "asr", utterances.instance, utterances.final_s),
        _measure(run, "tts_connect_s", "connecting", "tts", tts.instance, tts.took),
        _measure(run, "tts_first_audio_s", "first audio after asking", "tts", replies.instance, replies.first_audio_s),
        _measure(run, "tts_gap_s", "longest gap of replies that have one", "tts", replies.instance, gaps),
    ]


def _measure(run: Collected, name: str, title: str, service: Service, instances: Any, values: Any) -> Measure:
    latencies, where = column(values), np.asarray(instances, dtype=np.int64)
    by_instance = {
        instance: summary(latencies[where == number])
        for instance, number in sorted(run.instances.items())
        if instance and np.any(where == number)
    }
    return Measure(name, title, service, summary(latencies), by_instance)


def counts(run: Collected) -> Counts:
    """Everything that is counted."""
    gaps = column(run.replies.longest_gap_s)
    return Counts(
        people=len(run.people),
        connections={service: len(run.connections[service].when) for service in SERVICES},
        reconnects=sum(sum(run.connections[service].again) for service in SERVICES),
        refusals={service: len(run.refused[service]) for service in SERVICES},
        failures=len(run.failed),
        lost_connections=len(run.lost),
        cut_off=run.cut_off,
        utterances=len(run.utterances.when),
        lost_utterances=int(np.sum(np.isinf(column(run.utterances.final_s)))),
        replies=dict(sorted(run.replies.outcomes.items())),
        replies_heard=int(np.sum(~np.isnan(gaps))),
        replies_with_gap=int(np.sum(gaps > 0)),
        gap_s=float(sum(run.replies.gap_s)),
    )


def words(run: Collected) -> tuple[Words, dict[str, Words]]:
    """Word errors of all, and of each person that spoke, the worst first."""
    spoken, wrong = Counter[int](), Counter[int]()
    for user, length, errors in zip(run.utterances.user, run.utterances.words, run.utterances.errors, strict=True):
        spoken[user] += length
        wrong[user] += errors
    names = list(run.users)
    by_user = {names[user]: Words(spoken[user], wrong[user]) for user in spoken}
    ordered = sorted(by_user.items(), key=lambda each: (-(each[1].rate or 0), each[0]))
    return Words(spoken.total(), wrong.total()), dict(ordered)


def duty_cycle(run: Collected, person_s: float) -> DutyCycle | None:
    """None where no record told how many people there were."""
    if not person_s:
        return None
    speech, audio = float(sum(run.utterances.seconds)), float(sum(run.replies.seconds))
    utterances, replies = len(run.utterances.when), len(run.replies.when)
    return DutyCycle(
        person_s,
        speech / person_s,
        audio / person_s,
        speech / utterances if utterances else None,
        sum(run.replies.words) / replies if replies else None,
        audio / replies if replies else None,
    )


def shares(run: Collected) -> list[Share]:
    """Of each service that was used. A replica that told its metrics and got nobody counts with none."""
    names = list(run.instances)
    answers = {"asr": run.utterances.instance, "tts": run.replies.instance}
    found = []
    for service in SERVICES:
        connected = Counter(names[number] for number in run.connections[service].instance)
        answered = Counter(names[number] for number in answers[service] if names[number])
        instances = sorted(set(connected) | set(answered) | set(run.server.instances(service)) - {""})
        told = {instance: connected[instance] for instance in instances}
        if connected:
            answers_told = {instance: answered[instance] for instance in instances}
            found.append(Share(service, told, answers_told, deviation(list(told.values()))))
    return found
