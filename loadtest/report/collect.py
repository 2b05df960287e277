"""The records of a run, held as columns: those of 100 people over eight hours take less than 100 MB."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtest.events import (
    Breach,
    Connected,
    Event,
    Failed,
    Heard,
    Lag,
    Lost,
    OfUser,
    Population,
    Refused,
    Replica,
    Run,
    Service,
    Spoken,
    decode,
)
from loadtest.report.server import Server

SERVICES: tuple[Service, Service] = ("asr", "tts")
NEVER = math.inf
"""The latency of what did not come: it counts as one that is waited for without end."""
UNKNOWN = math.nan
"""The latency of what was not waited for, as of a reply that its listener cancelled before its first sound."""
KEPT = 200
"""So many failures and breaches are kept in words; all are counted."""


class Names(dict[str, int]):
    """A number for each name, in the order of their first use."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


def floats() -> array[float]:
    """An empty column of float64."""
    return array("d")


def numbers() -> array[int]:
    """An empty column of integers."""
    return array("l")


@dataclass
class Utterances:
    """A row for each that a person spoke."""

    when: array[float] = field(default_factory=floats)
    """The true end of its speech, seconds since the epoch."""
    user: array[int] = field(default_factory=numbers)
    instance: array[int] = field(default_factory=numbers)
    connection: array[int] = field(default_factory=numbers)
    spoken: array[int] = field(default_factory=numbers)
    """Its words, by their number in `texts`."""
    final_s: array[float] = field(default_factory=floats)
    """`NEVER`: lost."""
    partial_s: array[float] = field(default_factory=floats)
    words: array[int] = field(default_factory=numbers)
    errors: array[int] = field(default_factory=numbers)
    seconds: array[float] = field(default_factory=floats)


@dataclass
class Replies:
    """A row for each that a person asked for."""

    when: array[float] = field(default_factory=floats)
    """The moment to ask for it, seconds since the epoch."""
    user: array[int] = field(default_factory=numbers)
    instance: array[int] = field(default_factory=numbers)
    first_audio_s: array[float] = field(default_factory=floats)
    """`NEVER`: complete without a sound. `UNKNOWN`: cancelled, cut or refused before there was one."""
    longest_gap_s: array[float] = field(default_factory=floats)
    """0: none. `UNKNOWN`: nothing was heard."""
    gap_s: array[float] = field(default_factory=floats)
    words: array[int] = field(default_factory=numbers)
    seconds: array[float] = field(default_factory=floats)
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass
class Connections:
    """A row for each that was greeted."""

    when: array[float] = field(default_factory=floats)
    user: array[int] = field(default_factory=numbers)
    connection: array[int] = field(default_factory=numbers)
    instance: array[int] = field(default_factory=numbers)
    took: array[float] = field(default_factory=floats)
    again: array[int] = field(default_factory=numbers)


@dataclass
class Generator:
    """What one load generator told of itself, a row a second or so."""

    when: array[float] = field(default_factory=floats)
    users: array[int] = field(default_factory=numbers)
    late_p95: array[float] = field(default_factory=floats)
    late_worst: array[float] = field(default_factory=floats)
    cpu: array[float] = field(default_factory=floats)


@dataclass
class Person:
    """What was checked of one person's answers."""

    uses: set[Service] = field(default_factory=set)
    """Services that took them in; empty of who was only refused."""
    checked: dict[Service, int] = field(default_factory=lambda: {"asr": 0, "tts": 0})
    """Answers that came and were compared with what they should be."""


@dataclass
class Collected:
    """Everything of a run that the report is computed from."""

    run: Run | None = None
    start: float | None = None
    """The first and the last moment that a record tells of; readings of replicas don't count."""
    end: float | None = None
    users: Names = field(default_factory=Names)
    instances: Names = field(default_factory=Names)
    ids: Names = field(default_factory=Names)
    """Of connections."""
    texts: Names = field(default_factory=Names)
    """What was spoken: few different ones, however long the run."""
    people: dict[str, Person] = field(default_factory=dict)
    connections: dict[Service, Connections] = field(default_factory=lambda: {each: Connections() for each in SERVICES})
    utterances: Utterances = field(default_factory=Utterances)
    replies: Replies = field(default_factory=Replies)
    refused: dict[Service, array[float]] = field(default_factory=lambda: {each: floats() for each in SERVICES})
    """When; connections before the upgrade, and replies that were `overloaded`."""
    failed: array[float] = field(default_factory=floats)
    failures: list[Failed] = field(default_factory=list)
    """The first `KEPT`."""
    lost: list[Lost] = field(default_factory=list)
    """Those that were not promised."""
    cut_off: int = 0
    """Slow readers' connections that ended as promised."""
    breached: int = 0
    breaches: list[Breach] = field(default_factory=list)
    """The first `KEPT`."""
    leaked: set[str] = field(default_factory=set)
    """People who got something of others', and those whose it was as far as their own load generator knew."""
    population: list[Population] = field(default_factory=list)
    generators: dict[str, Generator] = field(default_factory=dict)
    server: Server = field(default_factory=Server)
    unread: int = 0
    """Lines that are no record."""
    unread_first: str = ""
    """Where the first of them is, and why."""

    def add(self, event: Event) -> None:
        """Take one record in; they may come in any order but for readings of one replica."""
        if isinstance(event, Replica):
            self.server.add(event)
            return
        self.start = event.at if self.start is None else min(self.start, event.at)
        self.end = event.at if self.end is None else max(self.end, event.at)
        if isinstance(event, OfUser):
            person = self._person(event.user)
            if not isinstance(event, Refused | Failed):
                person.uses.add(event.service)
        match event:
            case Run():
                self.run = event
            case Connected():
                self._add_connection(event)
            case Heard():
                self._add_utterance(event)
            case Spoken():
                self._add_reply(event)
            case Refused():
                self.refused[event.service].append(event.at)
            case Failed():
                self.failed.append(event.at)
                if len(self.failures) < KEPT:
                    self.failures.append(event)
            case Lost(promised=True):
                self.cut_off += 1
            case Lost():
                self.lost.append(event)
            case Breach():
                self._add_breach(event)
            case Population():
                self.population.append(event)
            case Lag():
                self._add_lag(event)

    def _person(self, user: str) -> Person:
        return self.people.setdefault(user, Person())

    def _add_connection(self, event: Connected) -> None:
        rows = self.connections[event.service]
        rows.when.append(event.at)
        rows.user.append(self.users[event.user])
        rows.connection.append(self.ids[event.connection_id])
        rows.instance.append(self.instances[event.instance])
        rows.took.append(event.took)
        rows.again.append(event.again)

    def _add_utterance(self, event: Heard) -> None:
        rows = self.utterances
        rows.when.append(event.turn_due + event.seconds)
        rows.user.append(self.users[event.user])
        rows.connection.append(self.ids[event.connection_id])
        rows.spoken.append(self.texts[event.spoken])
        rows.instance.append(self.instances[event.instance])
        rows.final_s.append(NEVER if event.final_s is None else event.final_s)
        rows.partial_s.append(UNKNOWN if event.partial_s is None else event.partial_s)
        rows.words.append(event.words)
        rows.errors.append(event.errors)
        rows.seconds.append(event.seconds)
        self._person(event.user).checked["asr"] += event.final_s is not None

    def _add_reply(self, event: Spoken) -> None:
        rows = self.replies
        rows.when.append(event.asked_due)
        rows.user.append(self.users[event.user])
        rows.instance.append(self.instances[event.instance])
        silent = NEVER if event.outcome == "complete" else UNKNOWN
        rows.first_audio_s.append(silent if event.first_audio_s is None else event.first_audio_s)
        rows.longest_gap_s.append(UNKNOWN if event.first_audio_s is None else event.longest_gap_s if event.gaps else 0)
        rows.gap_s.append(event.gap_s)
        rows.words.append(event.words)
        rows.seconds.append(event.seconds)
        rows.outcomes[event.outcome] += 1
        self._person(event.user).checked["tts"] += event.proof != "unchecked"
        if event.outcome == "overloaded":
            self.refused["tts"].append(event.at)

    def _add_breach(self, event: Breach) -> None:
        self.breached += 1
        self.leaked |= {event.user, event.whose}
        if len(self.breaches) < KEPT:
            self.breaches.append(event)

    def _add_lag(self, event: Lag) -> None:
        rows = self.generators.setdefault(event.worker, Generator())
        rows.when.append(event.at)
        rows.users.append(event.users)
        rows.late_p95.append(event.late_p95)
        rows.late_worst.append(event.late_worst)
        rows.cpu.append(event.cpu)


def collect(lines: Iterable[bytes | str]) -> Collected:
    """The records of those lines. One that can't be read is counted, and makes the run invalid."""
    collected = Collected()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            collected.add(decode(line))
        except msgspec.DecodeError as error:
            collected.unread += 1
            collected.unread_first = collected.unread_first or f"line {number}: {error}"
    return collected


def read(path: Path) -> Collected:
    """The records of a file, line by line. Raises `OSError`."""
    with path.open("rb") as lines:
        return collect(lines)
