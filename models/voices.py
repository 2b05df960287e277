"""Piper voices that `models.json` does not list: any of Piper's own catalogue, or one of yours in a local folder.

Nobody has pinned their digests here, so they are as whoever has the voice states them: a local folder by its bytes,
the hub by its listing of the pinned revision. What was installed is recorded beside it (`SHA256SUMS`), and counts from
then on: later fetches and verifications need no hub, and find damage as with any other model.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import urllib.error
import urllib.parse
from pathlib import Path
from typing import Any

from models.catalogue import RECORD, VOICE_PREFIX, Hub, Model, ModelError, read_voice_hub
from models.fetch import digest_of, find_local, from_hub, log

LICENCE = "see the voice's model card"
MOST_LISTING_BYTES = 4 * 1024 * 1024
_ID = re.compile(r"\w[\w.+-]*")
_ID_ON_HUB = re.compile(r"(?P<family>[a-z]+)_[A-Z]+-(?P<name>[^-]+)-(?P<quality>[a-z_]+)")
"""As en_GB-alba-medium, at en/en_GB/alba/medium."""


def find_voice(name: str, folder: Path, local: Path | None) -> Model | None:
    """The voice of that name or id, from a local folder, from `folder` where it is installed, or from the hub.

    None where there is none such. Raises `ModelError` where the hub should know and can't be asked.
    """
    voice_id = name.removeprefix(VOICE_PREFIX)
    if not _ID.fullmatch(voice_id):
        return None
    model_name = VOICE_PREFIX + voice_id
    hub = _on_hub(voice_id)
    if local is not None and (place := find_local(model_name, f"{voice_id}.onnx", local)) is not None:
        log(f"{model_name}: not in models.json; taken as it is in {place}")
        return _model(model_name, _digests_in(place, voice_id), hub)
    if (recorded := _read_record(folder / model_name)) is not None:
        return _model(model_name, recorded, hub)
    if hub is None:
        return None
    log(f"{model_name}: not in models.json; its digests are those that the hub states at {hub.revision[:12]}")
    try:
        return _model(model_name, _digests_on_hub(hub, voice_id), hub)
    except (ModelError, OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 404:
            reason = f"has no {hub.path} in {hub.repo}"
        else:
            reason = f"could not be asked ({type(error).__name__}: {error})"
        raise ModelError(
            f"{voice_id!r} is not in models.json, and the hub {reason}.\n"
            f"Put {voice_id}.onnx and {voice_id}.onnx.json into a folder and name it in LOCAL_MODELS_DIR."
        ) from error


def unlisted(folder: Path, listed: set[str]) -> list[str]:
    """Voices that are installed and not listed."""
    return sorted(path.parent.name for path in folder.glob(f"*/{RECORD}") if path.parent.name not in listed)


def _model(name: str, digests: dict[str, str], hub: Hub | None) -> Model:
    return Model(name, "piper-voice", LICENCE, digests, hub, package=None)


def _on_hub(voice_id: str) -> Hub | None:
    shape = _ID_ON_HUB.fullmatch(voice_id)
    if shape is None:
        return None
    hub = read_voice_hub()
    language = voice_id.partition("-")[0]
    return Hub(hub.repo, hub.revision, f"{shape['family']}/{language}/{shape['name']}/{shape['quality']}")


def _digests_in(place: Path, voice_id: str) -> dict[str, str]:
    try:
        return {name: digest_of(place / name) for name in _files(voice_id)}
    except OSError as error:
        raise ModelError(f"{error.filename}: {error.strerror}") from error


def _files(voice_id: str) -> tuple[str, str]:
    return f"{voice_id}.onnx", f"{voice_id}.onnx.json"


def _read_record(target: Path) -> dict[str, str] | None:
    try:
        lines = (target / RECORD).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _digests_on_hub(hub: Hub, voice_id: str) -> dict[str, str]:
    """sha256 by file name. Large files are listed with theirs; of a small one its git object is, so it is fetched."""
    path = urllib.parse.quote(hub.path)
    with from_hub(f"api/models/{hub.repo}/tree/{hub.revision}/{path}") as answer:
        listing: list[dict[str, Any]] = json.loads(answer.read(MOST_LISTING_BYTES))
    entries = {entry["path"]: entry for entry in listing}
    return {name: _digest_on_hub(hub, name, entries[f"{hub.path}/{name}"]) for name in _files(voice_id)}


def _digest_on_hub(hub: Hub, name: str, entry: dict[str, Any]) -> str:
    if "lfs" in entry:
        return str(entry["lfs"]["oid"])
    with from_hub(hub.address(name)) as answer:
        data = answer.read(MOST_LISTING_BYTES)
    if hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() != entry["oid"]:
        raise ValueError(f"{name} is not what it lists")
    return hashlib.sha256(data).hexdigest()
