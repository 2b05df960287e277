"""Recognition as the serving layer sees it: it loads the models and opens sessions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np

from asr.admission import Admission
from asr.detector import Detector, VoiceModel
from asr.engine import SAMPLE_RATE, Engine, Options, Request
from asr.metrics import AsrMetrics
from asr.scheduler import Scheduler
from asr.session import AsrSession
from asr.settings import AsrSettings
from chorus.wire import asr as wire
from serving.connection import Connection, Session
from serving.errors import BadConfig
from serving.metrics import gauge_from, new_registry
from serving.models import check_model
from serving.state import Refusal

LoadModels = Callable[[AsrSettings], tuple[VoiceModel, Engine]]


def load_models(settings: AsrSettings) -> tuple[VoiceModel, Engine]:
    """The real models, from the models folder. Blocks. Raises `DamagedModel`, and what the engines raise."""
    from asr.vad import SileroVad
    from asr.whisper import WhisperEngine

    vad_dir, whisper_dir = settings.models_dir / "silero-vad", settings.models_dir / settings.model
    for folder in (vad_dir, whisper_dir):
        check_model(folder)
    vad = SileroVad(vad_dir)
    whisper = WhisperEngine(
        whisper_dir,
        device=settings.device,
        compute_type=settings.resolved_compute_type,
        workers=settings.resolved_workers,
        threads=max(1, settings.cores // settings.resolved_workers),
        beam_size=settings.beam_size,
    )
    return vad, whisper


class AsrService:
    """One replica's recognition: a detector thread and the engine's threads, shared by all its streams."""

    name = "asr"
    path = wire.PATH

    def __init__(self, settings: AsrSettings, load: LoadModels = load_models) -> None:
        self._settings = settings
        self.registry = new_registry()
        self._metrics = AsrMetrics(self.registry)
        self._load_models = load
        self._engine: Engine | None = None
        self._detector: Detector | None = None
        self._scheduler: Scheduler | None = None
        self._admission: Admission | None = None
        gauge_from("asr_queue_depth", "Jobs that wait for the engine", self.queue_depth, self.registry)

    @property
    def settings(self) -> AsrSettings:
        """Read once at the start."""
        return self._settings

    async def load(self) -> None:
        """Load the models, transcribe a little silence to warm up, start the threads."""
        loop = asyncio.get_running_loop()
        voice, engine = await asyncio.to_thread(self._load_models, self.settings)
        await asyncio.to_thread(_warm_up, voice, engine)
        self._engine = engine
        self._detector = Detector(voice, post=loop.call_soon_threadsafe, metrics=self._metrics)
        self._scheduler = Scheduler(
            engine,
            workers=self.settings.resolved_workers,
            max_batch=self.settings.resolved_max_batch,
            post=loop.call_soon_threadsafe,
            metrics=self._metrics,
        )
        self._admission = Admission(
            self.settings.admit_p95_ms, spent_s=self._scheduler.spent_s, oldest_wait_s=self._scheduler.oldest_wait_s
        )
        self._detector.start()
        self._scheduler.start()

    async def stop(self) -> None:
        """Stop the threads after what they run."""
        for worker in (self._detector, self._scheduler):
            if worker is not None:
                await asyncio.to_thread(worker.stop)

    def default_settings(self) -> wire.Settings:
        """The settings of a stream that asks for none."""
        return wire.Settings()

    def check_settings(self, settings: msgspec.Struct) -> None:
        """Raise `BadConfig` for what this replica can't do."""
        asked = cast(wire.Settings, settings)
        if self._engine and asked.task not in self._engine.tasks:
            known = ", ".join(sorted(self._engine.tasks))
            raise BadConfig(f"task: {self.settings.model} can't {asked.task}; it can {known}")
        if asked.language is not None and self._engine and asked.language not in self._engine.languages:
            known = ", ".join(sorted(self._engine.languages))
            raise BadConfig(f"language: {self.settings.model} does not know {asked.language!r}; it knows {known}")

    def open(self, connection: Connection, settings: msgspec.Struct) -> Session:
        """A session for a stream that was admitted; only after `load`."""
        assert self._detector is not None
        assert self._scheduler is not None
        assert self._admission is not None
        return AsrSession(
            connection,
            cast(wire.Settings, settings),
            service_settings=self.settings,
            instance=os.uname().nodename,
            check=self.check_settings,
            detector=self._detector,
            scheduler=self._scheduler,
            admission=self._admission,
            metrics=self._metrics,
        )

    def overload(self) -> Refusal | None:
        """Why one more stream would come too late to its words; the number of streams is looked at elsewhere."""
        reason = self._admission.refusal() if self._admission else None
        return Refusal(503, "overloaded", reason, self.settings.retry_after_s) if reason else None

    def queue_depth(self) -> int:
        """Jobs that wait for the engine."""
        return self._scheduler.depth() if self._scheduler else 0

    def seconds_stuck(self) -> float:
        """For how long the longest running call of a thread has run."""
        return max((worker.seconds_stuck() for worker in (self._detector, self._scheduler) if worker), default=0.0)

    def describe(self) -> dict[str, Any]:
        """What `/health` says of the model."""
        return {
            "model": self.settings.model,
            "device": self.settings.device,
            "compute_type": self.settings.resolved_compute_type,
        }


def _warm_up(voice: VoiceModel, engine: Engine) -> None:
    """The first calls of a model are slow: make them before anybody waits for one."""
    voice.step([voice.new_state()], np.zeros((1, 512), np.float32))
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    for final in (False, True):
        engine.transcribe([Request(silence, final, Options(language=None))])
