"""Synthesis as the serving layer sees it: it loads the voices and opens sessions."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, cast

import msgspec

from chorus.wire import tts as wire
from serving.connection import Connection, Session
from serving.memory import keep_giving_back
from serving.metrics import gauge_from, new_registry
from serving.models import check_model
from serving.state import Refusal
from tts.arena import shrink
from tts.encoders import check_rate
from tts.engine import Engine, Speaker
from tts.installed import Installed, VoiceCard, scan
from tts.metrics import TtsMetrics, VoiceMetrics
from tts.session import TtsSession
from tts.settings import TtsSettings
from tts.voice import Voice
from tts.voice_pool import VoicePool
from tts.voices import Voices

log = logging.getLogger(__name__)

MOST_HASTY_THREADS = 4
"""Of a call for the only listener; the operators are too small for more."""
LOOK_EVERY_S = 2.0
"""Between two looks for voices that were installed meanwhile."""


def load_voice(card: VoiceCard, settings: TtsSettings) -> Speaker:
    """A real voice, warmed up. Blocks. Raises `DamagedModel`, and what `Voice` raises."""
    check_model(card.folder)
    threads = max(1, settings.cores // settings.resolved_workers)
    hasty_threads = min(settings.cores, MOST_HASTY_THREADS) if settings.device == "cpu" else threads
    voice = Voice(card.folder, card.id, device=settings.device, threads=threads, hasty_threads=hasty_threads)
    voice.warm_up()
    if settings.loudness_lufs:
        voice.level_to(settings.loudness_lufs)
    return voice


class TtsService:
    """One replica's synthesis: an engine shared by all its streams."""

    name = "tts"
    path = wire.PATH

    def __init__(self, settings: TtsSettings, load: Callable[[VoiceCard, TtsSettings], Speaker] = load_voice) -> None:
        self._settings = settings
        self.registry = new_registry()
        self._metrics = TtsMetrics(self.registry)
        self._pool = VoicePool(
            lambda card: load(card, settings),
            budget_mb=settings.voice_memory_mb,
            metrics=VoiceMetrics(self.registry),
        )
        self._voices: Voices | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._engine: Engine | None = None
        gauge_from("tts_voices_loaded", "Voices in memory", lambda: len(self._pool.voice_ids()), self.registry)
        gauge_from(
            "tts_voice_memory_bytes",
            "Memory that the voices take, by the size of their files",
            lambda: self._pool.memory_mb() * 2**20,
            self.registry,
        )
        gauge_from("tts_queue_depth", "Sentences that wait for the engine", self.queue_depth, self.registry)

    @property
    def settings(self) -> TtsSettings:
        """Read once at the start."""
        return self._settings

    async def load(self) -> None:
        """Load the voices and start the engine. Raises where the default voice can't be loaded."""
        installed = await asyncio.to_thread(scan, self.settings.models_dir, Installed())
        default, *others = self.settings.voice_ids
        voices = Voices(installed, self._pool, default)
        await voices.load(others)
        self._voices = voices
        self._tasks = [
            asyncio.create_task(self._look_for_voices(voices), name="look for voices"),
            asyncio.create_task(keep_giving_back(shrink), name="shrink arena"),
        ]
        self._engine = Engine(
            ahead_s=self.settings.ahead_s,
            post=asyncio.get_running_loop().call_soon_threadsafe,
            metrics=self._metrics,
            workers=self.settings.resolved_workers,
            max_batch=self.settings.resolved_max_batch,
        )
        self._engine.start()

    async def stop(self) -> None:
        """Stop the engine after the calls that it makes."""
        for task in self._tasks:
            task.cancel()
        self._pool.stop()
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)

    def default_settings(self) -> wire.Settings:
        """The settings of a stream that asks for none."""
        return wire.Settings()

    def check_settings(self, settings: msgspec.Struct) -> None:
        """Raise `StreamError` for what this replica can't do."""
        asked = cast(wire.Settings, settings)
        check_rate(asked)
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
        """What `/health` says of the voices."""
        described = {
            "voice": self.settings.voice_ids[0],
            "device": self.settings.device,
            "compute_type": "float32",
        }
        return described if self._voices is None else {**described, "voices": self._voices.describe()}

    async def _look_for_voices(self, voices: Voices) -> None:
        """See what `make models` installs, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                voices.update(await asyncio.to_thread(scan, self.settings.models_dir, voices.installed))
            except OSError:
                log.exception("the models folder can't be read")
