"""Which phonemes of a sentence speak which of its written words; `tts.timeline` makes times of that.

espeak-ng does not tell which phonemes are which word's: it joins words ("of the" becomes one group), parts others
("42" becomes two), and says a word among others differently than alone. So each word is phonemised alone too, and the
sounds of all words in a row are laid along those of the sentence with the fewest edits, a gap only beside a gap. A
word lasts from its first sound to its last. Where too few sounds agree to tell words apart, these share their time in
proportion to their lengths; nothing makes the mapping fail.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

_WORD = re.compile(r"(?:\[\[[^\[\]\n]*\]\]|\S)+")
"""What stands between white space; a block of phonemes is no place to part a word."""
_STRESS = frozenset("ˈˌ")
"""Written before the sound that they belong to; other modifiers follow theirs."""
_GAP = ""
"""The symbol of spaces and punctuation between sounds."""
_GAP_COST = 1
_SOUND_COST = 2
_NEVER = 1_000_000


@dataclass(frozen=True)
class Span:
    """Words, and the phonemes of a run that speak them; several words where they can't be told apart."""

    words: tuple[str, ...]
    weights: tuple[int, ...]
    """How much of the time is each word's."""
    first: int
    end: int
    """The phoneme after the last; `first` for words that nobody says, as a dash."""
    after_pause: bool
    """Whether they begin the run, or punctuation stands before them."""


@dataclass(frozen=True)
class _Sound:
    """The phonemes of one sound: its stress, itself, its modifiers; or a gap."""

    symbol: str
    first: int
    end: int


@dataclass
class _Unit:
    """Words that are spoken as one expression, and which of a sentence's sounds are theirs."""

    words: tuple[str, ...]
    weights: tuple[int, ...]
    expected: tuple[str, ...]
    """The `symbols` that are spoken for them when nothing else is."""
    heard: list[int] = field(default_factory=list)
    agreeing: int = 0
    """How many sounds are heard as expected."""

    @property
    def lost(self) -> bool:
        """Whether sounds are expected and none is heard."""
        return bool(self.expected) and not self.heard

    @property
    def doubtful(self) -> bool:
        """Whether less than half of the sounds is heard as expected."""
        return 2 * self.agreeing < _length(self.expected)


def written_words(text: str) -> list[str]:
    """The words of a text as clients are told them: split at white space, punctuation left where it stands."""
    return _WORD.findall(text)


def symbols(phonemes: Iterable[str]) -> tuple[str, ...]:
    """What phonemes are compared by: sounds without stress and length, and a gap wherever some do not adjoin."""
    return tuple(sound.symbol for sound in _sounds(phonemes))


def place(
    pieces: Iterable[tuple[str, str]], runs: Sequence[Sequence[str]], alone: Callable[[str], tuple[str, ...]]
) -> list[list[Span]]:
    """Which phonemes of each run speak which words: every word of the text once, in order.

    A piece is what was written and what is spoken for it; `alone` gives the `symbols` of a text spoken by itself.
    """
    units = [_unit(found, spoken, alone) for written, spoken in pieces if (found := written_words(written))]
    sounds: list[tuple[int, _Sound]] = []
    for run, phonemes in enumerate(runs):
        sounds += [(run, sound) for sound in _sounds(phonemes)]
        sounds.append((run, _Sound(_GAP, len(phonemes), len(phonemes))))
    _listen(units, [sound.symbol for _, sound in sounds])
    placed: list[list[Span]] = [[] for _ in runs]
    run, end = 0, 0
    for group in _told_apart(units, [each for each, _ in sounds]) if runs else ():
        heard = [sounds[index] for unit in group for index in unit.heard]
        before = first = end
        if heard:
            if heard[0][0] != run:
                run, before = heard[0][0], 0
            own = [sound for each, sound in heard if each == run]
            first, end = own[0].first, own[-1].end
        words = tuple(word for unit in group for word in unit.words)
        weights = tuple(weight for unit in group for weight in unit.weights)
        after_pause = before == 0 or any(not phoneme.isspace() for phoneme in runs[run][before:first])
        placed[run].append(Span(words, weights, first, end, after_pause))
    return placed


def _unit(words: list[str], spoken: str, alone: Callable[[str], tuple[str, ...]]) -> _Unit:
    expected = alone(spoken)
    weights = [_length(expected)] if len(words) == 1 else [_length(alone(word)) for word in words]
    return _Unit(tuple(words), tuple(weights), expected)


def _length(expected: Sequence[str]) -> int:
    return sum(symbol != _GAP for symbol in expected)


def _sounds(phonemes: Iterable[str]) -> Iterator[_Sound]:
    """The sounds of phonemes, with a gap between two that others than stress and modifiers part."""
    sound: _Sound | None = None
    stressed: int | None = None
    parted = False
    for at, phoneme in enumerate(phonemes):
        if phoneme in _STRESS:
            stressed = at if stressed is None else stressed
        elif unicodedata.category(phoneme[:1] or " ") in ("Lm", "Mn"):
            if sound is not None and sound.end == at:
                sound = _Sound(sound.symbol, sound.first, at + 1)
        elif phoneme.isalnum():
            if sound is not None:
                yield sound
                if parted:
                    yield _Sound(_GAP, sound.end, at)
            sound = _Sound(phoneme, at if stressed is None else stressed, at + 1)
            stressed, parted = None, False
        else:
            stressed, parted = None, True
    if sound is not None:
        yield sound


def _listen(units: Sequence[_Unit], heard: Sequence[str]) -> None:
    """Give each sound to the unit that it most likely speaks."""
    expected = [(symbol, unit) for unit in units for symbol in (*unit.expected, _GAP)]
    if not expected:
        return
    pairs = dict(_aligned([symbol for symbol, _ in expected], heard))
    owner = units[0]
    for gap, group in itertools.groupby(range(len(heard)), lambda at: heard[at] == _GAP):
        if gap:
            continue
        within = list(group)
        # A sound that no word expects belongs to the word before it, where the two adjoin, else to the one after.
        owner = next((expected[pairs[at]][1] for at in within if at in pairs), owner)
        for at in within:
            if at in pairs:
                symbol, owner = expected[pairs[at]]
                owner.agreeing += symbol == heard[at]
            owner.heard.append(at)


def _told_apart(units: Iterable[_Unit], runs: Sequence[int]) -> Iterator[list[_Unit]]:
    """The units in groups whose words share their time; `runs` says of each sound in which run it is."""
    group: list[_Unit] = []
    for unit in units:
        if group and not _shares(group, unit, runs):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _shares(group: list[_Unit], unit: _Unit, runs: Sequence[int]) -> bool:
    """Whether a unit has no time of its own, or the group has none, or it is unclear where one ends."""
    if unit.lost or (any(each.lost for each in group) and not any(each.heard for each in group)):
        return True
    before = group[-1]
    unclear = before.doubtful and unit.doubtful and before.heard
    return bool(unclear) and runs[before.heard[0]] == runs[unit.heard[0]]


def _aligned(expected: Sequence[str], heard: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Which symbol heard stands for which expected, of the fewest edits; the last pair first."""
    codes = {symbol: code for code, symbol in enumerate(dict.fromkeys([_GAP, *expected, *heard]))}
    rows = [codes[symbol] for symbol in expected]
    columns = np.array([codes[symbol] for symbol in heard], np.int32)
    gaps = columns == codes[_GAP]
    # What it costs to put in all symbols up to each column. Then a row's cheapest way along it is a running minimum.
    put_in = np.concatenate([[0], np.cumsum(np.where(gaps, _GAP_COST, _SOUND_COST))])
    costs = np.empty((len(rows) + 1, len(columns) + 1), np.int32)
    costs[0] = put_in
    replaced = {
        code: np.where(columns == code, 0, np.where(gaps | (code == codes[_GAP]), _NEVER, _SOUND_COST))
        for code in set(rows)
    }
    for row, code in enumerate(rows):
        best = costs[row] + (_GAP_COST if code == codes[_GAP] else _SOUND_COST)
        np.minimum(best[1:], costs[row, :-1] + replaced[code], out=best[1:])
        costs[row + 1] = np.minimum.accumulate(best - put_in) + put_in
    row, column = len(rows), len(columns)
    while row and column:
        here = costs[row, column]
        same = rows[row - 1] == columns[column - 1]
        either_gap = _GAP in (expected[row - 1], heard[column - 1])
        if (same or not either_gap) and here == costs[row - 1, column - 1] + (0 if same else _SOUND_COST):
            row, column = row - 1, column - 1
            yield column, row
        elif here == costs[row, column - 1] + put_in[column] - put_in[column - 1]:
            column -= 1
        else:
            row -= 1
