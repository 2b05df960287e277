"""Voices without files: their cards, and all of them in memory from the start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.unit.fakes import RampVoice
from tts.installed import Installed, VoiceCard
from tts.voice_pool import Ready, VoiceUse
from tts.voices import Voices


def card_of(voice_id: str, memory_mb: float = 10, speakers: tuple[str, ...] = ()) -> VoiceCard:
    """The card of a voice that has no files."""
    numbers = {name: number for number, name in enumerate(speakers)}
    return VoiceCard(voice_id, Path(voice_id), (), "en", 16000, max(1, len(speakers)), numbers, memory_mb)


class LoadedPool:
    """Voices that are all in memory already."""

    budget_mb = 1000.0

    def __init__(self, voices: Sequence[RampVoice]) -> None:
        self._voices = {voice.id: voice for voice in voices}

    def use(self, card: VoiceCard, ready: Ready) -> VoiceUse:
        return VoiceUse(card, self._voices[card.id], self, ready)  # type: ignore[arg-type]

    def failure(self, card: VoiceCard) -> str | None:
        return None

    def _release(self, use: VoiceUse) -> None:
        pass


def voices_of(*voices: RampVoice) -> Voices:
    """Loaded voices; the first is the default."""
    cards = {voice.id: card_of(voice.id) for voice in voices}
    return Voices(Installed(cards), LoadedPool(voices), voices[0].id)  # type: ignore[arg-type]
