"""Every mistake that a stream can make, and what the stream is told of it.

    StreamError
    ├── BadMessage         not JSON, no type, a missing or wrong field
    ├── UnknownType        a type that the service does not know
    ├── BadConfig          a setting that can't be
    ├── UnsupportedAudio   samples that are not what the settings say
    ├── UnknownVoice       no such voice here
    ├── TooLarge           more text than a request may hold
    ├── Overloaded         this request can't be accepted now
    ├── IdleTimeout        (fatal) the client said nothing for too long
    ├── TooSlow            (fatal) the client reads more slowly than its stream
    └── Internal           (fatal) our fault

A recoverable one is answered and the stream goes on; a fatal one is answered and closes with its code.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, get_args

import msgspec

from chorus.wire.common import CloseCode, Error, ErrorCode

CODES = frozenset(get_args(ErrorCode))
"""Of the protocol."""
MAX_MESSAGE_CHARS = 500
"""Of an error's message: it may quote what the client sent, which may be a megabyte."""


class StreamError(Exception):
    """Base of all; `str(error)` is the message that the client reads."""

    code: ClassVar[ErrorCode]
    close_code: ClassVar[CloseCode | None] = None
    """None where the stream goes on."""

    def __init__(self, message: str, *, request_id: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(shortened(message))
        self.request_id = request_id
        self.retry_after_ms = retry_after_ms

    def to_message(self) -> Error:
        """The wire message that tells it."""
        return Error(
            code=self.code,
            message=str(self),
            recoverable=self.close_code is None,
            request_id=msgspec.UNSET if self.request_id is None else self.request_id,
            retry_after_ms=msgspec.UNSET if self.retry_after_ms is None else self.retry_after_ms,
        )


class BadMessage(StreamError):
    """Not JSON, no type, or a field that is missing or wrong."""

    code = "bad_message"


class UnknownType(StreamError):
    """A message type that the service does not know."""

    code = "unknown_type"


class BadConfig(StreamError):
    """A setting that can't be."""

    code = "bad_config"


class UnsupportedAudio(StreamError):
    """Samples that are not what the settings say."""

    code = "unsupported_audio"


class UnknownVoice(StreamError):
    """No such voice on this replica."""

    code = "unknown_voice"


class TooLarge(StreamError):
    """More text than one request may hold."""

    code = "too_large"


class Overloaded(StreamError):
    """This request can't be accepted now; a retry may succeed."""

    code = "overloaded"


class IdleTimeout(StreamError):
    """No message of the client for too long."""

    code = "idle_timeout"
    close_code = CloseCode.POLICY


class TooSlow(StreamError):
    """The client reads more slowly than its stream is produced."""

    code = "too_slow"
    close_code = CloseCode.POLICY


class Internal(StreamError):
    """Something broke on our side."""

    code = "internal"
    close_code = CloseCode.INTERNAL


def shortened(message: str) -> str:
    """The message, its middle left out where it is too long: what was wrong stands at the begin or at the end."""
    if len(message) <= MAX_MESSAGE_CHARS:
        return message
    half = MAX_MESSAGE_CHARS // 2
    return f"{message[: half - 2]} … {message[1 - half :]}"


def error_body(code: str, message: str) -> str:
    """The JSON body of a refusal by HTTP."""
    return msgspec.json.encode({"error": {"code": code, "message": shortened(message)}}).decode()


def http_error(status: int, code: str, message: str) -> bytes:
    """A whole answer of HTTP that refuses a request, after which the connection ends."""
    body = error_body(code, message).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
