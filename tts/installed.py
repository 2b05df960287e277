"""Which voices are installed, and what each is: read from the models folder without loading any.

A voice is a folder `piper-ID` with `ID.onnx` and `ID.onnx.json` in it, as `python -m models fetch` leaves it. What a
client names is looked up among those found here, and never becomes a path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

PREFIX = "piper-"
"""In front of a voice's id, in the name of its folder."""
MEMORY_PER_FILE = 1.45
"""Of a loaded voice, by the size of its ONNX file: 88 MiB for 60 (en_US-joe-medium). What a voice needs while it speaks
is shared by all, and not in it."""
MOST_DESCRIPTION_BYTES = 1024 * 1024
"""Of a voice's JSON; real ones have 5 to 60 kB."""
MOST_SPEAKERS = 10_000
"""Of one voice; `voice_list` names them all. en_US-libritts has 904."""
MARKS = frozenset("^_$")
"""Phonemes that Piper puts around and between all others."""


@dataclass(frozen=True, eq=False)
class VoiceCard:
    """A voice as it was installed; one that is installed anew gets another card."""

    id: str
    folder: Path
    stamp: tuple[int, ...]
    """Sizes and times of its files; another stamp is another voice."""
    language: str
    sample_rate: int
    """Hz."""
    speaker_count: int
    speaker_numbers: dict[str, int]
    """By name; empty where speakers have none."""
    memory_mb: float
    """MiB that it takes once loaded, about."""

    @property
    def speakers(self) -> list[str]:
        """What a client may name: names where there are any, else numbers."""
        return list(self.speaker_numbers) or [str(number) for number in range(self.speaker_count)]

    def speaker_number(self, speaker: str | int | None) -> int | None:
        """The number of a speaker given by name or number; None where there is no such speaker."""
        if speaker is None:
            return 0
        if isinstance(speaker, str) and speaker in self.speaker_numbers:
            return self.speaker_numbers[speaker]
        if isinstance(speaker, int) or speaker.isdecimal():
            number = int(speaker)
            return number if 0 <= number < self.speaker_count else None
        return None


@dataclass(frozen=True)
class Installed:
    """What one look at the models folder found."""

    cards: dict[str, VoiceCard] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """What is wrong with a voice that can't be used, by its id."""


class _Audio(msgspec.Struct):
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)]


class _Espeak(msgspec.Struct):
    voice: str


class _Inference(msgspec.Struct):
    noise_scale: float = 0
    length_scale: Annotated[float, Meta(gt=0)] = 1
    noise_w: float = 0


class _Language(msgspec.Struct):
    code: str = ""


class _Description(msgspec.Struct):
    """What a voice's JSON must tell; the rest of it is for Piper."""

    audio: _Audio
    espeak: _Espeak
    num_symbols: int
    num_speakers: Annotated[int, Meta(ge=0, le=MOST_SPEAKERS)]
    phoneme_id_map: dict[str, list[int]]
    inference: _Inference = msgspec.field(default_factory=_Inference)
    language: _Language = msgspec.field(default_factory=_Language)
    speaker_id_map: dict[str, int] = msgspec.field(default_factory=dict)


def scan(models_dir: Path, before: Installed) -> Installed:
    """What is there now; cards of voices that did not change are those of before. Blocks, shortly."""
    now = Installed()
    for folder in sorted(models_dir.glob(f"{PREFIX}*")):
        voice_id = folder.name.removeprefix(PREFIX)
        try:
            known = before.cards.get(voice_id)
            unchanged = known is not None and known.stamp == _stamp(folder, voice_id)
            now.cards[voice_id] = known if known is not None and unchanged else read_card(folder, voice_id)
        except OSError as error:
            now.broken[voice_id] = f"{Path(error.filename or folder).name}: {error.strerror}"
        except ValueError as error:
            now.broken[voice_id] = str(error)
    return now


def read_card(folder: Path, voice_id: str) -> VoiceCard:
    """The card of the voice in a folder. Raises `OSError`, or `ValueError` that says what is wrong with its JSON."""
    onnx, described = _files(folder, voice_id)
    with described.open("rb") as file:
        text = file.read(MOST_DESCRIPTION_BYTES + 1)
    if len(text) > MOST_DESCRIPTION_BYTES:
        raise ValueError(f"{described.name} is larger than {MOST_DESCRIPTION_BYTES} bytes")
    try:
        description = msgspec.json.decode(text, type=_Description)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{described.name}: {error}") from None
    if missing := sorted(MARKS - description.phoneme_id_map.keys()):
        raise ValueError(f"{described.name}: phoneme_id_map lacks {' '.join(missing)}")
    speaker_count = max(1, description.num_speakers)
    if wrong := [name for name, number in description.speaker_id_map.items() if not 0 <= number < speaker_count]:
        raise ValueError(f"{described.name}: speaker {wrong[0]!r} has a number beyond num_speakers ({speaker_count})")
    return VoiceCard(
        id=voice_id,
        folder=folder,
        stamp=_stamp(folder, voice_id),
        language=description.language.code or description.espeak.voice,
        sample_rate=description.audio.sample_rate,
        speaker_count=speaker_count,
        speaker_numbers=description.speaker_id_map,
        memory_mb=onnx.stat().st_size * MEMORY_PER_FILE / 2**20,
    )


def _files(folder: Path, voice_id: str) -> tuple[Path, Path]:
    return folder / f"{voice_id}.onnx", folder / f"{voice_id}.onnx.json"


def _stamp(folder: Path, voice_id: str) -> tuple[int, ...]:
    facts = [path.stat() for path in _files(folder, voice_id)]
    return tuple(figure for fact in facts for figure in (fact.st_ino, fact.st_size, fact.st_mtime_ns))
