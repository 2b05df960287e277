"""What the drivers share: addresses, and how a connection that failed is told."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from chorus.errors import ChorusError, ConnectionLost, Refused

ASR_URL = "ws://127.0.0.1:8000"
TTS_URL = "ws://127.0.0.1:8003"
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Of a frame from the server; its audio frames are far smaller."""
PING_TIMEOUT_S = 60
"""A server answers a ping once it has read the audio sent before, which it does at its own pace."""

SOCKET_OPTIONS: dict[str, Any] = {
    "compression": None,  # as the protocol says
    "max_size": MAX_FRAME_BYTES,
    "proxy": None,  # one would be asked even for this very machine
    "ping_timeout": PING_TIMEOUT_S,
}
"""Of a connection, for `connect` of the websockets package."""

KEY_VARIABLE = "CHORUS_API_KEY"
"""Environment variable with the API key of whoever names none."""
CA_VARIABLE = "CHORUS_CA_FILE"
"""Environment variable with the file of CA certificates to trust, of whoever names none."""

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def stream_url(base: str, path: str, settings: dict[str, Any]) -> str:
    """The address of a stream: `host:port` or a URL, settings in the query. Raises `ValueError` for another."""
    parts = urlsplit(base if "://" in base else f"ws://{base}")
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.port == 0:  # a port that is no number raises by itself
        raise ValueError(f"{base!r} is no address of a service; one looks like {ASR_URL}")
    given = {key: _text(value) for key, value in settings.items() if value is not None}
    prefix = parts.path.rstrip("/").removesuffix(path)
    return urlunsplit((scheme, parts.netloc, prefix + path, urlencode(given), ""))


def request_headers(key: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of a handshake, with the API key, by default the environment's; an `Authorization` given stays.

    Raises `ValueError` for a key that can't be one.
    """
    given = dict(headers or {})
    key = (os.environ.get(KEY_VARIABLE, "") if key is None else key).strip()
    if not key or any(name.lower() == "authorization" for name in given):
        return given
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the API key has characters that none has; look at {KEY_VARIABLE}")
    return given | {"Authorization": f"Bearer {key}"}


def tls_context(url: str, ca: str | os.PathLike[str] | None = None) -> ssl.SSLContext | None:
    """What to trust at a `wss` or `https` address; None for the others, which have no TLS.

    `ca` is a file of CA certificates (PEM), by default the environment's `CHORUS_CA_FILE`; without either the system's
    are trusted. Raises `ValueError` for a file that can't be used.
    """
    if urlsplit(url).scheme not in ("wss", "https"):
        return None
    file = ca or os.environ.get(CA_VARIABLE) or None
    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError as error:
        raise ValueError(f"{file} holds no CA certificates in PEM: {error.reason}") from None
    except OSError as error:
        raise ValueError(f"the CA certificates in {file} can't be read: {error.strerror}") from None


def handshake_error(error: InvalidHandshake) -> ChorusError:
    """Why no stream was opened: a refusal by HTTP, or an answer that is not WebSocket's."""
    if not isinstance(error, InvalidStatus):
        return ConnectionLost(None, f"no WebSocket answers there: {error}")
    response = error.response
    code, message = "unknown", response.reason_phrase
    try:
        body = msgspec.json.decode(response.body or b"")
        code, message = str(body["error"]["code"]), str(body["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        pass  # not our JSON: something between us and the server answered
    retry_after = response.headers.get("Retry-After", "")
    return Refused(response.status_code, code, message, float(retry_after) if retry_after.isdigit() else None)


def close_of(error: ConnectionClosed) -> tuple[int | None, str]:
    """Code and reason of the server's close; without one, None and what we know."""
    if error.rcvd is not None:
        return error.rcvd.code, error.rcvd.reason
    return None, error.sent.reason if error.sent is not None else ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
