"""What a service gives to the serving layer: a name, an engine that loads, and sessions."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry

from serving.connection import Connection, Session
from serving.settings import ServiceSettings
from serving.state import Refusal


class Service(Protocol):
    """One of `asr.service.AsrService` and `tts.service.TtsService`, or a fake in tests."""

    name: str
    """`asr` or `tts`; also the prefix of its metrics."""
    path: str
    """Path of its stream."""

    @property
    def settings(self) -> ServiceSettings:
        """Read once at the start."""

    registry: CollectorRegistry

    async def load(self) -> None:
        """Load and warm up the models, off the event loop. An exception ends the process."""

    async def stop(self) -> None:
        """Stop the engine; no session is left."""

    def default_settings(self) -> msgspec.Struct:
        """The stream settings that a query string changes."""

    def check_settings(self, settings: msgspec.Struct) -> None:
        """Raise `StreamError` for settings that are well formed and yet can't be served here."""

    def open(self, connection: Connection, settings: msgspec.Struct) -> Session:
        """A session for a stream that was admitted."""

    def overload(self) -> Refusal | None:
        """Why, beyond the number of streams, no new one can be taken now; None mostly."""

    def queue_depth(self) -> int:
        """Jobs that wait for the engine."""

    def seconds_stuck(self) -> float:
        """For how long a busy engine has made no progress; 0 while idle."""

    def describe(self) -> dict[str, Any]:
        """`model` or `voice`, `device` and `compute_type`, for `/health`."""
