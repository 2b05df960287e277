"""Synthesis as the serving layer sees it: it loads the voices and opens sessions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import msgspec

from chorus.wire import tts as wire
from serving.connection import Connection, Session
from serving.errors import BadConfig
from serving.metrics import gauge_from, new_registry
from serving.state import Refusal
from tts.encoders import check_rate
from tts.engine import Engine
from tts.metrics import TtsMetrics
from tts.session import TtsSession
from tts.settings import TtsSettings
from tts.voice import Voice
from tts.voices import Voices

LoadVoices = Callable[[TtsSettings], Voices]


def load_voices(settings: TtsSettings) -> Voices:
    """The real voices, from the models folder, warmed up. Blocks."""
    voices = []
    for voice_id in settings.voice_ids:
        folder = settings.models_dir / f"piper-{voice_id}"
        voice = Voice(folder, voice_id, device=settings.device, threads=settings.cores)
        voice.warm_up()
        if settings.loudness_lufs:
            voice.level_to(settings.loudness_lufs)
        voices.append(voice)
    return Voices(voices)


class TtsService:
    """One replica's synthesis: an engine thread shared by all its streams."""

    name = "tts"
    path = wire.PATH

    def __init__(self, settings: TtsSettings, load: LoadVoices = load_voices) -> None:
        self._settings = settings
        self.registry = new_registry()
        self._metrics = TtsMetrics(self.registry)
        self._load_voices = load
        self._voices: Voices | None = None
        self._engine: Engine | None = None
        gauge_from("tts_queue_depth", "Sentences that wait for the engine", self.queue_depth, self.registry)

    @property
    def settings(self) -> TtsSettings:
        """Read once at the start."""
        return self._settings

    async def load(self) -> None:
        """Load the voices and start the engine."""
        voices = await asyncio.to_thread(self._load_voices, self.settings)
        self._voices = voices
        self._engine = Engine(
            ahead_s=self.settings.ahead_s,
            post=asyncio.get_running_loop().call_soon_threadsafe,
            metrics=self._metrics,
        )
        self._engine.start()

    async def stop(self) -> None:
        """Stop the engine after the chunk that it renders."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)

    def default_settings(self) -> wire.Settings:
        """The settings of a stream that asks for none."""
        return wire.Settings()

    def check_settings(self, settings: msgspec.Struct) -> None:
        """Raise `StreamError` for what this replica can't do."""
        asked = cast(wire.Settings, settings)
        check_rate(asked)
        if asked.word_timestamps:
            raise BadConfig("word_timestamps: not available yet; leave it false")
        if self._voices is not None:
            self._voices.check(asked)

    def open(self, connection: Connection, settings: msgspec.Struct) -> Session:
        """A session for a stream that was admitted; only after `load`."""
        assert self._voices is not None
        assert self._engine is not None
        return TtsSession(
            connection,
            cast(wire.Settings, settings),
            service_settings=self.settings,
            instance=os.uname().nodename,
            check=self.check_settings,
            voices=self._voices,
            engine=self._engine,
            metrics=self._metrics,
        )

    def overload(self) -> Refusal | None:
        """Admission is by the number of streams alone."""
        return None

    def queue_depth(self) -> int:
        """Sentences that wait for the engine."""
        return self._engine.depth() if self._engine else 0

    def seconds_stuck(self) -> float:
        """For how long the engine has made no progress though it has work."""
        return self._engine.seconds_stuck() if self._engine else 0.0

    def describe(self) -> dict[str, Any]:
        """What `/health` says of the voice."""
        voice = self.settings.voice_ids[0]
        return {"voice": voice, "device": self.settings.device, "compute_type": "float32"}
