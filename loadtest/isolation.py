"""Whose words are these? What everybody says and is told, so that anything of somebody else's can be named.

A transcript is somebody else's where it fits what that person says, or has just said, much better than what its own
person said. Recognition errors do not: they make it unlike everything. What can't be told apart are two people who say
the same recording at the same time; so people have different ones as far as there are enough, each in an order of its
own (`loadtest.utterances`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from loadtest.events import Service

REMEMBERED = 3
"""Newest utterances of a person that its words may be taken for."""
OWN_FIT = 0.5
"""A transcript that fits its own utterance so well is not compared with anybody else's."""
OWN_PART_FIT = 0.7
"""Nor is one that fits a part of it so well: the rest may be late, and one recording be part of two utterances."""
OTHER_FIT = 0.5
"""So well a transcript must fit another's utterance to be it, and"""
BETTER_BY = 0.3
"""so much better than its own. Chance does not come near: most words must be the same, in the same order."""
FEWEST_WORDS = 3
"""Fewer are anybody's."""

Words = Sequence[str]


@dataclass
class _Person:
    said: deque[Words] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    connections: dict[Service, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Owner:
    """To whom something belongs."""

    name: str
    connection_id: str


def word_errors(spoken: Words, heard: Words) -> int:
    """Words substituted, left out and put in."""
    return int(Levenshtein.distance(spoken, heard))


def fit(spoken: Words, heard: Words) -> float:
    """1 for the same words, 0 for none in common."""
    return float(Levenshtein.normalized_similarity(spoken, heard))


def fits_part(spoken: Words, heard: Words) -> float:
    """1 where the words are somewhere in what was spoken, 0 where none of them is."""
    return fuzz.partial_ratio(spoken, heard) / 100 if len(heard) <= len(spoken) else 0.0


class Isolation:
    """Everybody of this crew. People of other crews are known by what can be said at all: the library's utterances."""

    def __init__(self) -> None:
        self._people: dict[str, _Person] = {}

    def connected(self, name: str, service: Service, connection_id: str) -> None:
        """The person's newest connection."""
        self._people.setdefault(name, _Person()).connections[service] = connection_id

    def says(self, name: str, words: Words) -> None:
        """The person begins to say that."""
        self._people.setdefault(name, _Person()).said.append(words)

    def left(self, name: str) -> None:
        """The person is gone."""
        self._people.pop(name, None)

    def owner(self, name: str, service: Service) -> Owner:
        """The person and its connection, where it is known."""
        person = self._people.get(name)
        return Owner(name, person.connections.get(service, "") if person is not None else "")

    def whose(self, name: str, spoken: Words, heard: Words, others: Iterable[Words] = ()) -> Owner | None:
        """The other to whom a person's transcript belongs; None where it is the person's own, or nobody's.

        `spoken` is what the person said there: nothing, where the words came out of silence. `others` is what may be
        said by people of other crews; its owner has no name.
        """
        if len(heard) < FEWEST_WORDS:
            return None
        me = self._people.get(name, _Person())
        mine = (spoken, *me.said)
        own = max(fit(words, heard) for words in mine)
        if own >= OWN_FIT or max(fits_part(words, heard) for words in mine) >= OWN_PART_FIT:
            return None
        needed = max(OTHER_FIT, own + BETTER_BY)
        found = max(
            ((fit(words, heard), other) for other, person in self._people.items() if other != name
             for words in person.said),
            default=(0.0, ""),
        )  # fmt: skip
        if found[0] >= needed:
            return self.owner(found[1], "asr")
        if max((fit(words, heard) for words in others), default=0.0) >= needed:
            return Owner("", "")
        return None
