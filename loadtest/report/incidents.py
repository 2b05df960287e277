"""What a lost replica does to those on it, and whether anybody else notices."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from loadtest.events import Lost
from loadtest.report.collect import SERVICES, Collected
from loadtest.report.measures import MINUTE_S, Floats, Summary, column, summary

TOGETHER_S = 10.0
"""Connections lost no further apart are of one incident."""


class Others(msgspec.Struct, frozen=True):
    """One latency of everybody who lost no connection, in the minute before an incident and in the one after."""

    measure: str
    before: Summary
    during: Summary

    @property
    def ratio(self) -> float | None:
        """p95 by the p95 before; None where there is none of either."""
        if self.before.p95 is None or self.during.p95 is None:
            return None
        if np.isinf(self.before.p95) or not self.before.p95:
            return None
        return self.during.p95 / self.before.p95


class Incident(msgspec.Struct, frozen=True):
    """Connections that were lost at about the same time."""

    at_s: float
    """Since the start of the run."""
    instances: list[str]
    lost: int
    people: list[str]
    """Who lost one."""
    reasons: list[str]
    """Close codes and reasons, each once."""
    reconnected: int
    """Of the connections, those that came back: by the same person to the same service."""
    away_s: Summary
    """For how long, of those."""
    lost_utterances: int
    """Of these people, in these two minutes."""
    others: list[Others]


def incidents(run: Collected) -> list[Incident]:
    """In the order of time; empty where no connection was lost."""
    groups: list[list[Lost]] = []
    for each in sorted(run.lost, key=lambda each: each.at):
        if groups and each.at - groups[-1][-1].at <= TOGETHER_S:
            groups[-1].append(each)
        else:
            groups.append([each])
    return [_incident(run, group) for group in groups]


def _incident(run: Collected, group: list[Lost]) -> Incident:
    at = group[0].at
    people = {each.user for each in group}
    numbers = np.asarray([run.users[user] for user in people if user in run.users], dtype=np.int64)
    utterances, replies = run.utterances, run.replies
    of_them = np.isin(utterances.user, numbers)
    now = (column(utterances.when) >= at - MINUTE_S) & (column(utterances.when) < at + MINUTE_S)
    away = [_away(run, each) for each in group]
    returned = column([each for each in away if each is not None])

    def others(name: str, when: Floats, users: Any, values: Floats) -> Others:
        other = ~np.isin(users, numbers)
        before = other & (when >= at - MINUTE_S) & (when < at)
        during = other & (when >= at) & (when < at + MINUTE_S)
        return Others(name, summary(values[before]), summary(values[during]))

    return Incident(
        at_s=at - (run.start or 0.0),
        instances=sorted({each.instance for each in group if each.instance}),
        lost=len(group),
        people=sorted(people),
        reasons=sorted({each.what for each in group}),
        reconnected=len(returned),
        away_s=summary(returned),
        lost_utterances=int(np.sum(of_them & now & np.isinf(column(utterances.final_s)))),
        others=[
            others("asr_final_s", column(utterances.when), utterances.user, column(utterances.final_s)),
            others("tts_first_audio_s", column(replies.when), replies.user, column(replies.first_audio_s)),
        ],
    )


def _away(run: Collected, lost: Lost) -> float | None:
    """How long that person was without that service; None where they did not come back."""
    assert lost.service in SERVICES
    rows = run.connections[lost.service]
    back = (np.asarray(rows.user) == run.users.get(lost.user, -1)) & (column(rows.when) > lost.at)
    return float(column(rows.when)[back].min() - lost.at) if back.any() else None
