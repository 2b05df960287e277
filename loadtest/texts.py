"""What people ask to be spoken, and what they say with `speech_from=synthesis`: to each its own, by number and seed.

Every text begins with a name that no other number has. So what two people are told differs from the first sound on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from loadtest.settings import KINDS, Kind

REPLIES = Path(__file__).resolve().with_name("replies.txt")
"""One a line: 5 to 35 words, in one sentence or several, as a voice agent would say them."""
WORDS = (5, 35)
"""Of a reply, its name included."""
PARAGRAPH_WORDS = 60
"""Of a reader's paragraph, at least."""
WORDS_PER_S = 2.7
"""Spoken by a voice."""
DRAWS = 50
"""For a text that is unlike those before; with few of the wanted length there may be none."""
NAMES = Path(__file__).resolve().with_name("names.txt")
"""First names in its first line, last names in the second."""


def name_of(kind: Kind, number: int) -> str:
    """The name of a number: no two below 600 of any kind have the same, and neighbours share no part of it."""
    first, last = _names()
    number += KINDS.index(kind) * (len(first) * len(last) // len(KINDS))
    return f"{first[number % len(first)]} {last[(number + number // len(first)) % len(last)]}"


def replies(kind: Kind, number: int, seed: int, count: int, mean_words: float) -> list[str]:
    """So many replies of a person, whose lengths are around the mean."""
    choice = random.Random(f"reply {seed} {kind} {number}")
    name = name_of(kind, number)

    def reply() -> str:
        wanted = min(WORDS[1], max(WORDS[0], choice.gauss(mean_words, mean_words / 2.5)))
        return f"{name}, {_begun(choice.choice(_near(wanted - 2)))}"

    return _different(reply, count)


def paragraphs(kind: Kind, number: int, seed: int, count: int) -> list[str]:
    """So many texts of a reader: several replies each."""
    choice = random.Random(f"paragraph {seed} {kind} {number}")
    found = list[str]()
    for _ in range(count):
        parts = choice.sample(_known(), len(_known()))
        taken, words = list[str](), 0
        while words < PARAGRAPH_WORDS:
            taken.append(parts.pop())
            words += len(taken[-1].split())
        found.append(f"{name_of(kind, number)}, {_begun(' '.join(taken))}")
    return found


def sentences(kind: Kind, number: int, seed: int, count: int, mean_s: float) -> list[str]:
    """So many sentences that a person says: introducing itself, it tells what nobody else does.

    Spoken they last about `mean_s` in the mean, seconds.
    """
    choice = random.Random(f"sentence {seed} {kind} {number}")
    mean_words = mean_s * WORDS_PER_S

    def sentence() -> str:
        begun = f"This is {name_of(kind, number)} speaking."
        words = choice.gauss(mean_words, mean_words / 2.5) - len(begun.split())
        return f"{begun} {choice.choice(_near(words))}"

    return _different(sentence, count)


def _different(draw: Callable[[], str], count: int) -> list[str]:
    """So many texts, each unlike those before, where there are as many."""
    found = list[str]()
    for _ in range(count):
        text = draw()
        for _ in range(DRAWS):
            if text not in found:
                break
            text = draw()
        found.append(text)
    return found


def _begun(text: str) -> str:
    """A text that goes on behind a name."""
    return text if text.split(maxsplit=1)[0] in ("I", "I'm", "I'll", "I've") else text[0].lower() + text[1:]


def _near(words: float) -> Sequence[str]:
    """Known replies of about so many words: those nearest."""
    return sorted(_known(), key=lambda text: abs(len(text.split()) - words))[:6]


@cache
def _names() -> tuple[list[str], list[str]]:
    first, last = NAMES.read_text(encoding="utf-8").splitlines()
    return first.split(), last.split()


@cache
def _known() -> list[str]:
    return REPLIES.read_text(encoding="utf-8").splitlines()
