"""Which words of a growing utterance will not change any more: LocalAgreement-2, held back from the newest audio.

Two hypotheses agree on their longest common run of words from the start (Liu et al. 2020, as whisper_streaming
applies it to Whisper); here the older one has heard at least a second less, and those between agree too. The last
words of that run are not yet promised: they stand where the audio of the older hypothesis ended, and more sound
changes them most.

A promise once made is kept: where a later hypothesis reads otherwise, the promised words stay, and what follows
them is taken from the hypothesis (`keep_promise`). Decoding again with the promised words forced would be dearer,
and Whisper then tends to say the whole utterance once more after them.
"""

from __future__ import annotations

import re
from collections import deque

HOLD_BACK_WORDS = 2
"""Agreed words at the end of the agreement that are not promised yet."""
AGREEMENT_S = 0.95
"""Audio that must lie between two hypotheses whose agreement counts, a second less the length of some hops."""


class StablePrefix:
    """The promised text of one utterance; it only ever grows."""

    def __init__(self) -> None:
        self.text = ""
        self._heard: deque[tuple[float, list[str]]] = deque()
        """Second at which each hypothesis' audio ended, and its words: the newest, back to one old enough to count."""

    def update(self, hypothesis: str, end: float) -> str:
        """Take the next hypothesis, of audio up to second `end`.

        Returns it as it may be shown, with the promised words in front.
        """
        words = keep_promise(self.text, hypothesis).split()
        while len(self._heard) > 1 and self._heard[1][0] <= end - AGREEMENT_S:
            self._heard.popleft()
        self._heard.append((end, words))
        if self._heard[0][0] > end - AGREEMENT_S:
            return " ".join(words)
        agreed = 0
        for column in zip(*(each for _, each in self._heard), strict=False):
            if len(set(column)) > 1:
                break
            agreed += 1
        promised = _without_end_mark(" ".join(words[: max(0, agreed - HOLD_BACK_WORDS)]))
        if len(promised) > len(self.text):
            self.text = promised
        return " ".join(words)


def keep_promise(promised: str, hypothesis: str) -> str:
    """The hypothesis with its beginning replaced by the promised words where they are not what it begins with.

    The place in the hypothesis where the promised words end is the one with the fewest word edits between them and
    what stands before it.
    """
    words = hypothesis.split()
    if hypothesis.startswith(promised) and hypothesis[len(promised) :][:1] in ("", *" .,;:!?…"):
        return hypothesis
    kept = promised.split()
    heard = [_plain(word) for word in words]
    at = _best_place([_plain(word) for word in kept], heard)
    if at and heard[at - 1] == _plain(kept[-1]) and words[at - 1].startswith(kept[-1]):
        promised += words[at - 1][len(kept[-1]) :]  # its comma or full stop
    return " ".join([promised, *words[at:]])


def _best_place(promised: list[str], heard: list[str]) -> int:
    """How many words of `heard` stand for the promised ones: the end of the cheapest alignment."""
    costs = list(range(len(heard) + 1))
    for row, word in enumerate(promised, 1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(heard, 1):
            cheapest = min(costs[column] + 1, costs[column - 1] + 1, diagonal + (word != other))
            diagonal, costs[column] = costs[column], cheapest
    # Of equally good places the one nearest to as many words as were promised.
    return min(range(len(costs)), key=lambda place: (costs[place], abs(place - len(promised))))


def _plain(word: str) -> str:
    return re.sub(r"[^\w']", "", word.lower()) or word


def _without_end_mark(text: str) -> str:
    """A mark after the last word may still become another one, or go."""
    return text.rstrip(".,;:!?…-–—\"'”’)")
