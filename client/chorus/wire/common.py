"""Messages that both services send, error codes, and WebSocket close codes.

Order on every stream: `Ready` first; then whatever the service says; `Done` last, before a close with 1000.
A fatal `Error` (`recoverable` false) is followed by a close frame instead.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal

import msgspec

ErrorCode = Literal[
    "bad_message",
    "bad_config",
    "unknown_type",
    "unsupported_audio",
    "unknown_voice",
    "too_large",
    "too_slow",
    "overloaded",
    "idle_timeout",
    "internal",
]

MAX_MESSAGE_BYTES = 1024 * 1024
"""A larger WebSocket message closes the stream with 1009."""


class CloseCode(IntEnum):
    """Why a stream was closed (RFC 6455 section 7.4.1, and the IANA registry for 1012 and 1013)."""

    DONE = 1000
    CLIENT_GONE = 1001
    BROKEN_FRAMING = 1002
    UNSUPPORTED_DATA = 1003
    BAD_UTF8 = 1007
    POLICY = 1008
    TOO_LARGE = 1009
    INTERNAL = 1011
    GOING_AWAY = 1012
    OVERLOADED = 1013


class Ready(msgspec.Struct, tag="ready", tag_field="type", kw_only=True):
    """The first message of every stream. `model` is set by ASR, `voice` by TTS."""

    connection_id: str
    """A UUID4."""
    instance: str
    """Host name of the replica that serves this stream."""
    service: Literal["asr", "tts"]
    model: str | msgspec.UnsetType = msgspec.UNSET
    voice: str | msgspec.UnsetType = msgspec.UNSET
    settings: dict[str, Any]
    """All settings in force."""


class Configured(msgspec.Struct, tag="configured", tag_field="type", kw_only=True):
    """The answer to a `config` that took effect: all settings in force."""

    settings: dict[str, Any]


class Error(msgspec.Struct, tag="error", tag_field="type", kw_only=True):
    """What was wrong. The stream goes on where `recoverable`; otherwise a close frame follows."""

    code: ErrorCode
    message: str
    recoverable: bool
    request_id: str | msgspec.UnsetType = msgspec.UNSET
    retry_after_ms: int | msgspec.UnsetType = msgspec.UNSET
    """Milliseconds after which the same request may succeed."""


class Close(msgspec.Struct, tag="close", tag_field="type", forbid_unknown_fields=True):
    """Client: finish everything already sent, deliver it, send `done`, close with 1000."""


def encode(message: msgspec.Struct) -> str:
    """One message as the JSON text of a WebSocket text frame."""
    return msgspec.json.encode(message).decode()
