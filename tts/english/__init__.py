"""How English is read that is not written in words, as rules that are applied one after another.

The order matters: what a symbol tells (addresses, money, units) comes before plain numbers, these before lone symbols
are named, and these before what needs letters alone (abbreviations, initials). A rule leaves nothing that it or an
earlier one would take up again, since neither symbols nor digits are left.
"""

from __future__ import annotations

import re

from tts.english import amounts, dates, figures, letters
from tts.english.rule import Rule

_AMERICAN_DATES = dates.rules(month_first=True)
_OTHER_DATES = dates.rules(month_first=False)
_FIGURE = re.compile(r"[0-9²³½-¾⅐-⅞]")


def rules(language: str, text: str) -> tuple[Rule, ...]:
    """What may apply to a text in a kind of English; `en_US` puts the month first in 5/3/2024."""
    if not _FIGURE.search(text):
        return (*letters.ADDRESSES, *letters.SYMBOLS, *letters.ABBREVIATIONS)
    dated = _AMERICAN_DATES if language.lower().replace("-", "_") in ("en", "en_us") else _OTHER_DATES
    return (*letters.ADDRESSES, *dated, *amounts.RULES, *figures.RULES, *letters.SYMBOLS, *letters.ABBREVIATIONS)
