"""How a sentence as people write it is read aloud: the words for what espeak-ng reads badly.

espeak-ng reads plain numbers, ordinals, decimals and most times well, so digits stay digits here. What it spells out or
reads wrongly (money, units, dates, ranges, addresses, markdown, emoji) is put into words first. Rules that need words
are English; from other languages only what nobody reads aloud is taken away.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A stretch of a text as written, and what is spoken for it.

    Pieces part both texts between words: each is one written word with the space after it where possible, or several
    that are read as one expression (`$5 million` is `5 million dollars`). `spoken` holds the same word, other words,
    or only space where nothing is spoken (an emoji, a bullet mark).
    """

    written: str
    spoken: str


@dataclass(frozen=True)
class Reading:
    """A text as it is read aloud; the pieces' `written` joined is the text given, their `spoken` joined is `text`."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """What to phonemise."""
        return "".join(piece.spoken for piece in self.pieces)


PHONEMES = re.compile(r"\[\[[^\[\]\n]*\]\]")
"""A block of phonemes, which the phonemizer takes as they are."""

_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""Control characters and halves of characters, at which espeak-ng's binding fails."""

_PARTS = re.compile(r".{1,64}", re.DOTALL)
_WORDS = re.compile(r"\S+\s*|\s+")


def normalise(written: str, language: str) -> Reading:
    """Put a text into words that the phonemizer of `language` (`en_US`, `de`, …) reads as a person would.

    Never raises, takes time linear in the text, and leaves its own result as it is.
    """
    draft = _Draft(written)
    draft.replace(_UNSPEAKABLE, lambda _: " ")
    return Reading(tuple(draft.pieces()))


class _Draft:
    """A text being rewritten: what was written, and beside it what is spoken for it by now."""

    def __init__(self, written: str) -> None:
        # In short parts, so that cutting one never copies a long text.
        self._edits = [Piece(part, part) for part in _PARTS.findall(written)]

    def replace(self, pattern: re.Pattern[str], speak: Callable[[re.Match[str]], str | None]) -> None:
        """Replace each match of the pattern, never empty, in what is spoken; None leaves it."""
        ahead, done, at = deque(self._edits), list[Piece](), 0
        for match in pattern.finditer("".join(edit.spoken for edit in self._edits)):
            spoken = speak(match)
            if spoken is None or spoken == match.group():
                continue
            start, end = match.span()
            at = _move(ahead, done, at, start)
            before = after = ""
            if at > start:  # the match begins within what was replaced: both become one expression
                last = done.pop()
                kept = len(last.spoken) - (at - start)
                before, at = last.spoken[:kept], start
                ahead.appendleft(Piece(last.written, last.spoken[kept:]))
            while not ahead[0].spoken:
                done.append(ahead.popleft())
            inside: list[Piece] = []
            at = _move(ahead, inside, at, end)
            if at > end:
                after = inside[-1].spoken[end - at :]
            done.append(Piece("".join(edit.written for edit in inside), before + spoken + after))
        self._edits = [*done, *ahead]

    def pieces(self) -> Iterator[Piece]:
        """The edits joined or parted so that each ends between two words, written and spoken."""
        written = spoken = ""
        for edit in self._edits:
            same = edit.written == edit.spoken
            for part in _WORDS.findall(edit.written) if same else [edit.written]:
                if written[-1:].isspace() and (not spoken or spoken[-1].isspace()):
                    yield Piece(written, spoken)
                    written = spoken = ""
                written += part
                spoken += part if same else edit.spoken
        if written:
            yield Piece(written, spoken)


def _move(source: deque[Piece], target: list[Piece], at: int, until: int) -> int:
    """Move edits from spoken offset `at` on; where it stopped: beyond `until` where an expression can't be cut."""
    while at < until:
        edit = source.popleft()
        if (excess := at + len(edit.spoken) - until) > 0 and edit.written == edit.spoken:
            source.appendleft(Piece(edit.written[-excess:], edit.spoken[-excess:]))
            edit = Piece(edit.written[:-excess], edit.spoken[:-excess])
        target.append(edit)
        at += len(edit.spoken)
    return at
