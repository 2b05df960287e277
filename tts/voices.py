"""The voices that a replica can speak with, and a client's settings made concrete by them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from chorus.wire import tts as wire
from serving.errors import BadConfig, Overloaded, UnknownVoice
from serving.logs import fields
from tts.encoders import nearest_rate
from tts.installed import Installed, VoiceCard
from tts.voice_pool import Ready, VoicePool, VoiceUse, cant_be_used

log = logging.getLogger(__name__)

MOST_NAMED = 20
"""Voices or speakers that an error lists."""


class Voices:
    """What is installed, as far as it can be spoken with; the default voice is always in memory."""

    def __init__(self, installed: Installed, pool: VoicePool, default_id: str) -> None:
        """Raises `UnknownVoice` where the default is not installed."""
        if default_id not in installed.cards:
            reason = installed.broken.get(default_id, "it is not installed")
            raise UnknownVoice(f"the default voice {default_id!r} can't be used: {reason}")
        self.default = installed.cards[default_id]
        self.installed = Installed()
        self._pool = pool
        self.update(installed)

    def update(self, installed: Installed) -> None:
        """Take in what was found in the models folder."""
        for voice_id, reason in installed.broken.items():
            if self.installed.broken.get(voice_id) != reason:
                log.error("voice can't be used", extra=fields(voice=voice_id, reason=reason))
        for voice_id, card in self.installed.cards.items():
            # The default was loaded once and for all. What is in memory needs its files no more.
            if card is self.default or (voice_id not in installed.cards and self._pool.holds(card)):
                installed.cards[voice_id] = card
                installed.broken.pop(voice_id, None)
        self.installed = installed

    async def load(self, hot: Sequence[str]) -> None:
        """Load the default for good, and other voices as far as there is room. Raises what the default fails with."""
        await self._pool.loaded(self.default)  # and never released
        for voice_id in hot:
            try:
                (await self._pool.loaded(self.get(voice_id))).release()
            except (UnknownVoice, Overloaded) as error:
                log.warning("voice not loaded ahead", extra=fields(voice=voice_id, reason=str(error)))

    def get(self, voice_id: str | None) -> VoiceCard:
        """A voice by id, the default for None. Raises `UnknownVoice`."""
        if voice_id is None:
            return self.default
        card = self.installed.cards.get(voice_id)
        reason = self.installed.broken.get(voice_id) if card is None else self._problem(card)
        if reason is not None:
            raise cant_be_used(voice_id, reason)
        if card is None:
            names = ", ".join(voice.id for voice in self._usable()[:MOST_NAMED])
            raise UnknownVoice(f"no voice {voice_id!r} here; there are {names}")
        return card

    def use(self, voice_id: str | None, ready: Ready) -> VoiceUse:
        """Hold a voice, as `VoicePool.use` tells. Raises `UnknownVoice` or `Overloaded`."""
        return self._pool.use(self.get(voice_id), ready)

    def check(self, settings: wire.Settings) -> None:
        """Raise `UnknownVoice` or `BadConfig` for a voice or speaker that is not here."""
        voice = self.get(settings.voice)
        if voice.speaker_number(settings.speaker) is None:
            known = ", ".join(voice.speakers[:MOST_NAMED])
            raise BadConfig(f"speaker: {voice.id} has no speaker {settings.speaker!r}; it has {known}")

    def resolve(self, settings: wire.Settings) -> wire.Settings:
        """The settings with the voice, its sample rate and the speaker's number filled in."""
        voice = self.get(settings.voice)
        return msgspec.structs.replace(
            settings,
            voice=voice.id,
            sample_rate=settings.sample_rate or nearest_rate(settings.encoding, voice.sample_rate),
            speaker=voice.speaker_number(settings.speaker),
        )

    def listing(self) -> list[wire.Voice]:
        """Every voice as `voice_list` tells it, the default first."""
        return [
            wire.Voice(id=voice.id, language=voice.language, sample_rate=voice.sample_rate, speakers=voice.speakers)
            for voice in self._usable()
        ]

    def describe(self) -> dict[str, Any]:
        """What `/health` says of the voices."""
        cards = self.installed.cards.values()
        problems = {voice.id: reason for voice in cards if (reason := self._problem(voice)) is not None}
        return {"loaded": self._pool.voice_ids(), "failed": self.installed.broken | problems}

    def _usable(self) -> list[VoiceCard]:
        others = [voice for voice in self.installed.cards.values() if voice is not self.default]
        return [self.default, *(voice for voice in others if self._problem(voice) is None)]

    def _problem(self, voice: VoiceCard) -> str | None:
        """Why an installed voice can't be spoken with."""
        room = self._pool.budget_mb - self.default.memory_mb
        if voice is not self.default and voice.memory_mb > room:
            return (
                f"it takes {voice.memory_mb:.0f} MiB, and TTS_VOICE_MEMORY_MB ({self._pool.budget_mb:g}) leaves "
                f"{max(0, room):.0f} beside the default voice"
            )
        return self._pool.failure(voice)
