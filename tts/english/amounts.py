"""Money, measures and fractions."""

from __future__ import annotations

import re

from tts.english.numbers import cardinal, number, ordinal, plural
from tts.english.rule import AMOUNT, END, NUMBER, SIGN, START, Rule, amount, choice, rule, sign

_CURRENCIES = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", None),
    "₹": ("rupee", "paisa"),
    "₩": ("won", None),
    "₽": ("ruble", None),
    "USD": ("dollar", "cent"),
    "EUR": ("euro", "cent"),
    "GBP": ("pound", "penny"),
    "CHF": ("franc", "centime"),
}
_COUNTRIES = {"US": "US", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian"}
_MAGNITUDES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "bn": "billion",
    "B": "billion", "b": "billion", "tn": "trillion", "T": "trillion",
    **{name: name for name in ("thousand", "million", "billion", "trillion")},
}  # fmt: skip
_MAGNITUDE = rf"(?:\s?(?P<{{}}>{choice(_MAGNITUDES)})(?!\w))?"

_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "μm": "micrometer",
    "nm": "nanometer", "mi": "mile", "yd": "yard", "ft": "foot", "ha": "hectare",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "µg": "microgram", "μg": "microgram", "lb": "pound",
    "lbs": "pound", "oz": "ounce",
    "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "cl": "centiliter", "dl": "deciliter",
    "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "sec": "second", "secs": "second",
    "s": "second", "ms": "millisecond", "µs": "microsecond", "μs": "microsecond", "ns": "nanosecond", "yr": "year",
    "yrs": "year",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "Wh": "watt hour", "kWh": "kilowatt hour",
    "MWh": "megawatt hour", "V": "volt", "mV": "millivolt", "kV": "kilovolt", "mA": "milliamp", "mAh": "milliamp hour",
    "Ω": "ohm", "kΩ": "kilohm", "J": "joule", "kJ": "kilojoule", "kcal": "kilocalorie", "Pa": "pascal",
    "hPa": "hectopascal", "kPa": "kilopascal", "bar": "bar", "dB": "decibel",
    "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte",
    "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte", "TiB": "tebibyte",
    "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "kbit": "kilobit", "Mbit": "megabit", "Gbit": "gigabit",
    "px": "pixel", "mph": "mile per hour", "kph": "kilometer per hour", "fps": "frame per second",
    "rpm": "revolution per minute", "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
}  # fmt: skip
_PER = {**_UNITS, "mo": "month", "d": "day", "wk": "week"}
_POWERS = {"²": "square ", "2": "square ", "³": "cubic ", "3": "cubic ", None: ""}
_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}  # fmt: skip


def _money(match: re.Match[str]) -> str:
    major, minor = _CURRENCIES[match["currency"]]
    if match["country"]:
        major = f"{_COUNTRIES[match['country']]} {major}"
    whole, _, cents = match["low"].partition(".")
    magnitude = match["magnitude_high"] or match["magnitude"]
    if magnitude:
        spoken = f"{amount(match)} {_MAGNITUDES[magnitude]} {plural(major)}"
    elif minor and len(cents) == 2 and not match["high"]:
        parts = [_counted(count, noun) for count, noun in ((whole, major), (cents, minor)) if count.strip("0,")]
        spoken = sign(match) + (" and ".join(parts) or _counted("0", major))
    else:
        spoken = _many(match, major)
    return spoken + _per(match)


def _counted(count: str, noun: str) -> str:
    value = number(count.lstrip("0") or "0")
    return f"{value} {noun if value == 'one' else plural(noun)}"


def _many(match: re.Match[str], noun: str) -> str:
    one = match["low"] == "1" and not match["high"]
    return f"{amount(match)} {noun if one else plural(noun)}"


def _per(match: re.Match[str]) -> str:
    written: str | None = match["per"]
    return f" per {_PER.get(written, written)}" if written else ""


def _measure(match: re.Match[str]) -> str | None:
    unit, gap = match["unit"], match["gap"]
    if unit == "s" and not gap:
        return None  # "the 5s", "iPhone 5s"
    noun = _POWERS[match["power"]] + _UNITS[unit]
    words = f"{amount(match)} {noun}" if gap == "-" else _many(match, noun)
    return words + _per(match) + (" squared" if match["per_power"] else "")


def _parts(top: int, bottom: int) -> str:
    if bottom in (10, 100):
        return f"{cardinal(top)} out of {cardinal(bottom)}"
    if top > bottom or not 2 <= bottom <= 32:
        return f"{cardinal(top)} over {cardinal(bottom)}"
    noun = {2: "half", 4: "quarter"}.get(bottom) or ordinal(bottom)
    return f"{cardinal(top)} {noun if top == 1 else plural(noun)}"


def _fraction(match: re.Match[str]) -> str:
    vulgar: str | None = match["vulgar"]
    top, bottom = _VULGAR[vulgar] if vulgar else (int(match["top"]), int(match["bottom"]))
    if (top, bottom) == (24, 7):
        return "twenty-four seven"
    parts = _parts(top, bottom)
    if not match["whole"]:
        return parts
    return f"{number(match['whole'])} and {'a' + parts.removeprefix('one') if top == 1 else parts}"


_PER_WHAT = r"(?:\s?/\s?(?P<per>[A-Za-z]+))?"

RULES: tuple[Rule, ...] = (
    rule(
        rf"{SIGN}(?<![\w.])(?P<country>{choice(_COUNTRIES)})?(?P<currency>[$€£¥₹₩₽]|(?:USD|EUR|GBP|CHF)(?=\s))\s?"
        rf"(?P<low>{NUMBER}){_MAGNITUDE.format('magnitude')}"
        rf"(?:\s?[-–—]\s?[$€£¥₹₩₽]?(?P<high>{NUMBER}){_MAGNITUDE.format('magnitude_high')})?{END}{_PER_WHAT}",
        _money,
    ),
    rule(
        rf"(?P<country>(?!))?{AMOUNT}{_MAGNITUDE.format('magnitude')}(?P<magnitude_high>(?!))?"
        rf"\s?(?P<currency>[$€£¥₹₩₽]|(?:USD|EUR|GBP|CHF)\b)(?!\w){_PER_WHAT}",
        _money,
    ),
    rule(rf"{AMOUNT}\s?(?:%|percent\b)", lambda match: f"{amount(match)} percent"),
    rule(
        rf"{START}(?P<low>[0-9]{{1,2}})\s?(?:['’′]|ft\b\.?)\s?(?P<high>[0-9]{{1,2}})\s?(?:[\"”″]|in\b\.?)",
        lambda match: f"{number(match['low'])} foot {number(match['high'])}",
    ),
    rule(
        rf"{AMOUNT}(?P<gap>[\s-]?)(?P<unit>{choice(_UNITS)})(?P<power>[²³]|(?<=m)[23])?"
        rf"(?:/(?P<per>{choice(_PER)})(?P<per_power>²)?)?(?!\w)",
        _measure,
    ),
    rule(
        rf"{AMOUNT}(?P<magnitude>k|M|mn|bn|tn)(?!\w)",
        lambda match: f"{amount(match)} {_MAGNITUDES[match['magnitude']]}",
    ),
    rule(
        rf"{START}(?:(?P<whole>[0-9]{{1,3}})\s)?(?P<top>[0-9]{{1,3}})[/⁄](?P<bottom>[0-9]{{1,3}})(?P<vulgar>(?!))?(?![\w/]|[.,][0-9])",
        _fraction,
    ),
    rule(
        rf"(?:{START}(?P<whole>[0-9]{{1,3}})\s?)?(?P<vulgar>[{''.join(_VULGAR)}])(?P<top>(?!))?(?P<bottom>(?!))?",
        _fraction,
    ),
)
