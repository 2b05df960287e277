"""From the text of a WebSocket frame to a client's message, with an error that names what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from chorus.wire.settings import readable
from serving.errors import BadMessage, UnknownType


def read_object(text: str, types: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a message whose `type` is known. Raises `BadMessage` and `UnknownType`."""
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadMessage(f"a text message must be JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BadMessage("a text message must be a JSON object")
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise BadMessage(f"a message needs a type, one of {', '.join(types)}")
    if kind not in types:
        raise UnknownType(f"unknown type {kind[:64]!r}; known are {', '.join(types)}")
    return raw


def read_message(raw: dict[str, Any], kinds: Any) -> Any:
    """What `read_object` gave: a `config` as the dict of its changes, any other as a struct of the union `kinds`.

    Raises `BadMessage`.
    """
    if raw["type"] == "config":
        return {key: value for key, value in raw.items() if key != "type"}
    try:
        return msgspec.convert(raw, kinds)
    except msgspec.ValidationError as error:
        raise BadMessage(f"{raw['type']}: {readable(str(error))}") from None
