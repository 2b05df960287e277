"""Addresses, symbols, abbreviations and Roman numerals."""

from __future__ import annotations

import re
import unicodedata

from tts.abbreviations import EITHER, MONTHS, PLACES, TITLES, WITHIN
from tts.english.numbers import cardinal, ordinal
from tts.english.rule import Rule, choice, rule

_ENDINGS = r"com|org|net|edu|gov|io|ai|dev|app|info|co\.uk|uk|eu|de|fr|nl|ch|jp"
_PATH = r"[^\s<>\"'()\[\]{}|\\^`]"
_NAMED = {".": "dot", "/": "slash", "-": "dash", "_": "underscore", "+": "plus", "@": "at", ":": "colon", "~": "tilde"}
_SYMBOLS = {
    "&": "and", "@": "at", "%": "percent", "‰": "per mille", "+": "plus", "=": "equals", "×": "times",
    "÷": "divided by", "±": "plus or minus", "−": "minus", "<": "less than", ">": "greater than", "≤": "at most",
    "≥": "at least", "≠": "is not", "≈": "approximately", "∞": "infinity", "√": "square root of", "∑": "sum of",
    "°": "degrees", "§": "section", "©": "copyright", "$": "dollars", "€": "euros",
    "£": "pounds", "¥": "yen", "₹": "rupees", "¢": "cents", "/": "slash", "№": "number",
}  # fmt: skip
_SHORT = {"w/o": "without", "w/": "with", "b/c": "because", "n/a": "not applicable", "and/or": "and or"}
_SOUNDED = r"\w\s.,;:!?'\"()‘’“”«»„¿¡-"
"""What espeak-ng takes as it is: words, and marks that part or end them."""
_ROMAN = {"I": 1, "V": 5, "X": 10}
_KINGS = re.compile(
    "Henry|Louis|George|Edward|Charles|William|James|Elizabeth|Richard|Pius|Benedict|Francis|Frederick|Philip|Philippe|"
    "Napoleon|Alexander|Catherine|Gregory|Leo|Clement|Innocent|Urban|Nicholas|Peter|Ivan|Wilhelm|Ramses|Paul"
)


def _address(match: re.Match[str]) -> str:
    """`www.example.org/a?b=c` is `example dot org slash a`: nobody reads out what follows the question mark."""
    written = re.sub(r"^(?:https?://(?:www\.)?|www\.)", " ", match.group())
    address = written.rstrip(".,;:!?")
    stop = written[len(address) :]
    address = re.split(r"[?#]", address)[0].rstrip("/")
    return " ".join(_NAMED.get(part, part) for part in re.split(r"([^\w]|_)", address) if part) + stop


def _dash(match: re.Match[str]) -> str:
    """A pause; nothing where there is nothing to pause after."""
    return ", " if match.string[: match.start()].strip() else " "


def _symbol(match: re.Match[str]) -> str | None:
    """Its name, or nothing; what belongs to other scripts is left."""
    symbol = match["symbol"]
    if symbol not in _SYMBOLS and not symbol.isascii() and unicodedata.category(symbol)[0] in "MP":
        return None
    return f" {_SYMBOLS.get(symbol, '')} "


def _roman(match: re.Match[str]) -> str:
    values = [_ROMAN[letter] for letter in match["roman"]]
    total = sum(-value if value < max(values[at:]) else value for at, value in enumerate(values))
    name = match["name"]
    return f"{name} the {ordinal(total)}" if _KINGS.fullmatch(name) else f"{name} {cardinal(total)}"


def _before_more(match: re.Match[str], words: str) -> str:
    """An abbreviation's words; its full stop is left where it ends the sentence."""
    return words if re.search(r"\w", match.string[match.end() :]) else f"{words}."


ADDRESSES: tuple[Rule, ...] = (
    rule(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _address),
    rule(rf"(?<![A-Za-z])https?://{_PATH}*", _address),
    rule(rf"(?<![\w-])(?:[\w-]+\.){{1,6}}(?:{_ENDINGS})(?![A-Za-z]|\.\w)(?:/{_PATH}*)?", _address),
    rule(r"#(?=[0-9])", "number "),
    rule(r"(?<!\w)#(?=\w)", "hashtag "),
    rule(r"\b([A-G])#", r"\1 sharp"),
    rule(r"\b([A-Za-z])\+\+", r"\1 plus plus"),
)

SYMBOLS: tuple[Rule, ...] = (
    rule(r"(?i)(?<!\w)(?:(?:w/o|b/c|n/a|and/or)(?!\w)|w/(?=[\w\s]|\Z))", lambda match: _SHORT[match.group().lower()]),
    rule(r"[-=]+>|→|⇒", " to "),
    rule(r"(?<=\w)_(?=\w)", " "),
    rule(r"(?:(?<!\s)\s+)?(?:[–—]|--)(?:\s*[–—-])*\s*|(?<!\s)\s+-\s+", _dash),
    rule(r"\|+", _dash),
    rule(r"!=", " is not "),
    rule(rf"(?P<symbol>[^{_SOUNDED}]|_)(?P=symbol)*", _symbol),
    rule(r"(?<!\w)-+|-+(?!\w)", " "),
)

ABBREVIATIONS: tuple[Rule, ...] = (
    rule(r"\bPh\.\s?D\b(\.?)", lambda match: _before_more(match, "PhD") if match[1] else "PhD"),
    rule(rf"\b(?i:({choice(TITLES)}))\.(?=\s*\w)", lambda match: TITLES[match[1].capitalize()]),
    rule(rf"\b({choice(PLACES)})\.?(?=\s[A-Z])", lambda match: PLACES[match[1]]),
    rule(r"\bSt\b(\.?)", lambda match: _before_more(match, "Street") if match[1] else "Street"),
    rule(rf"(?<![\w.])(?i:({choice(WITHIN)}))\.(?!\w)", lambda match: WITHIN[match[1].lower()]),
    rule(r"\bvs\b", "versus"),
    rule(rf"(?<![\w.])(?i:({choice(EITHER)}))\.(?!\w)", lambda match: _before_more(match, EITHER[match[1].lower()])),
    rule(rf"\b({choice(MONTHS)})\.(?=\s)", lambda match: MONTHS[match[1]]),
    rule(r"(?<![\w.])((?:[A-Za-z]\.)+[A-Za-z])\.(?=\s+\w)", r"\1"),
    rule(r"(?<![\w.])([A-Z])\.(?=\s+[A-Z])", r"\1"),
    rule(r"\b(?P<name>[A-Z]\w*)\s(?P<roman>(?=[IVX]{2})(?:X{1,3}(?:IX|IV|V?I{0,3})|IX|IV|VI{0,3}|I{2,3}))\b", _roman),
)
