"""Sentences from a text that arrives in pieces of any size; the size never shows in the sentences.

Whether a sentence ends at a mark is decided by the text before it and by as little after it as the decision needs: the
next letter, or the next word where an abbreviation stands. Until that has come, nothing is decided (`_Undecided`); once
it has, no further text changes it. That makes the sentences the same however the text is cut.
"""

from __future__ import annotations

import re
from collections import deque

from tts.abbreviations import EITHER, MONTHS, NUMBERED, PLACES, TITLES, WITHIN

LONGEST = 2000
"""Characters without a sentence's end after which the text is broken at its best place."""
LONGEST_PHONEMES = 500
"""Characters of a block `[[ … ]]` whose end is waited for; what is longer is no block."""
BREAKS = ("; ", ": ", ", ", " – ", " — ", "\n", " ")
"""Where a text that does not end is broken, the best first."""
WRAPPED = 50
"""Characters from which on a line without a full stop is taken for one that goes on in the next."""


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_MARKS = re.compile(r"[.!?…]+|[。！？｡।॥۔؟።။]|\n|\[\[")
"""Where something is to be decided: ends of sentences, of lines, and the beginning of phonemes."""
_PHONEMES = re.compile(r"\[\[[^\[\]\n]*(?:\]\]|\Z)")
_INSIDE_PHONEMES = re.compile(r"[^\[\]\n]*")
_STOPS = re.compile(r"[.!?…]*")
_CLOSERS = re.compile(r"""['")\]}*_~`’”»›」』）》】〕〉\U0001F000-\U0001FAFF\u2600-\u27BF\u200D\uFE0F]*""")
"""What may stand between a full stop and the space after it."""
_IDEOGRAPHIC_CLOSERS = re.compile(r"""[。！？｡।॥۔؟…!?.'")\]}*_~`’”»›」』）》】〕〉]*""")
_IDEOGRAPH = re.compile(r"[\u3040-\u30FF\u3400-\u9FFF\uF900-\uFAFF]")
_SPACE = re.compile(r"\s*")
_LETTERS = re.compile(r"[^\W\d_]*")
_DIGITS = re.compile(r"\d*")
_LAST_WORD = re.compile(r"[^\s()[\]{}\"'“‘«*_/—–]{1,24}\Z")
_ACRONYM = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_PLAIN = re.compile(r"(?=[a-z]*[aeiouy])[A-Za-z][a-z]{3,}")
"""Surely a word, so that a sentence may end with it though the next begins with a small letter."""
_DAY = re.compile(r"\d{1,2}")
_NUMBER_OF_ITEM = re.compile(r"[\s*_>(-]*(?:\d{1,2}|[A-Za-z]|[ivx]{1,4})")
_FIRST_OF_ITEMS = re.compile(r":\s+[*_(]*[1aAiI]")
_ITEM = re.compile(r"[-*+•·▪◦‣#>|]|\d{1,3}[.)]\s|[A-Za-z][.)]\s")
_LINE_MARKS = frozenset("-*+•·▪◦‣#>|`~=–—")
"""What begins an item of a list, a heading, a quotation, a row of a table, or code."""

_BEFORE_NAMES = frozenset((*TITLES, "Fr", "Hr", "Sra", "Srta"))
_BEFORE_NUMBERS = frozenset((*NUMBERED, "abs", "c", "ed", "kap", "nr", "s"))
_WITHIN = frozenset((*WITHIN, "bzw", "vgl", "d.h", "z.b", "u.a", "evtl", "ggf", "inkl", "exkl", "zzgl"))
_EITHER = frozenset((*EITHER, *(month.lower() for month in MONTHS), "al", "usw", "mon", "tue", "wed", "thu", "fri"))
_GERMAN_MONTHS = _words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
_STARTERS = _words(
    """A About After All Also Although An And Another Any Are As Ask At Be Because Before Both But By Call Can Come
    Could Did Do Does Each Either Even Every Everyone Finally First For From Go Had Has Have He Her Here Hers
    His How However I If In Instead Is It Its Just Last Let Like Many Maybe Meanwhile Most My Neither Never Next
    No Nobody None Not Nothing Now Of Often Oh OK Okay On Once One Only Or Other Others Our Perhaps Please Press
    Say See She Should Since So Some Sometimes Soon Sorry Still Such Sure Take Tell Thank Thanks That The Their
    Them Then There Therefore These They This Those Though Thus To Today Tomorrow Tonight Try Two Under Unless
    Until Up Use Wait Was We Well Were What When Where Whether Which While Who Why Will With Without Would Yes
    Yesterday Yet You Your"""
)
"""Words that sentences begin with, and names do not."""


class _Undecided(Exception):
    """The decision needs text that has not come yet."""


class SentenceSplitter:
    """Give it text with `feed` and `finish`, take sentences with `next`; text that is not asked for waits."""

    def __init__(self) -> None:
        self._incoming: deque[str] = deque()
        self._incoming_length = 0
        self._open = ""
        """Text whose end is not known, from the first letter of its sentence on."""
        self._decided = 0
        """How far it has been looked through."""
        self._finished = False

    def feed(self, text: str) -> None:
        """Append text."""
        # In pieces, so that a very long text is not copied again and again.
        self._incoming.extend(text[start : start + LONGEST] for start in range(0, len(text), LONGEST))
        self._incoming_length += len(text)

    def finish(self) -> None:
        """No text follows: what is left is a sentence too."""
        self._finished = True

    def waiting(self) -> int:
        """Characters that were fed and not taken as sentences yet."""
        return self._incoming_length + len(self._open)

    def next(self) -> str | None:
        """The next whole sentence; None until more text comes, or for good once finished."""
        while True:
            whole = self._finished and not self._incoming
            if (end := self._find_end(whole)) is not None:
                return self._take(end)
            if len(self._open) > LONGEST:
                return self._take(_best_break(self._open))
            if not self._incoming:
                return self._take(len(self._open)) if self._open and self._finished else None
            self._take_in()

    def _take_in(self) -> None:
        """Look at more text, but never at more without an end than the longest sentence and one character."""
        piece = self._incoming.popleft()
        room = LONGEST + 1 - len(self._open)
        if len(piece) > room:
            self._incoming.appendleft(piece[room:])
        self._incoming_length -= len(piece[:room])
        self._open = (self._open + piece[:room]).lstrip()

    def _take(self, end: int) -> str:
        sentence, self._open, self._decided = self._open[:end].rstrip(), self._open[end:].lstrip(), 0
        return sentence

    def _find_end(self, whole: bool) -> int | None:
        """Where the first sentence ends, if that is known; `whole` tells that no text follows."""
        while mark := _MARKS.search(self._open, self._decided):
            try:
                end, ended = _Decision(self._open, whole).at(mark)
            except _Undecided:
                return None
            if ended:
                return end
            self._decided = end
        # All but a bracket, which may be half a mark.
        self._decided = max(self._decided, len(self._open) - 1)
        return None


class _Decision:
    """Looks at a text whose continuation may not be known."""

    def __init__(self, text: str, whole: bool) -> None:
        self._text = text
        self._whole = whole

    def at(self, mark: re.Match[str]) -> tuple[int, bool]:
        """Up to where the text is decided, and whether a sentence ends there. Raises `_Undecided`."""
        start = mark.start()
        first = mark.group()[0]
        if first == "[":
            return self._after_phonemes(start), False
        if first == "\n":
            return self._at_line_end(start)
        if first in ".!?…":
            return self._at_full_stop(start)
        return self._at_ideographic_stop(start)

    def _character(self, at: int) -> str:
        """The character there; empty beyond the end."""
        if at < len(self._text):
            return self._text[at]
        if self._whole:
            return ""
        raise _Undecided

    def _skip(self, pattern: re.Pattern[str], at: int) -> int:
        """Where a run of the pattern, which matches everywhere, ends."""
        match = pattern.match(self._text, at)
        assert match is not None
        self._character(match.end())
        return match.end()

    def _after_phonemes(self, start: int) -> int:
        """Behind a block of phonemes, which is never looked into, or behind brackets that begin none."""
        end = start + 2
        match = _INSIDE_PHONEMES.match(self._text, end)
        assert match is not None
        if match.end() - end > LONGEST_PHONEMES:
            return end
        if self._character(match.end()) == "]" and self._character(match.end() + 1) == "]":
            return match.end() + 2
        return end

    def _at_line_end(self, start: int) -> tuple[int, bool]:
        """An empty line ends a sentence; the end of a line does unless the text seems to be wrapped there."""
        space = _SPACE.match(self._text, start)
        assert space is not None
        if space.group().count("\n") > 1:
            return start, True
        at = self._skip(_SPACE, start)
        line = self._text[self._text.rfind("\n", 0, start) + 1 : start].rstrip()
        following = self._character(at)
        if following in _LINE_MARKS or self._begins_item(at):
            return start, True
        if following.islower() or line.endswith((",", ";", "،", "、", "，", ".", "!", "?", "…")):
            return at, False
        return at if (wrapped := self._is_wrapped(line)) else start, not wrapped

    def _is_wrapped(self, line: str) -> bool:
        return len(line) >= WRAPPED and not line.endswith(":") and not _ITEM.match(self._text)

    def _begins_item(self, at: int) -> bool:
        """Whether there is a number or a letter with a full stop or a bracket behind it."""
        end = self._skip(_DIGITS, at)
        if end == at and self._character(at).isalpha():
            end = at + 1
        return 0 < end - at <= 3 and self._character(end) in (".", ")") and self._character(end + 1).isspace()

    def _at_ideographic_stop(self, start: int) -> tuple[int, bool]:
        """It ends a sentence whatever follows, but for the Japanese "and so it was said" behind a quotation."""
        end = self._skip(_IDEOGRAPHIC_CLOSERS, start)
        said = self._text[end - 1] in "」』" and self._character(end) in ("と", "っ")
        return end, not said

    def _at_full_stop(self, start: int) -> tuple[int, bool]:
        """Behind `.`, `!`, `?`, `…` or several of them a space must follow, and not the rest of a sentence."""
        end = self._skip(_STOPS, start)
        closed = self._skip(_CLOSERS, end)
        following = self._character(closed)
        called = any(mark in self._text[start:end] for mark in "!?")
        if not following:
            return closed, True
        if not following.isspace():
            return closed, called and _IDEOGRAPH.match(following) is not None
        if called:
            return closed, closed == end or not self._next(closed).islower()
        if end - start > 1 or self._text[start] == "…":
            return closed, not self._next(closed).islower()
        return closed, not self._goes_on(start, closed)

    def _goes_on(self, stop: int, closed: int) -> bool:
        """Whether a full stop, with the space behind it at `closed`, is one of an abbreviation or of a number."""
        if self._numbers_an_item(stop):
            return True
        found = _LAST_WORD.search(self._text, max(0, stop - 24), stop)
        word = found.group() if found else ""
        key = word.lower()
        if (word[:1].isupper() and word.capitalize() in _BEFORE_NAMES) or key in _WITHIN:
            return True
        initial = len(word) == 1 and word.isupper()
        either = initial or key in _EITHER or word in PLACES or _ACRONYM.fullmatch(word) is not None
        if not either and self._breaks_line(closed):
            return False
        at = self._skip(_SPACE, closed)
        following = self._character(at)
        if either:
            return not self._begins_sentence(at)
        if key in _BEFORE_NUMBERS and (following.isdigit() or following.islower()):
            return True
        if following.islower():
            return _PLAIN.fullmatch(word) is None
        return _DAY.fullmatch(word) is not None and following in "JFMASOND" and self._word(at) in _GERMAN_MONTHS

    def _numbers_an_item(self, stop: int) -> bool:
        line = self._text.rfind("\n", 0, stop) + 1
        colon = self._text.rfind(":", line, stop)
        return (
            _NUMBER_OF_ITEM.fullmatch(self._text, line, stop) is not None
            or _FIRST_OF_ITEMS.fullmatch(self._text, max(colon, line), stop) is not None
        )

    def _begins_sentence(self, at: int) -> bool:
        if not self._character(at).isalpha():
            return self._character(at) in ("", '"', "“", "«")
        word = self._word(at)
        return word in _STARTERS and not (len(word) == 1 and self._character(at + 1) == ".")

    def _breaks_line(self, at: int) -> bool:
        space = _SPACE.match(self._text, at)
        return space is not None and "\n" in space.group()

    def _next(self, at: int) -> str:
        """The first character that is no space."""
        return self._character(self._skip(_SPACE, at))

    def _word(self, at: int) -> str:
        return self._text[at : self._skip(_LETTERS, at)]


def _best_break(text: str) -> int:
    """Where a text that does not end is cut: behind the last of the best breaks, never within phonemes."""
    masked = _PHONEMES.sub(lambda block: "_" * len(block.group()), text)
    for mark in BREAKS:
        if (at := masked.rfind(mark, LONGEST // 2, LONGEST)) >= 0:
            return at + len(mark)
    return LONGEST
