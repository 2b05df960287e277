"""What a rule of reading is, and the patterns of numbers that rules share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tts.english.numbers import number

NUMBER = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
START = r"(?<![\w.])(?<![0-9][-–—/:,])"
"""No number has begun before."""
END = r"(?!\w|[.,:/][0-9])"
"""The number does not go on, nor is it part of a word."""
SIGN = r"(?P<sign>(?<![\w)])[-−+±~≈]\s?)?"
AMOUNT = rf"{SIGN}{START}(?P<low>{NUMBER})(?:\s?[-–—]\s?(?P<high>{NUMBER}))?"
"""A number with a sign, or a range of two; read by `amount`."""

_SIGNS = {"-": "minus ", "−": "minus ", "+": "plus ", "±": "plus or minus ", "~": "about ", "≈": "about "}


@dataclass(frozen=True)
class Rule:
    """A pattern, and what is said for a match of it."""

    pattern: re.Pattern[str]
    speak: Callable[[re.Match[str]], str | None]
    """None leaves the match as it is."""


def rule(pattern: str, speak: Callable[[re.Match[str]], str | None] | str) -> Rule:
    """A rule; a string is a template as `re.sub` takes it."""
    if isinstance(speak, str):
        template = speak
        return Rule(re.compile(pattern), lambda match: match.expand(template))
    return Rule(re.compile(pattern), speak)


def choice(words: dict[str, str]) -> str:
    """A pattern of any of the keys, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def sign(match: re.Match[str]) -> str:
    """The word for the sign of an `AMOUNT`, with the space after it."""
    return _SIGNS[match["sign"][0]] if match["sign"] else ""


def amount(match: re.Match[str]) -> str:
    """An `AMOUNT` in words."""
    return sign(match) + number(match["low"]) + (f" to {number(match['high'])}" if match["high"] else "")
