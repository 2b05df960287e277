"""What a run must hold, and how that is set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a run, those of a GPU by default; None: not judged. A limit without data fails."""

    asr_final_p95_s: float | None = 0.7
    """95th percentile from the true end of speech to its final: 0.2 s, and 0.5 s of endpointing."""
    tts_first_audio_p95_s: float | None = 0.5
    """95th percentile from asking for a reply to its first audio."""
    replies_without_gap: float | None = 0.99
    """Least share of replies that play without a gap, of those with sound."""
    lost_utterances: int | None = 0
    """Utterances that never got their final."""
    errors: int | None = 0
    """Failed connections, errors told by the service, broken promises of the protocol. Refusals are none."""
    lost_connections: int | None = 0
    """Connections that neither side had closed; off where a replica is killed on purpose."""
    refusals: int | None = 0
    """503 before the upgrade, and replies that were `overloaded`; off where more come than there is room for."""
    breaches: int | None = 0
    """Words or audio of somebody else's, or audio that is not that of its text."""
    proven: float | None = None
    """Least share of people proven to have got only their own, by two checked answers of each service they use."""
    spread: float | None = 0.2
    """Largest deviation of a replica's connections from even, as a share of even."""
    connect_p95_s: float | None = None
    """95th percentile from the attempt to connect to `ready`, of either service."""
    word_error_rate: float | None = None
    """Word errors by reference words, of all utterances together."""
    others_slower: float | None = 2.0
    """Largest growth of others' p95 in the minute in which connections are lost; judged only where some are."""
    generator_late_p95_s: float = 0.01
    """A load generator lags in a second in which the p95 of its lateness is above this; not a limit of the server."""
    generator_late_share: float = 0.01
    """A run is invalid where a load generator lagged in more than this share of its seconds."""


PROFILES = {"gpu": Thresholds(), "cpu": Thresholds(asr_final_p95_s=1.5, tts_first_audio_p95_s=0.8)}
"""The defaults: of a stack on GPUs, and of one on two cores with the small models."""


class BadThreshold(ValueError):
    """A limit that is not one."""


def thresholds_from(words: Iterable[str]) -> Thresholds:
    """From words as `cpu asr_final_p95_s=1.2 refusals=off`: a profile (else `gpu`), then what differs from it.

    Raises `BadThreshold`, which names the word.
    """
    limits: dict[str, Any] = msgspec.to_builtins(PROFILES["gpu"])
    for number, word in enumerate(words):
        name, given, value = word.partition("=")
        if number == 0 and word in PROFILES:
            limits = msgspec.to_builtins(PROFILES[word])
        elif not given or name not in limits:
            names = ", ".join(limits)
            raise BadThreshold(f"{word!r}: expected NAME=NUMBER or NAME=off, NAME one of {names}; or first gpu or cpu")
        else:
            limits[name] = _limit(name, value)
    return msgspec.convert(limits, Thresholds)


def _limit(name: str, value: str) -> int | float | None:
    if value == "off" and not name.startswith("generator_"):
        return None
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    whole = isinstance(getattr(PROFILES["gpu"], name), int)
    if not 0 <= found < float("inf") or (whole and found != int(found)):
        raise BadThreshold(f"{name}={value}: expected {'a whole' if whole else 'a'} number of 0 or more, or off")
    return int(found) if whole else found
