"""When each word of a text was spoken, from how the model's tokens lie on its encoder's states.

After openai/whisper `timing.py`: the alignment gives the state at which each token begins; a word begins with its
first token and ends where the next one begins. Silence between the two, which that leaves to one of them, is taken
away by the sound itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

import numpy as np

from asr.engine import SAMPLE_RATE, Word
from serving.audio import Samples

STATE_S = 0.02
"""Seconds between two encoder states."""
FRAME = SAMPLE_RATE // 100
"""Samples that are loud or silent together, 10 ms."""
AUDIBLE_DB = 35
"""What is so far below the loud parts of the audio, and less, is its silence."""
UNSPACED = frozenset(("zh", "yue", "ja", "th", "lo", "my", "km", "bo"))
"""Languages written without spaces: there a word is what its tokens have put down as whole characters."""


def group_tokens(pieces: Sequence[str], texts: Sequence[str], language: str) -> list[tuple[str, int, int]]:
    """The words of a text: each with its first token and the one after its last.

    `pieces` are the tokens as the vocabulary has them, where "Ġ" stands for a space; `texts` is what the first
    token, the first two, … all of them decode to.
    """
    words: list[tuple[str, int, int]] = []
    begin, written = 0, 0
    for at in range(len(pieces)):
        whole = not texts[at].endswith("\ufffd")  # a character may need several tokens
        last = at + 1 == len(pieces)
        ends = whole if language in UNSPACED else last or pieces[at + 1].startswith("Ġ")
        if not ends and not last:
            continue
        word = texts[at][written:].strip()
        if word:
            words.append((word, begin, at + 1))
        begin, written = at + 1, len(texts[at])
    return words


def timed(
    words: Sequence[tuple[str, int, int]],
    alignment: Sequence[tuple[int, int]],
    probabilities: Sequence[float],
    *,
    seconds: float,
    skip: float = 0.0,
) -> tuple[Word, ...]:
    """The words with their times.

    `alignment` is a path of pairs (token, state), one token past the text's last included. Times are counted from
    second `skip` of the states, and end by second `seconds` after it.
    """
    begins: dict[int, float] = {}
    for token, state in alignment:
        begins.setdefault(token, state * STATE_S - skip)

    def time(token: int) -> float:
        return round(min(max(0.0, begins.get(token, seconds)), seconds), 3)

    return tuple(
        Word(text, time(first), time(after), sum(probabilities[first:after]) / (after - first))
        for text, first, after in words
    )


def snug(words: Sequence[Word], samples: Samples) -> tuple[Word, ...]:
    """The words without the silence at their edges, which an alignment gives to one of its neighbours.

    `samples` are those that the words' times are counted in. A word that is silent throughout stays as it is.
    """
    count = len(samples) // FRAME
    if not count:
        return tuple(words)
    power = np.square(samples[: count * FRAME].reshape(count, FRAME)).mean(axis=1)
    sound = power > np.percentile(power, 95) * 10 ** (-AUDIBLE_DB / 10)
    result = []
    for word in words:
        first = int(word.start * SAMPLE_RATE / FRAME)
        heard = np.flatnonzero(sound[first : math.ceil(word.end * SAMPLE_RATE / FRAME)])
        if len(heard):
            begin, end = (first + heard[0]) * FRAME / SAMPLE_RATE, (first + heard[-1] + 1) * FRAME / SAMPLE_RATE
            word = replace(word, start=max(word.start, float(begin)), end=min(word.end, float(end)))
        result.append(word)
    return tuple(result)


def retimed(text: str, words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    """The times of `words`, heard in so many seconds of audio, for a text in which some of them were replaced.

    The words in the place of others share their time, by length; those in the place of none take no time.
    """
    words = words or (Word("", 0.0, seconds, 0.0),)
    told, heard = text.split(), [word.text for word in words]
    result: list[Word] = []
    for change, begin, end, first, last in SequenceMatcher(None, heard, told, autojunk=False).get_opcodes():
        if change == "equal":
            result += words[begin:end]
        elif change in ("replace", "insert"):
            result += _spread(told[first:last], words[begin:end] or [_nothing_at(words, begin)])
    return tuple(result)


def _spread(told: Sequence[str], over: Sequence[Word]) -> list[Word]:
    at, confidence = over[0].start, sum(word.confidence for word in over) / len(over)
    step = (over[-1].end - at) / sum(map(len, told))
    words = []
    for text in told:
        words.append(Word(text, round(at, 3), round(at + step * len(text), 3), confidence))
        at += step * len(text)
    return words


def _nothing_at(words: Sequence[Word], place: int) -> Word:
    """No time, between the words there."""
    time = words[place].start if place < len(words) else words[-1].end
    return Word("", time, time, words[min(place, len(words) - 1)].confidence)
