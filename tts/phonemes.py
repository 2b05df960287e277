"""Runs of phonemes that are short enough for one pass of a voice's encoder."""

from __future__ import annotations

MOST_PHONEMES = 300
"""Of one run, about 20 s of speech. The encoder's attention grows with the square of its length: 2,000 characters
without a full stop would take over 1 GB and many seconds in a single call, which nothing can interrupt."""
CLAUSE_ENDS = frozenset(",;:")


def speakable(phonemes: list[str]) -> bool:
    """Whether there is a sound among them, beside punctuation and spaces."""
    return any(each.isalnum() for phoneme in phonemes for each in phoneme)


def runs(phonemes: list[str]) -> list[list[str]]:
    """The phonemes in runs of at most `MOST_PHONEMES`, parted at clauses where possible, else between words."""
    parted: list[list[str]] = []
    while len(phonemes) > MOST_PHONEMES:
        at = _best_end(phonemes)
        parted.append(phonemes[:at])
        phonemes = phonemes[at:]
    parted.append(phonemes)
    return [run for run in parted if speakable(run)]


def _best_end(phonemes: list[str]) -> int:
    candidates = range(MOST_PHONEMES, MOST_PHONEMES // 2, -1)
    for at in candidates:
        if phonemes[at - 1] == " " and phonemes[at - 2] in CLAUSE_ENDS:
            return at
    return next((at for at in candidates if phonemes[at - 1] == " "), MOST_PHONEMES)
