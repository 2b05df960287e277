"""Settings of a recognition replica, from the environment (`ASR_…`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from serving.settings import ServiceSettings


class AsrSettings(ServiceSettings):
    """What a recognition replica adds to what both services are told."""

    model_config = SettingsConfigDict(env_prefix="ASR_", extra="ignore", frozen=True)

    port: int = Field(default=8001, ge=0, le=65535)
    """Stream listener; open only while the replica can serve."""
    admin_port: int = Field(default=9001, ge=0, le=65535)
    """Health and metrics listener; open from the process's start to its end."""
    model: str = "whisper-tiny.en"
    """Name of a Whisper model in models.json."""
    compute_type: Literal["default", "int8", "int8_float16", "int8_float32", "float16", "bfloat16", "float32"] = (
        "default"
    )
    """Number format of the weights; `default` is int8 on the CPU and int8_float16 on a GPU."""
    beam_size: int = Field(default=5, ge=1, le=10)
    """Hypotheses that a final is searched with; a partial is searched with 3, or with as many if that is fewer."""
    partial_interval_ms: int = Field(default=0, ge=0, le=10000)
    """New audio between two partials of an utterance, milliseconds; 0 for 1000 on the CPU and 500 on a GPU."""
    admit_p95_ms: int = Field(default=0, ge=0, le=60000)
    """95th percentile of the finals' latency over which new streams are refused, milliseconds; 0 admits by number."""
    backlog_s: float = Field(default=60, ge=5, le=600)
    """Audio of one stream that may wait for the engine; beyond it the stream is not read until it shrinks."""
    max_batch: int = Field(default=0, ge=0, le=64)
    """Requests decoded together; 0 for 2 on the CPU and 16 on a GPU."""
    workers: int = Field(default=0, ge=0, le=64)
    """Batches decoded at the same time, each with its share of the threads; 0 for one a thread, at most 8, on the
    CPU, and 1 on a GPU."""

    @property
    def resolved_compute_type(self) -> str:
        """The number format in force."""
        if self.compute_type != "default":
            return self.compute_type
        return "int8_float16" if self.device == "cuda" else "int8"

    @property
    def resolved_partial_interval_ms(self) -> int:
        """The interval in force."""
        return self.partial_interval_ms or (500 if self.device == "cuda" else 1000)

    @property
    def resolved_max_batch(self) -> int:
        """The batch size in force."""
        return self.max_batch or (16 if self.device == "cuda" else 2)

    @property
    def resolved_workers(self) -> int:
        """The number in force: on the CPU two threads in one decoding are slower than one thread in each of two."""
        return self.workers or (1 if self.device == "cuda" else min(8, self.cores))
