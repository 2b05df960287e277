"""How a run went over time, by minutes, and by the number of people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loadtest.events import Population
from loadtest.report.collect import Collected
from loadtest.report.measures import MINUTE_S, Floats, Summary, column, summary

STEPS_S = (10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Widths of a curve's steps."""
MOST_STEPS = 360
"""A curve has no more: the narrowest width that gives so few is taken."""
LEVELS = 12
"""A load curve has no more levels of users."""
LEVEL_ANSWERS = 10
"""A level with fewer answers is left out: they tell nothing."""


class Minute(msgspec.Struct, frozen=True):
    """What happened in one minute since the start; an answer belongs to the minute in which it was waited for."""

    minute: int
    users: float
    """Mean."""
    asr_final_s: Summary
    asr_partial_s: Summary
    tts_first_audio_s: Summary
    replies_with_gap: int
    refusals: int
    failures: int
    lost_connections: int
    connections: int


class Level(msgspec.Struct, frozen=True):
    """What so many people at a time met."""

    users: int
    """Mean of those levels that are told as one."""
    asr_final_s: Summary
    tts_first_audio_s: Summary


class Curve(msgspec.Struct, frozen=True):
    """One line: seconds since the start, and values."""

    name: str
    x: list[float]
    y: list[float]


class Curves(msgspec.Struct, frozen=True):
    """Everything over time, in steps of `step_s`; of replicas, as often as they were read."""

    step_s: float
    users: Curve
    asr_final_s: list[Curve]
    """p50 and p95, as the next two."""
    asr_partial_s: list[Curve]
    tts_first_audio_s: list[Curve]
    troubles: list[Curve]
    """Refusals, failures, lost connections and replies with a gap in each step, those that there were."""
    server: dict[str, list[Curve]]
    """What is read of replicas, nginx and the machine (`loadtest.report.server`), a curve for each that has it."""
    generator_late_s: list[Curve]
    """Worst p95 of a step, a curve for each load generator, as the next."""
    generator_cpu: list[Curve]


class People:
    """How many there were at any time, from what each load generator told of its own."""

    def __init__(self, told: Sequence[Population], until: float) -> None:
        by_worker: dict[str, int] = {}
        when, users = [], []
        for each in sorted(told, key=lambda each: each.at):
            by_worker[each.worker] = each.users
            when.append(each.at)
            users.append(sum(by_worker.values()))
        self.most = max(users, default=0)
        self._when, self._users = column(when), column(users)
        lasting = np.diff(np.append(self._when, max(until, when[-1]))) if when else column([])
        self._edges = np.append(self._when, max(until, when[-1])) if when else column([])
        self._sum = np.append(0.0, np.cumsum(self._users * lasting))

    @property
    def person_s(self) -> float:
        """Time that people were there, of all together."""
        return float(self._sum[-1])

    def mean(self, edges: npt.NDArray[Any]) -> Floats:
        """Their mean number between each two moments."""
        if not len(self._when):
            return np.zeros(len(edges) - 1)
        return np.asarray(np.diff(np.interp(edges, self._edges, self._sum)) / np.diff(edges), dtype=np.float64)

    def at(self, moments: Floats) -> Floats:
        """Their number at each moment."""
        if not len(self._when):
            return np.zeros(len(moments))
        found = np.searchsorted(self._when, moments, side="right")
        return np.where(found > 0, self._users[np.maximum(found - 1, 0)], 0.0)


def grouped(keys: Any, values: Floats) -> dict[int, Floats]:
    """Values by their key, keys in order."""
    numbers = np.asarray(keys, dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    found, firsts = np.unique(numbers[order], return_index=True)
    return dict(zip(found.tolist(), np.split(values[order], firsts[1:]), strict=True)) if len(found) else {}


def step_of(seconds: float) -> float:
    """The width of the steps of a run of that length."""
    return float(next((step for step in STEPS_S if seconds / step <= MOST_STEPS), STEPS_S[-1]))


def curves(run: Collected, people: People) -> Curves:
    """Of a run with at least one record."""
    start, end = _span(run)
    step = step_of(end - start)
    edges = start + step * np.arange(max(1, int(np.ceil((end - start) / step))) + 1)

    def latency(when: Any, values: Any) -> list[Curve]:
        return _percentiles(start, step, column(when), column(values))

    gaps = column(run.replies.longest_gap_s) > 0
    troubles = {
        "refusals": column([at for each in run.refused.values() for at in each]),
        "failures": column(run.failed),
        "lost connections": column([each.at for each in run.lost]),
        "replies with a gap": column(run.replies.when)[gaps],
    }
    return Curves(
        step_s=step,
        users=Curve("people", (edges[:-1] - start).tolist(), people.mean(edges).tolist()),
        asr_final_s=latency(run.utterances.when, run.utterances.final_s),
        asr_partial_s=latency(run.utterances.when, run.utterances.partial_s),
        tts_first_audio_s=latency(run.replies.when, run.replies.first_audio_s),
        troubles=[
            Curve(name, (edges[:-1] - start).tolist(), np.histogram(when, edges)[0].astype(float).tolist())
            for name, when in troubles.items()
            if len(when)
        ],
        server=_server(run, start, step),
        generator_late_s=[
            _stepped(name, start, step, each.when, each.late_p95, np.max) for name, each in _generators(run)
        ],
        generator_cpu=[_stepped(name, start, step, each.when, each.cpu, np.mean) for name, each in _generators(run)],
    )


def minutes(run: Collected, people: People) -> list[Minute]:
    """Of a run with at least one record."""
    start, end = _span(run)
    many = max(1, int(np.ceil((end - start) / MINUTE_S)))
    users = people.mean(start + MINUTE_S * np.arange(many + 1))

    def minute_of(when: Any) -> Any:
        return np.clip((column(when) - start) // MINUTE_S, 0, many - 1)

    def latency(when: Any, values: Any) -> list[Summary]:
        found = grouped(minute_of(when), column(values))
        return [summary(found.get(minute, column([]))) for minute in range(many)]

    def often(when: Any) -> list[int]:
        return [int(each) for each in np.bincount(minute_of(when).astype(np.int64), minlength=many)]

    finals = latency(run.utterances.when, run.utterances.final_s)
    partials = latency(run.utterances.when, run.utterances.partial_s)
    firsts = latency(run.replies.when, run.replies.first_audio_s)
    gaps = often(column(run.replies.when)[column(run.replies.longest_gap_s) > 0])
    refusals = often([at for each in run.refused.values() for at in each])
    failures, lost = often(run.failed), often([each.at for each in run.lost])
    connected = often([at for each in run.connections.values() for at in each.when])
    return [
        Minute(
            each,
            float(users[each]),
            finals[each],
            partials[each],
            firsts[each],
            gaps[each],
            refusals[each],
            failures[each],
            lost[each],
            connected[each],
        )
        for each in range(many)
    ]


def load_curve(run: Collected, people: People) -> list[Level]:
    """Latency against the number of people there were when it was waited for; empty where that did not vary."""
    width = max(1, round(people.most / LEVELS))
    when = column([*run.utterances.when, *run.replies.when])
    users = people.at(when)
    levels = np.rint(users / width)
    finals = grouped(levels[: len(run.utterances.when)], column(run.utterances.final_s))
    firsts = grouped(levels[len(run.utterances.when) :], column(run.replies.first_audio_s))
    found = []
    for level, there in grouped(levels, users).items():
        final, first = (summary(each.get(level, column([]))) for each in (finals, firsts))
        if max(final.count, first.count) >= LEVEL_ANSWERS:
            found.append(Level(round(float(there.mean())), final, first))
    return found if len(found) > 1 else []


def _span(run: Collected) -> tuple[float, float]:
    if run.start is None or run.end is None:
        raise ValueError("a run without a record has no curves")
    return run.start, run.end


def _generators(run: Collected) -> Iterable[tuple[str, Any]]:
    return sorted(run.generators.items())


def _stepped(name: str, start: float, step: float, when: Any, values: Any, of: Callable[[Floats], Any]) -> Curve:
    found = grouped((column(when) - start) // step, column(values))
    return Curve(name, [key * step for key in found], [float(of(each)) for each in found.values()])


def _percentiles(start: float, step: float, when: Floats, values: Floats) -> list[Curve]:
    """Where there was nothing to wait for in a step, the curve has no point."""
    told = {key: summary(each) for key, each in grouped((when - start) // step, values).items()}
    known = {max(0.0, key * step): each for key, each in told.items() if each.count}
    return [
        Curve(name, list(known), [float(getattr(each, name) or 0) for each in known.values()])
        for name in ("p50", "p95")
    ]


def _server(run: Collected, start: float, step: float) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for (service, instance), readings in sorted(run.server.readings.items()):
        for name, values in readings.values.items():
            label = service if service == instance else f"{service} {instance}"
            curve = _stepped(label, start, step, readings.when[name], values, np.mean)
            inside = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if x >= 0]
            if inside:
                xs, ys = zip(*inside, strict=True)
                found.setdefault(name, []).append(Curve(label, list(xs), list(ys)))
    return found
