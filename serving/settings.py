"""Settings of a replica, read once from the environment at its start."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.access import parse_origins, read_keys


class ServiceSettings(BaseSettings):
    """What both services are told; each adds its own with its own prefix (`ASR_`, `TTS_`)."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    host: str = "0.0.0.0"
    """Address that both listeners bind."""
    port: int = Field(default=0, ge=0, le=65535)
    """Stream listener; open only while the replica can serve."""
    admin_port: int = Field(default=0, ge=0, le=65535)
    """Health and metrics listener; open from the process's start to its end."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the models run."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads of the engine; 0 for every core."""
    max_connections: int = Field(default=50, ge=1, le=10000)
    """Streams at once; one more is refused with 503."""
    retry_after_s: int = Field(default=5, ge=1, le=3600)
    """What a refused client is told to wait, seconds."""
    outbox_bytes: int = Field(default=2 * 1024 * 1024, ge=65536)
    """Bytes that may wait for one slow reader before its stream is closed with `too_slow`."""
    idle_timeout_s: float = Field(default=300, gt=0)
    """Seconds without a message of the client, nor anything that it waits for, after which its stream ends."""
    drain_s: float = Field(default=60, ge=0)
    """Seconds that running streams get to finish after SIGTERM; less than the container's stop_grace_period."""
    linger_s: float = Field(default=0, ge=0)
    """Seconds after SIGTERM in which it serves as before and then drains: some balancers hear late of its successor."""
    stuck_s: float = Field(default=30, gt=0)
    """Seconds without progress of a busy engine after which the replica reports `failed`; twice that ends it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    models_dir: Path = Field(default=Path("/models"), validation_alias="MODELS_DIR")
    """Folder with one folder a model, as `python -m models fetch` leaves it."""
    api_keys_file: Path | None = Field(default=None, validation_alias="CHORUS_API_KEYS_FILE")
    """File of the API keys' hashes, followed while the replica runs; empty where no key is needed."""
    allowed_origins: str = Field(default="", validation_alias="CHORUS_ALLOWED_ORIGINS")
    """Origins whose pages may connect, by commas; empty for every one. Who sends no Origin is no browser, and may."""

    @field_validator("api_keys_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("api_keys_file")
    @classmethod
    def _readable_keys(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_keys(value)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _all_origins(cls, value: str) -> str:
        parse_origins(value)
        return value

    @property
    def origins(self) -> frozenset[str]:
        """The allowed origins; none for every one."""
        return parse_origins(self.allowed_origins)

    @property
    def cores(self) -> int:
        """Threads that the engine is to use."""
        return self.threads or len(os.sched_getaffinity(0))


S = TypeVar("S", bound=ServiceSettings)


def read_settings(kind: type[S]) -> S:
    """The settings of the environment; a wrong one ends the process with a message that names it."""
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        for problem in error.errors():
            field = str(problem["loc"][0]) if problem["loc"] else "?"
            name = field if field.isupper() else f"{prefix}{field.upper()}"
            print(f"{name}: {problem['msg']} (got {problem['input']!r})", file=sys.stderr)
        raise SystemExit(78) from None  # EX_CONFIG
