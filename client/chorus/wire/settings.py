"""Reading settings: the same names and checks for `config` messages, request settings and query strings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A settings change that can't take effect; the message names the key and what it may be."""


def merge(current: S, changes: Mapping[str, Any], *, from_text: bool = False) -> S:
    """`current` with `changes` applied, wholly or not at all.

    With `from_text` (query strings) numbers and booleans may be given as text. Raises `SettingsError` for an
    unknown key or a value outside its range.
    """
    known = current.__struct_fields__
    for key in changes:
        if key not in known:
            raise SettingsError(f"unknown setting {key!r}; known are {', '.join(known)}")
    try:
        merged = msgspec.convert(as_dict(current) | dict(changes), type(current), strict=not from_text)
    except msgspec.ValidationError as error:
        raise SettingsError(readable(str(error))) from None
    for key in changes:
        value = getattr(merged, key)
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"{key}: must be a finite number")
    return merged


def from_query(defaults: S, pairs: Iterable[tuple[str, str]]) -> S:
    """`defaults` changed by the (name, value) pairs of a query string. Raises `SettingsError`."""
    changes: dict[str, str] = {}
    for key, value in pairs:
        if key in changes:
            raise SettingsError(f"{key}: given twice")
        changes[key] = value
    return merge(defaults, changes, from_text=True)


def as_dict(settings: msgspec.Struct) -> dict[str, Any]:
    """Every setting by name, as `ready` and `configured` report them."""
    return {key: getattr(settings, key) for key in settings.__struct_fields__}


def readable(message: str) -> str:
    """A message of msgspec with its key in front of it, as "speed: expected `int` <= 9"."""
    reason, _, path = message.rpartition(" - at ")
    if not reason:
        return message
    key = path.strip("`").removeprefix("$.")
    return f"{key}: {reason[0].lower()}{reason[1:]}"
