"""Dates, years and times of day."""

from __future__ import annotations

import re
from functools import partial

from tts.abbreviations import MONTHS
from tts.english.numbers import cardinal, digits, ordinal, plural, year
from tts.english.rule import END, START, Rule, choice, rule

_NAMES = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = rf"(?P<month>{'|'.join(_NAMES)}|(?:{choice(MONTHS)})\b\.?)"
_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[12][0-9]{3})"
_CUES = (
    r"in|since|by|until|till|from|to|during|before|after|around|circa|early|late|mid|year|spring|summer|autumn|fall|"
    r"winter|of|and|©"
)
"""Words before a year."""
_COUNTED = r"years|days|hours|minutes|seconds|people|times|miles|meters|points|words|steps|calories"
"""Words after a number that is no year."""
_HOUR_OF_HALF = r"(?P<{0}hour>1[0-2]|0?[1-9])(?::(?P<{0}minute>[0-5][0-9]))?"


def rules(*, month_first: bool) -> tuple[Rule, ...]:
    """`month_first` tells how 5/3/2024 is meant."""
    slashed = "mdy" if month_first else "dmy"
    return (
        rule(r"(?<![\w-])([0-9]{4})-([0-9]{2})-([0-9]{2})(?![\w-])", partial(_in_digits, order="ymd")),
        rule(r"(?<![\w/])([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})(?![\w/])", partial(_in_digits, order=slashed)),
        rule(r"(?<![\w.])([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?!\w|\.[0-9])", partial(_in_digits, order="dmy")),
        rule(
            rf"\b{_MONTH}\s{_DAY}(?:\s?[-–—]\s?(?P<last>[0-9]{{1,2}})(?:st|nd|rd|th)?)?{END}(?:,?\s{_YEAR}{END})?",
            _month_and_day,
        ),
        rule(rf"(?:\b[Tt]he\s)?{START}{_DAY}(?:\sof)?\s{_MONTH}(?!\w)(?:,?\s{_YEAR}{END})?", _day_and_month),
        rule(rf"\b{_MONTH},?\s{_YEAR}{END}", lambda match: f"{_month(match)} {year(int(match['year']))}"),
        rule(
            rf"(?<![\w:.])(?:{_HOUR_OF_HALF.format('from_')}\s?[-–—]\s?)?{_HOUR_OF_HALF.format('')}"
            r"\s?(?P<half>[aApP])(?:\.\s?[mM]|[mM])(?!\w)(?P<stop>\.?)",
            _half_day,
        ),
        rule(
            r"(?<![\w:.,])(?P<hour>[01]?[0-9]|2[0-4]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9]))?(?!\w|[:.][0-9])",
            _time,
        ),
        rule(
            r"(?<![\w.,-])(?P<first>1[0-9]{3}|20[0-9]{2})\s?[-–—]\s?(?P<last>1[0-9]{3}|20[0-9]{2}|[0-9]{2})(?![\w-]|[.,:/][0-9])",
            _years,
        ),
        rule(rf"(?i:\b({_CUES})|(©))\s(1[1-9][0-9]{{2}}){END}(?!\s(?:{_COUNTED})|\s?[%°])", _year_after_cue),
        rule(r"(?<![\w.])['‘’]?(?P<year>(?:1[1-9]|20)?[0-9]0)['’]?s\b", lambda match: plural(year(int(match["year"])))),
        rule(r"(?<![\w.])['‘’](?P<year>[0-9]{2})(?!\w)", _short_year),
    )


def _month(match: re.Match[str]) -> str:
    written: str = match["month"]
    return MONTHS.get(written.rstrip("."), written)


def _in_digits(match: re.Match[str], order: str) -> str | None:
    parts = dict(zip(order, match.groups(), strict=True))
    day, month, full = int(parts["d"]), int(parts["m"]), int(parts["y"])
    if month > 12 and order != "ymd":
        day, month = month, day
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return None
    if full < 100:
        full += 2000 if full < 70 else 1900
    return f"{_NAMES[month - 1]} {ordinal(day)}, {year(full)}"


def _month_and_day(match: re.Match[str]) -> str | None:
    if not 1 <= int(match["day"]) <= 31:
        return None
    last = f" to {ordinal(int(match['last']))}" if match["last"] else ""
    return f"{_month(match)} {ordinal(int(match['day']))}{last}{_and_year(match)}"


def _day_and_month(match: re.Match[str]) -> str | None:
    if not 1 <= int(match["day"]) <= 31:
        return None
    return f"the {ordinal(int(match['day']))} of {_month(match)}{_and_year(match)}"


def _and_year(match: re.Match[str]) -> str:
    return f", {year(int(match['year']))}" if match["year"] else ""


def _years(match: re.Match[str]) -> str | None:
    first, last = int(match["first"]), int(match["last"])
    if last <= (first if last > 99 else first % 100):
        return None
    return f"{year(first)} to {year(last) if last > 99 else cardinal(last)}"


def _year_after_cue(match: re.Match[str]) -> str:
    return f"{match[1] or match[2]} {year(int(match[3]))}"


def _short_year(match: re.Match[str]) -> str:
    written: str = match["year"]
    return f"oh {digits(written[1])}" if written[0] == "0" else cardinal(int(written))


def _clock(hour: str, minute: str | None) -> str:
    words = cardinal(int(hour))
    if not minute or not int(minute):
        return words
    return f"{words} {'oh ' if minute[0] == '0' else ''}{cardinal(int(minute))}"


def _half_day(match: re.Match[str]) -> str:
    """`9–5 p.m.` and the like; the last full stop is left where it ends the text."""
    begin = f"{_clock(match['from_hour'], match['from_minute'])} to " if match["from_hour"] else ""
    stop = "" if match.string[match.end() :].strip() else match["stop"]
    return f"{begin}{_clock(match['hour'], match['minute'])} {match['half'].lower()}.m{stop}"


def _time(match: re.Match[str]) -> str:
    words = _clock(match["hour"], match["minute"])
    if match["second"]:
        return f"{words} and {cardinal(int(match['second']))} seconds"
    if int(match["minute"]):
        return words
    hour = int(match["hour"])
    return "midnight" if not hour else f"{words} o'clock" if hour <= 12 else f"{words} hundred"
