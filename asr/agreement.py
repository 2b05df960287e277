"""Which words of a growing utterance will not change any more: LocalAgreement-2, held back from the newest audio.

Two hypotheses in a row agree on their longest common run of words from the start (Liu et al. 2020, as
whisper_streaming applies it to Whisper). The last words of that run are not yet promised: they stand where the
audio of the older hypothesis ended, and more sound changes them most.
"""

from __future__ import annotations

HOLD_BACK_WORDS = 2
"""Agreed words at the end of the agreement that are not promised yet."""


class StablePrefix:
    """The promised text of one utterance; it only ever grows."""

    def __init__(self) -> None:
        self.text = ""
        self._before: list[str] = []

    def update(self, hypothesis: str) -> bool:
        """Take the next hypothesis; returns whether it keeps the promise, so that it may be shown.

        One that does not is no evidence for anything either.
        """
        if not keeps_promise(hypothesis, self.text):
            return False
        words = hypothesis.split()
        agreed = 0
        for old, new in zip(self._before, words, strict=False):
            if old != new:
                break
            agreed += 1
        self._before = words
        promised = _without_end_mark(" ".join(words[: max(0, agreed - HOLD_BACK_WORDS)]))
        if len(promised) > len(self.text):
            self.text = promised
        return True


def keeps_promise(text: str, stable_text: str) -> bool:
    """Whether `text` begins with the promised words: as characters, and not within a longer word."""
    if not text.startswith(stable_text):
        return False
    after = text[len(stable_text) : len(stable_text) + 1]
    return not stable_text or not (after.isalnum() or after in ("'", "’"))


def _without_end_mark(text: str) -> str:
    """A mark after the last word may still become another one, or go."""
    return text.rstrip(".,;:!?…-–—\"'”’)")
