"""What `models.json` lists: every model's files by sha256, and the places that carry them."""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

CATALOGUE = Path(__file__).resolve().parent.parent / "models.json"


RECORD = "SHA256SUMS"
"""Beside a model: the digests of its files, as sha256sum writes them. A replica compares at its start."""
VOICE_PREFIX = "piper-"
"""In front of a voice's id, in the name of its model."""


class ModelError(Exception):
    """A model that is not listed, can't be fetched, or is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class Hub:
    """Files of a repository of the Hugging Face hub, at one revision."""

    repo: str
    revision: str
    path: str = ""

    def address(self, name: str) -> str:
        """Of one file, below the hub's own."""
        path = f"{self.path}/{name}" if self.path else name
        return f"{self.repo}/resolve/{self.revision}/{urllib.parse.quote(path)}"


@dataclass(frozen=True)
class Package:
    """Files in a folder of a PyPI package that carries the same bytes."""

    requirement: str
    path: str


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue."""

    name: str
    kind: str
    licence: str
    files: dict[str, str]
    """sha256 by file name."""
    hub: Hub | None
    package: Package | None


def read_catalogue(path: Path = CATALOGUE) -> dict[str, Model]:
    """Every model by name."""
    entries = json.loads(path.read_text(encoding="utf-8"))["models"]
    return {
        name: Model(
            name=name,
            kind=entry["kind"],
            licence=entry["licence"],
            files=entry["files"],
            hub=Hub(**entry["hub"]) if "hub" in entry else None,
            package=Package(**entry["pypi"]) if "pypi" in entry else None,
        )
        for name, entry in entries.items()
    }


def read_voice_hub(path: Path = CATALOGUE) -> Hub:
    """The repository with Piper's own catalogue of voices."""
    return Hub(**json.loads(path.read_text(encoding="utf-8"))["piper_voices"])


def find_model(name: str, path: Path = CATALOGUE) -> Model | None:
    """One model that is listed, a voice by its id too; None where there is none of that name."""
    catalogue = read_catalogue(path)
    return catalogue.get(name) or catalogue.get(f"{VOICE_PREFIX}{name}")
