"""Whom to abuse: a service at an address, and where it tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chorus.wire import asr, tts

Service = Literal["asr", "tts"]
Via = Literal["direct", "nginx"]

SERVICES: tuple[Service, ...] = ("asr", "tts")


@dataclass(frozen=True)
class Target:
    """One service at one port for streams."""

    service: Service
    via: Via
    host: str
    port: int
    admin_port: int
    """Where the replica itself answers `/health` and `/metrics`."""

    @property
    def path(self) -> str:
        """Of its streams."""
        return asr.PATH if self.service == "asr" else tts.PATH

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.service} {self.via}"
