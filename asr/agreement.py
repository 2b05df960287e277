"""Which words of a growing utterance will not change any more: agreement in time and within the beam.

LocalAgreement-2 (Liu et al. 2020, as whisper_streaming applies it to Whisper) promises what two hypotheses in a
row have in common from the start. That alone promises words that the recogniser hears wrong in the same way twice
and that the final's wider search gets right. So here the other readings that the search ended with must agree
too, and the two hypotheses lie at least a second of audio apart (docs/decisions/0003-promises-are-kept-by-splicing.md).

A promise once made is kept: where a later hypothesis reads otherwise, the promised words stay, and what follows
them is taken from the hypothesis (`keep_promise`). Decoding again with the promised words forced would be dearer,
and Whisper then tends to say the whole utterance once more after them.

Words are what stands between spaces: in a language written without them nothing is promised.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

HOLD_BACK_WORDS = 1
"""Agreed words at the end of the agreement that are not promised yet: more sound changes them most."""
AGREEMENT_S = 0.95
"""Audio that must lie between two hypotheses whose agreement counts, a second less the length of some hops."""


class StablePrefix:
    """The promised text of one utterance; it only ever grows."""

    def __init__(self) -> None:
        self.text = ""
        self._heard: deque[tuple[float, list[list[str]]]] = deque()
        """Where the audio of a hypothesis ended, seconds, and the words of its readings: the newest hypothesis, and
        those before it back to one old enough to count."""

    def update(self, hypothesis: str, end: float, alternatives: Iterable[str] = ()) -> str:
        """Take the next hypothesis, of audio up to second `end`, and the other readings of the same audio.

        Returns the hypothesis as it may be shown, with the promised words in front.
        """
        shown = keep_promise(self.text, hypothesis)
        words = shown.split()
        readings = [_plain_words(shown), *map(_plain_words, alternatives)]
        while len(self._heard) > 1 and self._heard[1][0] <= end - AGREEMENT_S:
            self._heard.popleft()
        self._heard.append((end, readings))
        if self._heard[0][0] > end - AGREEMENT_S:
            return shown
        agreed = 0
        for column in zip(*(reading for _, readings in self._heard for reading in readings), strict=False):
            if len(set(column)) > 1:
                break
            agreed += 1
        promised = _without_end_mark(" ".join(words[: max(0, agreed - HOLD_BACK_WORDS)]))
        if len(promised) > len(self.text):
            self.text = promised
        return shown


def keep_promise(promised: str, hypothesis: str) -> str:
    """The hypothesis with its beginning replaced by the promised words where they are not what it begins with.

    The place in the hypothesis where the promised words end is the one with the fewest word edits between them and
    what stands before it.
    """
    if not promised or (hypothesis.startswith(promised) and not _within_word(hypothesis, len(promised))):
        return hypothesis
    kept, words = promised.split(), hypothesis.split()
    heard = [_plain(word) for word in words]
    at = _best_place([_plain(word) for word in kept], heard)
    if at and heard[at - 1] == _plain(kept[-1]) and words[at - 1].startswith(kept[-1]):
        promised += words[at - 1][len(kept[-1]) :]  # its comma or full stop
    return " ".join([promised, *words[at:]])


def _within_word(text: str, at: int) -> bool:
    return text[at : at + 1] not in ("", *" .,;:!?…")


def _best_place(promised: list[str], heard: list[str]) -> int:
    """How many words of `heard` stand for the promised ones: the end of the cheapest alignment."""
    costs = [float(place) for place in range(len(heard) + 1)]
    for row, word in enumerate(promised, 1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(heard, 1):
            cheapest = min(costs[column] + 1, costs[column - 1] + 1, diagonal + _unlikeness(word, other))
            diagonal, costs[column] = costs[column], cheapest

    def rank(place: int) -> tuple[float, bool, int]:
        ends_alike = place > 0 and heard[place - 1] == promised[-1]
        return costs[place], not ends_alike, abs(place - len(promised))

    return min(range(len(costs)), key=rank)


def _unlikeness(one: str, other: str) -> float:
    """0 for the same word, 1 for words with less than half in common at their ends ("honour", "honor": a third)."""
    if one == other:
        return 0
    shorter, longer = sorted((one, other), key=len)
    alike = 0
    while alike < len(shorter) and one[alike] == other[alike]:
        alike += 1
    tail = 0
    while tail < len(shorter) - alike and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    return min(1.0, 2 * (1 - (alike + tail) / len(longer)))


def _plain_words(text: str) -> list[str]:
    return [_plain(word) for word in text.split()]


def _plain(word: str) -> str:
    """A word as it sounds: without its case and marks."""
    return re.sub(r"[^\w']", "", word.lower()) or word


def _without_end_mark(text: str) -> str:
    """Marks after the last word, also ones that stand by themselves, may still become others, or go."""
    return text.rstrip(" .,;:!?…-–—\"'”’)")
