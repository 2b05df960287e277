"""Numbers that are neither dates nor amounts: telephones, versions, ranges, ordinals, and what is left."""

from __future__ import annotations

import re

from tts.abbreviations import NUMBERED
from tts.english.numbers import digits, number, ordinal, year
from tts.english.rule import AMOUNT, END, NUMBER, SIGN, START, Rule, amount, choice, rule, sign

_VERSIONED = r"[Vv]ersions?|[Rr]elease|Python|iOS|macOS|Android|Ubuntu|Debian|CUDA"
"""Words before a number whose parts are read as whole numbers."""


def _digit_by_digit(match: re.Match[str]) -> str | None:
    """With a pause between groups."""
    written = match.group()
    groups: list[str] = re.findall(r"[0-9]+", written)
    if len(groups) == 2 and written[0] not in "+0" and all(group.endswith("0") for group in groups):
        return None  # "500-1000" is a range
    return ("plus " if written.startswith("+") else "") + ", ".join(map(digits, groups))


def _dotted(match: re.Match[str]) -> str:
    """Versions and addresses; a number where there are three digits behind each of several full stops."""
    parts: list[str] = match["dotted"].split(".")
    before = "version " if match["v"] else f"{match['name']} " if match["name"] else ""
    if not before and len(parts[0]) <= 3 and all(len(part) == 3 for part in parts[1:]):
        return number("".join(parts))
    joint = " dot " if len(parts) == 4 else " point "
    return before + joint.join(map(number, parts))


def _range(match: re.Match[str]) -> str | None:
    low, high = match["low"], match["high"]
    if not high:
        return None
    if " - " in match.group():
        return f"{sign(match)}{number(low)} minus {number(high)}"
    return f"{number(low)} {number(high)}" if low == high else amount(match)


def _plain(match: re.Match[str]) -> str:
    low = match["low"]
    if not match["sign"] and low.isdecimal() and len(low) == 4 and "1900" <= low <= "2099":
        return year(int(low))
    return sign(match) + number(low)


def _scientific(match: re.Match[str]) -> str:
    minus = "minus " if match["minus"] == "-" else ""
    return f"{sign(match)}{number(match['low'])} times ten to the power of {minus}{number(match['power'])}"


_THIN = "\u00a0\u2009\u202f"
"""Spaces that hold thousands together; a usual one does where they end in 000."""

RULES: tuple[Rule, ...] = (
    rule(r"²", " squared"),
    rule(r"³", " cubed"),
    rule(
        rf"(?<![\w.,])[0-9]{{1,3}}(?:(?:[{_THIN}][0-9]{{3}})+|(?: [0-9]{{3}})* 000)(?![\w,]|[ {_THIN}][0-9])",
        lambda match: number(re.sub(r"\s", "", match.group())),
    ),
    rule(rf"(?i)\b({choice(NUMBERED)})\.\s?(?=[0-9])", lambda match: f"{NUMBERED[match[1].lower()]} "),
    rule(
        r"(?<![\w.,/-])(?:\+[0-9][0-9 ().-]{6,18}[0-9]|(?:1[-. ])?\([0-9]{3}\)\s?[0-9]{3}[-. ][0-9]{4}"
        r"|(?:1[-. ])?[0-9]{3}[-. ][0-9]{3}[-. ][0-9]{4}|[0-9]{3}-[0-9]{4}|[0-9]{4}(?:[ -][0-9]{4}){2,4}"
        r"|[0-9]{3}-[0-9]{2}-[0-9]{4}|0[0-9]{1,4}[ /-][0-9]{3,8}(?:[ -][0-9]{2,8}){0,3}|911|[0-9]{10,})"
        r"(?![\w%]|[-.,/][0-9])",
        _digit_by_digit,
    ),
    rule(rf"(?i)\b(call|dial|text)\s([0-9]{{3,}}){END}", lambda match: f"{match[1]} {digits(match[2])}"),
    rule(
        rf"(?:\b(?P<v>[Vv])\.?\s?|\b(?P<name>{_VERSIONED})\s)(?P<dotted>[0-9]+(?:\.[0-9]+)+)(?!\w|\.[0-9])",
        _dotted,
    ),
    rule(
        r"(?<![\w.])(?P<dotted>[0-9]+(?:\.[0-9]+){2,})(?P<v>(?!))?(?P<name>(?!))?(?!\w|\.[0-9])",
        _dotted,
    ),
    rule(rf"{START}([0-9]+):([0-9]+){END}", lambda match: f"{number(match[1])} to {number(match[2])}"),
    rule(r"(?<![\w.,-])[0-9]+(?:-[0-9]+){2,}(?![\w-])", lambda match: " ".join(map(number, match.group().split("-")))),
    rule(rf"{AMOUNT}(?![\w-]|[.,:/][0-9])", _range),
    rule(
        rf"{START}([0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]{{1,15}})(?:st|nd|rd|th)\b",
        lambda match: ordinal(int(match[1].replace(",", ""))),
    ),
    rule(rf"{SIGN}{START}(?P<low>{NUMBER})[eE](?P<minus>[-+])?(?P<power>[0-9]{{1,3}}){END}", _scientific),
    rule(r"(?<=[0-9])\s?\^\s?(?=[0-9])", " to the power of "),
    rule(r"(?<=[0-9])(?<!\b0)x(?=[0-9])", " by "),
    rule(r"(?<=[0-9])\s[x*]\s(?=[0-9])|(?<=[0-9])\*(?=[0-9])", " times "),
    rule(rf"{SIGN}{START}(?P<low>{NUMBER}){END}", _plain),
    rule(r"(?<!\w)A(?=[0-9])", "A-"),  # else it would be the article
    rule(r"[0-9]+(?:\.[0-9]+)?", lambda match: number(match.group())),
)
