"""What can go wrong for a client.

ChorusError
├── Refused             the server answered the handshake with an HTTP status
├── StreamError         the server told of a fatal error and closed
├── ConnectionLost      the connection ended before `done`, or never became a stream
└── ContractViolation   the server did what the protocol rules out
"""

from __future__ import annotations


class ChorusError(Exception):
    """Base of all."""


class Refused(ChorusError):
    """The handshake was answered with an HTTP status: 400, 401, 403, 404 or 503."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        """As in the body's JSON; `unknown` where something else than the server answered."""
        self.message = message
        self.retry_after = retry_after
        """Seconds after which a 503 may be gone."""


class StreamError(ChorusError):
    """The server ended the stream and told why."""

    def __init__(self, code: str, message: str, *, close_code: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        """One of `chorus.wire.common.ErrorCode`."""
        self.message = message
        self.close_code = close_code


class ConnectionLost(ChorusError):
    """The connection ended before `done`. Close code 1012 asks for a reconnect."""

    def __init__(self, close_code: int | None = None, reason: str = "") -> None:
        told = [f"close code {close_code}"] if close_code is not None else []
        told += [reason] if reason else []
        super().__init__(f"the connection was lost ({', '.join(told) or 'without a close'})")
        self.close_code = close_code
        """None where no close frame came."""
        self.reason = reason


class ContractViolation(ChorusError):
    """The server did what docs/protocol.md rules out."""
