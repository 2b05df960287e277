"""The voices of a replica by id, and a client's settings made concrete by them."""

from __future__ import annotations

import msgspec

from chorus.wire import tts as wire
from serving.errors import BadConfig, UnknownVoice
from tts.encoders import nearest_rate
from tts.voice import Voice


class Voices:
    """Loaded voices; the first is the default."""

    def __init__(self, voices: list[Voice]) -> None:
        self._voices = {voice.id: voice for voice in voices}
        self.default = voices[0]

    def get(self, voice_id: str | None) -> Voice:
        """A voice by id, the default for None. Raises `UnknownVoice`."""
        if voice_id is None:
            return self.default
        voice = self._voices.get(voice_id)
        if voice is None:
            raise UnknownVoice(f"no voice {voice_id!r} here; there are {', '.join(self._voices)}")
        return voice

    def check(self, settings: wire.Settings) -> None:
        """Raise `UnknownVoice` or `BadConfig` for a voice or speaker that is not here."""
        voice = self.get(settings.voice)
        if voice.speaker_number(settings.speaker) is None:
            known = ", ".join(voice.speakers[:20])
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
        """Every voice as `voice_list` tells it."""
        return [
            wire.Voice(id=voice.id, language=voice.language, sample_rate=voice.sample_rate, speakers=voice.speakers)
            for voice in self._voices.values()
        ]
