"""What the drivers share: addresses, and a handshake that was refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from websockets.exceptions import InvalidStatus

from chorus.errors import Refused

ASR_URL = "ws://127.0.0.1:8000"
TTS_URL = "ws://127.0.0.1:8003"
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Of a frame from the server; its audio frames are far smaller."""


def stream_url(base: str, path: str, settings: dict[str, Any]) -> str:
    """The address of a stream: `http` and `https` are taken for `ws` and `wss`, settings go into the query."""
    parts = urlsplit(base if "://" in base else f"ws://{base}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    given = {key: _text(value) for key, value in settings.items() if value is not None}
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, urlencode(given), ""))


def refusal(error: InvalidStatus) -> Refused:
    """The refusal in an HTTP answer to the handshake."""
    response = error.response
    code, message = "unknown", response.reason_phrase
    try:
        body = msgspec.json.decode(response.body or b"")
        code, message = body["error"]["code"], body["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        pass  # not our JSON: something between us and the server answered
    retry_after = response.headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isdigit() else None
    return Refused(response.status_code, code, message, seconds)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
