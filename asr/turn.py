"""Whether the words heard before a pause read as finished: how long adaptive endpointing waits there.

The recogniser ends nearly every text that stops with a full stop. What tells more is whether all the readings that
its search ended with do, and how sure it is (docs/decisions/0008-adaptive-endpointing.md has the figures).
"""

from __future__ import annotations

import re

from asr.engine import Transcript
from asr.words import UNSPACED

FINISHED = 0.6
"""Share of the set silence that ends an utterance which reads as finished."""
UNFINISHED = 2.0
"""The same for one that reads as if more were to come."""
SURE = 0.8
"""Confidence under which a text is not taken for finished."""
WORDS = 3
"""Words under which it is not either: "Now leave." may go on, and "Yes." has its usual silence."""

_END = re.compile(r"[.!?。！？]['\"’”)\]]*$")
_TRAILS_OFF = re.compile(r"(\.\.|…)['\"’”)\]]*$")
_WORD = re.compile(r"[\w'’]+")
_LEADS_ON = re.compile(
    "a|an|the|and|or|but|nor|because|since|if|when|while|which|who|whom|whose|of|to|at|by|for|with|from|as|into|onto|"
    "than|my|your|its|our|their|i|he|she|we|they|uh|um|er"
)
"""English words that hardly ever end a sentence."""


def patience(transcript: Transcript) -> float:
    """What the set silence is to be multiplied with, for an utterance that has these words so far."""
    readings = (transcript.text, *transcript.alternatives)
    ended = sum(_ends(reading) for reading in readings)
    words = _WORD.findall(transcript.text.lower())
    if not words:
        return 1.0
    if _LEADS_ON.fullmatch(words[-1]) or 2 * ended <= len(readings):
        return UNFINISHED
    enough = len(words) >= WORDS or transcript.language in UNSPACED
    if ended == len(readings) and enough and transcript.confidence >= SURE:
        return FINISHED
    return 1.0


def _ends(text: str) -> bool:
    return bool(_END.search(text)) and not _TRAILS_OFF.search(text)
