"""How a sentence as people write it is read aloud: the words for what espeak-ng reads badly.

What nobody reads aloud (markdown, emoji, unknown symbols, what is not seen) is taken away in every language. English is
put into words by the rules of `tts.english`; other languages keep their figures, which espeak-ng reads in its own way.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tts import english
from tts.english.rule import Rule, rule


@dataclass(frozen=True)
class Piece:
    """A stretch of a text as written, and what is spoken for it.

    Pieces part both texts between words: each is one written word with the space after it where possible, or several
    that are read as one expression (`$5 million` is `five million dollars`). `spoken` holds the same word, other words,
    or only space where nothing is spoken (an emoji, a bullet mark). A block of phonemes is one word.
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

_PARTS = re.compile(r".{1,64}", re.DOTALL)
_WORDS = re.compile(rf"{PHONEMES.pattern}\s*|\S+\s*|\s+")
_TOUCHING = re.compile(r"\.?[^\W_]")
_JOINERS = "\u200b\u200c\u200d"
"""Persian, Thai and the scripts of India are written with them."""
_KEPT = "°©№"
"""Symbols of a kind that is passed over otherwise."""


def normalise(written: str, language: str) -> Reading:
    """Put a text into words that the phonemizer of `language` (`en_US`, `de`, …) reads as a person would.

    Never raises, takes time linear in the text, and leaves its own result as it is.
    """
    edits: list[Piece] = []
    at = 0
    for block in PHONEMES.finditer(written):
        edits += _rewritten(written[at : block.start()], language)
        edits.append(Piece(block.group(), block.group()))
        at = block.end()
    edits += _rewritten(written[at:], language)
    return Reading(tuple(_pieces(edits)))


def _rewritten(written: str, language: str) -> list[Piece]:
    draft = _Draft(written)
    for each in _RULES:
        draft.replace(each)
    if language.lower().startswith("en"):
        for each in english.rules(language, draft.text):
            draft.replace(each, words=True)
    return draft.edits


def _unsounded(match: re.Match[str]) -> str | None:
    """Emoji, unknown symbols and controls are passed over."""
    character = match.group()
    if character in _KEPT or unicodedata.category(character) not in ("So", "Sk", "Cc", "Co", "Cn", "Cs"):
        return None
    return " "


def _unseen(match: re.Match[str]) -> str | None:
    """What is not seen is dropped, but for joiners between the letters of a script that needs them."""
    character = match.group()
    before = match.string[match.start() - 1 : match.start()]
    if character in _JOINERS and before and not before.isascii() and unicodedata.category(before)[0] in "LM":
        return None
    return "" if unicodedata.category(character) == "Cf" else None


def _compatible(match: re.Match[str]) -> str | None:
    """The plain letter or digit where one is written in a special form (full width, bold, ligature, in a circle)."""
    plain = unicodedata.normalize("NFKC", match.group())
    return plain if plain.isascii() and plain.isalnum() else None


def _ellipsis(match: re.Match[str]) -> str:
    """espeak-ng makes one word of the two around it; a pause is meant, or an end."""
    after = match.string[match.end() : match.end() + 100].lstrip()
    if not match.string[: match.start()].strip():
        return " "
    if after[:1] in ("", '"', "'", "”", "’", ")", "»"):
        return "."
    return "" if after[0] in ".,;:!?" else ", "


_RULES: tuple[Rule, ...] = (
    rule(r"[\x00-\x08\x0b-\x1f\x7f]|[^\w\s!-~]", _unsounded),
    rule(r"[\ufe0e\ufe0f\u20e3]", ""),
    rule(r"(?![²³])[^\W\x00-\x7f]", _compatible),
    rule(r"[^\w\s!-~]", _unseen),
    # Markdown and what else is for the eye: code fences, rules, tasks, links, notes, tags, marks of emphasis
    rule(r"(?m)^[ \t]*(?:```|~~~)[^\n]*$", ""),
    rule(r"(?m)^([ \t]*(?:[-*+]|[0-9]{1,3}[.)])[ \t]+)\[[ xX]\](?=[ \t])", r"\1"),
    rule(r"!?\[([^\[\]\n]*)\]\((?:[^()\s]|\([^()\s]*\))*(?:[ \t]\"[^\"\n]*\")?\)", r" \1 "),
    rule(r"\[\^[^\[\]\s]{1,20}\]", ""),
    rule(r"&(?:amp|#38);", " & "),
    rule(r"&(?:nbsp|lt|gt|quot|apos|#39);", " "),
    rule(r"\\(?=[!-/:-@\[-`{-~…])", ""),
    rule(r"[*`~]{2,}|[*`]", lambda match: None if _multiplies(match) else ""),
    rule(r"(?<![^\W_])_+|_+(?![^\W_])", ""),
    rule(
        r"(?i)</?(?:a|b|i|u|s|p|br|hr|em|strong|code|pre|su[bp]|span|div|li|[uo]l|h[1-6]|img|table|t[rdh])(?:\s[^<>\n]*)?/?>",
        " ",
    ),
    rule(r"[\[\]]", " "),
    rule(r"[.…]{2,}|…", _ellipsis),
    rule(r"(?m)^(?:[ \t]*(?:>|(?:[-+•·▪◦‣–—]|#{1,6})(?=[ \t])))+[ \t]*", " "),
    rule(r"(?m)^[ \t]*:?[|=+-](?:[ \t]*[|:=+-])+[ \t]*$", ""),
)


def _multiplies(match: re.Match[str]) -> bool:
    around = match.string[max(0, match.start() - 2) : match.end() + 2]
    return match.group() == "*" and re.search(r"[0-9)]\s?\*\s?[0-9(]", around) is not None


class _Draft:
    """A text being rewritten: what was written, and beside it what is spoken for it by now."""

    def __init__(self, written: str) -> None:
        # In short parts, so that cutting one never copies a long text.
        self.edits = [Piece(part, part) for part in _PARTS.findall(written)]
        self.text = written

    def replace(self, each: Rule, *, words: bool = False) -> None:
        """Replace each match of a rule, never empty, in what is spoken; `words` keeps it apart from others."""
        ahead, done, at = deque[Piece](), list[Piece](), 0
        for match in each.pattern.finditer(self.text):
            spoken = each.speak(match)
            if spoken is None or spoken == match.group():
                continue
            if not done:
                ahead.extend(self.edits)
            start, end = match.span()
            if words:
                spoken = _apart(spoken, self.text[start - 1 : start], self.text[end : end + 2])
            at = _move(ahead, done, at, start)
            before = after = ""
            if at > start:  # the match begins within what was replaced: both become one expression
                last = done.pop()
                kept = len(last.spoken) - (at - start)
                before, at = last.spoken[:kept], start
                ahead.appendleft(Piece(last.written, last.spoken[kept:]))
            inside: list[Piece] = []
            at = _move(ahead, inside, at, end)
            if at > end:
                after = inside[-1].spoken[end - at :]
            done.append(Piece("".join(edit.written for edit in inside), before + spoken + after))
        if done:
            self.edits = [*done, *ahead]
            self.text = "".join(edit.spoken for edit in self.edits)


def _apart(spoken: str, before: str, after: str) -> str:
    """With a space where it would touch another word, or make one with what follows (`.com`)."""
    left = " " if before.isalnum() and spoken[:1].isalnum() else ""
    right = " " if _TOUCHING.match(after) and spoken[-1:].isalnum() else ""
    return f"{left}{spoken}{right}"


def _pieces(edits: Iterable[Piece]) -> Iterator[Piece]:
    """The edits joined or parted so that each ends between two words, written and spoken."""
    written = spoken = ""
    for edit in edits:
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
