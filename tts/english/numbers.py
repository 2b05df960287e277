"""Numbers in English words."""

from __future__ import annotations

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SMALL = (
    *_DIGITS, "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_THOUSANDS = ("", " thousand", " million", " billion", " trillion", " quadrillion")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_PLURALS = {
    "foot": "feet",
    "half": "halves",
    "penny": "pence",
    "paisa": "paise",
    **{same: same for same in ("hertz", "kilohertz", "megahertz", "gigahertz", "terahertz", "yen", "won")},
}
LONGEST = 15
"""Digits of a number that is named; one with more is read digit by digit."""


def cardinal(number: int) -> str:
    """12 is `twelve`; below 10 to the 18th, not negative."""
    if number < 1000:
        return _below_thousand(number)
    groups: list[str] = []
    for name in _THOUSANDS:
        number, group = divmod(number, 1000)
        if group:
            groups.insert(0, _below_thousand(group) + name)
    return " ".join(groups)


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    words = _SMALL[rest] if rest < 20 else _TENS[tens] + (f"-{_SMALL[ones]}" if ones else "")
    if not hundreds:
        return words
    return f"{_SMALL[hundreds]} hundred" + (f" {words}" if rest else "")


def ordinal(number: int) -> str:
    """12 is `twelfth`."""
    words = cardinal(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    if last.endswith("y"):
        return f"{words[:-1]}ieth"
    return words[:cut] + _ORDINALS.get(last, f"{last}th")


def year(number: int) -> str:
    """1999 is `nineteen ninety-nine`."""
    century, rest = divmod(number, 100)
    if not 1000 <= number <= 9999 or number % 1000 < 10:
        return cardinal(number)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(noun: str) -> str:
    """More than one of it: `feet`, `degrees Celsius`, `kilometers per hour`, `nineties`."""
    head, tail = noun, ""
    for mark in (" per ", " Celsius", " Fahrenheit"):
        head, found, rest = noun.partition(mark)
        if found:
            tail = found + rest
            break
    before, _, last = head.rpartition(" ")
    many = f"{last[:-1]}ies" if last.endswith("y") else f"{last}s"
    return f"{before} {_PLURALS.get(last, many)}{tail}".lstrip()


def digits(written: str) -> str:
    """Each digit by its name; other characters are left out."""
    return " ".join(_DIGITS[int(each)] for each in written if each in "0123456789")


def number(written: str) -> str:
    """`1,234.50` is `one thousand two hundred thirty-four point five zero`; `007` is read digit by digit."""
    whole, _, decimals = written.replace(",", "").partition(".")
    named = len(whole) <= LONGEST and (len(whole) < 2 or whole[0] != "0")
    words = cardinal(int(whole or "0")) if named else digits(whole)
    return f"{words} point {digits(decimals)}" if decimals else words
