"""Whether everybody got their own words and audio, and nobody else's."""

from __future__ import annotations

import msgspec
import numpy as np

from loadtest.events import Breach
from loadtest.isolation import OTHER_FIT, fit
from loadtest.report.collect import Collected
from loadtest.report.measures import column

AROUND_S = 120.0
"""Words that somebody got were spoken by whoever's they are at most so long before or after."""
PROVEN_BY = 2
"""So many checked answers of each service that a person uses prove that they got their own."""


class Isolation(msgspec.Struct, frozen=True):
    """What a run proves of it."""

    people: int
    """Whom a service took in."""
    clean: list[str]
    """Proven, and on neither side of a breach."""
    breached: list[str]
    """Who got something of others, or audio of another text than theirs, and whose something went to others."""
    not_proven: dict[str, str]
    """Everybody else, with what was checked of theirs: too little."""
    checked_utterances: int
    checked_replies: int
    breaches: int
    named: list[Breach]
    """The first of them, in the order in which they were found."""

    @property
    def proven(self) -> float | None:
        """Share of people proven clean; None of nobody."""
        return len(self.clean) / self.people if self.people else None


def isolation(run: Collected) -> Isolation:
    """Of all people whom a service took in."""
    people = {user: person for user, person in run.people.items() if person.uses}
    named = [_completed(run, each) for each in run.breaches]
    breached = (run.leaked | {each.whose for each in named}) & run.people.keys()
    clean, not_proven = [], {}
    for user in sorted(people.keys() - breached, key=_by_number):
        person = people[user]
        if all(person.checked[service] >= PROVEN_BY for service in person.uses):
            clean.append(user)
        else:
            not_proven[user] = f"{person.checked['asr']} utterances, {person.checked['tts']} replies"
    return Isolation(
        people=len(people),
        clean=clean,
        breached=sorted(breached, key=_by_number),
        not_proven=not_proven,
        checked_utterances=sum(person.checked["asr"] for person in run.people.values()),
        checked_replies=sum(person.checked["tts"] for person in run.people.values()),
        breaches=run.breached,
        named=named,
    )


def _completed(run: Collected, breach: Breach) -> Breach:
    """With its other side, where that is a person of another load generator: its own one knew nothing of them."""
    if breach.whose and not breach.other_connection_id:
        return msgspec.structs.replace(breach, other_connection_id=_connection(run, breach))
    if breach.whose or not breach.heard:
        return breach
    rows, users, texts, ids = run.utterances, list(run.users), list(run.texts), list(run.ids)
    near = np.flatnonzero(np.abs(column(rows.when) - breach.at) <= AROUND_S)
    others = [row for row in near if users[rows.user[row]] != breach.user]
    heard = breach.heard.split()
    fits = {number: fit(texts[number].split(), heard) for number in {rows.spoken[row] for row in others}}
    # Of several who said the same, the one who did so nearest to when the words came.
    found = max(others, key=lambda row: (fits[rows.spoken[row]], -abs(rows.when[row] - breach.at)), default=None)
    if found is None or fits[rows.spoken[found]] < OTHER_FIT:
        return breach
    return msgspec.structs.replace(
        breach, whose=users[rows.user[found]], other_connection_id=ids[rows.connection[found]]
    )


def _connection(run: Collected, breach: Breach) -> str:
    """The connection that the other person had then; empty where there is no record of one."""
    rows, user = run.connections[breach.service], run.users.get(breach.whose, -1)
    theirs = [row for row in np.flatnonzero(np.asarray(rows.user) == user) if rows.when[row] <= breach.at]
    return list(run.ids)[rows.connection[theirs[-1]]] if theirs else ""


def _by_number(user: str) -> tuple[str, int, str]:
    """`voice-2` before `voice-10`."""
    kind, _, number = user.rpartition("-")
    return kind, int(number) if number.isdecimal() else -1, user
