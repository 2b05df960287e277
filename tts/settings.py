"""Settings of a synthesis replica, from the environment (`TTS_…`)."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from serving.settings import ServiceSettings


class TtsSettings(ServiceSettings):
    """What a synthesis replica adds to what both services are told."""

    model_config = SettingsConfigDict(env_prefix="TTS_", extra="ignore", frozen=True)

    port: int = Field(default=8002, ge=0, le=65535)
    """Stream listener; open only while the replica can serve."""
    admin_port: int = Field(default=9002, ge=0, le=65535)
    """Health and metrics listener; open from the process's start to its end."""
    outbox_bytes: int = Field(default=8 * 1024 * 1024, ge=65536)
    """Bytes that may wait for one slow reader before its stream is closed with `too_slow`."""
    voices: str = "en_US-joe-medium"
    """Ids of the voices to load at the start, separated by commas; the first is the default, and stays in memory."""
    voice_memory_mb: float = Field(default=300, ge=0)
    """MiB that voices may take together. Who asks for another one makes those go that were used longest ago."""
    ahead_s: float = Field(default=10, ge=1, le=300)
    """Audio made ahead of what a listener can have played, seconds; a cancelled request has wasted no more."""
    max_wait_s: float = Field(default=5, gt=0, le=3600)
    """Seconds that a listener may wait for a first sound; a request that would wait longer is `overloaded`."""
    workers: int = Field(default=0, ge=0, le=64)
    """Calls of the model at the same time; 0 for one a thread (at most 8) on the CPU, 1 on a GPU."""
    max_batch: int = Field(default=0, ge=0, le=64)
    """Chunks rendered in one call; 0 for 1 on the CPU, where more gain nothing, and 8 on a GPU."""
    loudness_lufs: float = Field(default=-19, ge=-40, le=0)
    """Loudness of every voice by ITU-R BS.1770; 0 leaves each as it was trained."""
    max_text_chars: int = Field(default=100_000, ge=100)
    """Characters of one stream that may wait to be spoken."""
    max_pending_requests: int = Field(default=32, ge=1)
    """Requests of one stream that may be open at once."""

    @field_validator("voices")
    @classmethod
    def _at_least_one(cls, value: str) -> str:
        if not any(part.strip() for part in value.split(",")):
            raise ValueError("name at least one voice")
        return value

    @property
    def resolved_workers(self) -> int:
        """Calls of the model at the same time."""
        return self.workers or (1 if self.device == "cuda" else min(self.cores, 8))

    @property
    def resolved_max_batch(self) -> int:
        """Chunks rendered in one call."""
        return self.max_batch or (8 if self.device == "cuda" else 1)

    @property
    def voice_ids(self) -> list[str]:
        """The voices to load at the start, the default first."""
        return [part.strip() for part in self.voices.split(",") if part.strip()]
