"""Whether everybody got their own words and audio, and nobody else's."""

from __future__ import annotations

import msgspec

from loadtest.events import Breach
from loadtest.report.collect import Collected

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
    breached = run.leaked & run.people.keys()
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
        named=run.breaches,
    )


def _by_number(user: str) -> tuple[str, int, str]:
    """`voice-2` before `voice-10`."""
    kind, _, number = user.rpartition("-")
    return kind, int(number) if number.isdecimal() else -1, user
