"""Who may open a stream: allowed origins and API keys, asked before the upgrade.

A file of keys has a line a key, `name:SHA-256 of the key in hex`; empty lines and lines that begin with # count for
nothing. One round of SHA-256 is enough: `make key` makes keys of 256 random bits, which nobody finds by trying.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection

from serving.logs import fields
from serving.state import Refusal

log = logging.getLogger(__name__)

SUBPROTOCOL = "chorus"
"""What the server answers to a client that offers it; a browser sends its key beside it, as `key.KEY`."""
KEY_SUBPROTOCOL = "key."
KEY_PARAMETERS = frozenset(("key", "api_key", "api-key", "apikey", "token", "access_token", "authorization"))
"""Names by which clients put a key into the query string, which proxies log and browsers remember."""
MAX_KEYS = 1000
MAX_FILE_BYTES = 256 * 1024
POLL_S = 1.0
"""How often the file of keys is read; its content is compared, as times of change can lie."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# As scripts/key.sh makes them; nginx looks for the same.
_MADE_KEY = re.compile(r"chorus_[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_DEFAULT_PORTS = {"http": 80, "https": 443}

WRONG_ORIGIN = Refusal(403, "bad_message", "pages of this origin may not connect here (CHORUS_ALLOWED_ORIGINS)")
KEY_IN_QUERY = Refusal(
    400,
    "bad_config",
    "a key in the address ends up in logs: send it as the header Authorization: Bearer KEY, or from a browser as "
    "subprotocols chorus, key.KEY; and replace it, as it may have been logged on its way",
)
NO_KEY = Refusal(
    401,
    "bad_message",
    "an API key is needed: send it as the header Authorization: Bearer KEY, or from a browser as subprotocols "
    "chorus, key.KEY",
)
WRONG_KEY = Refusal(401, "bad_message", "this API key is not valid here")
SEVERAL_KEYS = Refusal(401, "bad_message", "several API keys were sent: send one")


class KeysError(ValueError):
    """A file of keys that can't be used; the message has nothing of its content, which may be a key by mistake."""


@dataclass(frozen=True)
class Guest:
    """Somebody who may open a stream."""

    key: str | None
    """Name of the API key; None where none is needed."""


class Access:
    """Says of each request whether it may become a stream."""

    def __init__(self, keys_file: Path | None, origins: frozenset[str]) -> None:
        """Without a file no key is needed, without origins every one is allowed. Raises `KeysError`."""
        self._file = keys_file
        self._keys: Mapping[str, bytes] = {} if keys_file is None else read_keys(keys_file)
        self._origins = origins
        self._problem = ""

    def examine(self, request: HTTPConnection) -> Guest | Refusal:
        """Who this is, or why they may not come in."""
        if self._origins and not self._origins.issuperset(request.headers.getlist("origin")):
            return WRONG_ORIGIN
        for parameter, value in QueryParams(request.scope["query_string"]).multi_items():
            if parameter.lower() in KEY_PARAMETERS or _MADE_KEY.search(value):
                return KEY_IN_QUERY
        if self._file is None:
            return Guest(None)
        sent = set(_keys_of(request))
        if len(sent) != 1:
            return SEVERAL_KEYS if sent else NO_KEY
        name = self._name_of(sent.pop())
        return WRONG_KEY if name is None else Guest(name)

    async def follow(self) -> None:
        """Take over what changes in the file of keys, without end; streams that run are not asked again."""
        if self._file is None:
            return
        loop = asyncio.get_running_loop()
        # A thread of its own: a key that is revoked does not wait for whatever keeps the shared ones busy.
        with ThreadPoolExecutor(1, thread_name_prefix="API keys") as thread:
            while True:
                await asyncio.sleep(POLL_S)
                await loop.run_in_executor(thread, self.reread, self._file)

    def reread(self, file: Path) -> None:
        """Read the keys anew; those in force stay where the file can't be used. Blocks for a moment."""
        try:
            keys = read_keys(file)
        except KeysError as error:
            if str(error) != self._problem:
                log.error("CHORUS_API_KEYS_FILE: %s; the keys read before stay in force", error)
            self._problem = str(error)
            return
        old, self._keys, self._problem = self._keys, keys, ""
        added, removed = dict(keys.items() - old.items()), dict(old.items() - keys.items())
        if added or removed:
            log.info("API keys changed", extra=fields(added=sorted(added), removed=sorted(removed)))

    def _name_of(self, key: bytes) -> str | None:
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._keys.items():  # all of them: how long it takes tells nothing
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read_keys(file: Path) -> dict[str, bytes]:
    """Digest of each key by its name. Raises `KeysError`."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
            replaced = file.stat().st_nlink == 0
    except OSError as error:
        raise KeysError(f"can't be read: {error.strerror}") from None
    if replaced:  # it is mounted by itself, and stays what it was before an editor put another in its place
        raise KeysError("was replaced by another file, which a container does not see before it is restarted")
    if len(data) > MAX_FILE_BYTES:
        raise KeysError(f"has more than {MAX_FILE_BYTES} bytes")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, digest = text.partition(":")
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise KeysError(f"line {number} is not name:sha256 (letters, digits, . _ - : 64 hexadecimal digits)")
        if name in keys:
            raise KeysError(f"line {number} has the name of a line before it")
        keys[name] = bytes.fromhex(digest)
    if not keys:
        raise KeysError("holds no key; make one by  make key NAME=…")
    if len(keys) > MAX_KEYS:
        raise KeysError(f"holds more than {MAX_KEYS} keys")
    if len(set(keys.values())) < len(keys):
        raise KeysError("holds the same key under two names")
    if hashlib.sha256(b"").digest() in keys.values():
        raise KeysError("holds the hash of an empty key")
    return keys


def parse_origins(text: str) -> frozenset[str]:
    """Origins by commas, each as a browser sends it. Raises `ValueError` for what is none."""
    return frozenset(_origin(part.strip()) for part in text.split(",") if part.strip())


def _origin(text: str) -> str:
    parts = urlsplit(text.lower())
    host, port = parts.hostname, parts.port
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if not parts.scheme or not host or any(rest) or not text.isascii() or "*" in text:
        raise ValueError(f"{text!r} is no origin; one looks like https://app.example.com, or with :PORT")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _DEFAULT_PORTS.get(parts.scheme)) else "")


def subprotocols(request: HTTPConnection) -> list[str]:
    """The WebSocket subprotocols that a client offers, also one that only asks."""
    offered = ",".join(request.headers.getlist("sec-websocket-protocol"))
    return [part.strip() for part in offered.split(",") if part.strip()]


def _keys_of(request: HTTPConnection) -> Iterator[bytes]:
    """Every key that a request brings. Header values are bytes of Latin-1 in Starlette's eyes."""
    for header in request.headers.getlist("authorization"):
        scheme, _, key = header.partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip().encode("latin-1")
    offered = subprotocols(request)
    if SUBPROTOCOL in offered:  # without it there would be none to answer, and a browser would hang up
        for each in offered:
            if each.startswith(KEY_SUBPROTOCOL):
                yield each.removeprefix(KEY_SUBPROTOCOL).encode("latin-1")
