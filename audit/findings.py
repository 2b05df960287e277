"""What an audit has to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something to put right."""

    place: str
    """A service, image, container or file."""
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"
