"""What can go wrong for a client.

ChorusError
├── Refused             the server answered the handshake with an HTTP status
├── ServerError         a fatal `error` message, before the close
├── ConnectionLost      the connection ended before `done`
└── ContractViolation   the server said something that the protocol rules out
"""

from __future__ import annotations


class ChorusError(Exception):
    """Base of all."""


class Refused(ChorusError):
    """The handshake was answered with an HTTP status: 400, 401, 403, 404 or 503."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        """When a 503 may be gone, seconds."""


class ServerError(ChorusError):
    """The stream was ended by the server, which told why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ConnectionLost(ChorusError):
    """The connection ended before `done`; 1012 asks for a reconnect."""

    def __init__(self, close_code: int | None, reason: str = "") -> None:
        super().__init__(f"the connection was lost (close code {close_code}{', ' + reason if reason else ''})")
        self.close_code = close_code


class ContractViolation(ChorusError):
    """The server said something that docs/protocol.md rules out."""
