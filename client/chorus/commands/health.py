"""`chorus health`: whether the services serve, and each replica's load."""

from __future__ import annotations

import argparse
import json
import re
import ssl
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chorus.commands.common import FAILED, OK, Commands, add_ca, warn
from chorus.connect import ASR_URL, TTS_URL, tls_context

REPLICAS = 6
"""Direct ports of a service: 8001, 8011 … of ASR, 8002, 8012 … of TTS."""
TIMEOUT_S = 5.0
COLUMNS = ("address", "service", "status", "connections", "queue", "memory", "gpu", "model", "instance")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "health",
        help="whether the services serve",
        description="Ask both services behind their balanced ports; with --all also each replica at its direct port.",
        epilog="Exit status: 0 every service that was asked serves, 1 one does not.",
    )
    parser.add_argument(
        "--url", action="append", help=f"a service to ask, may be repeated (default {ASR_URL} and {TTS_URL})"
    )
    add_ca(parser)
    parser.add_argument("--all", action="store_true", help="every replica too")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Run the command."""
    try:
        services = [base_address(url) for url in asked.url or (ASR_URL, TTS_URL)]
        trust = [tls_context(address, asked.ca) for address in services]
    except ValueError as error:
        warn(f"error: {error}")
        return FAILED
    direct = direct_addresses(services[0]) if asked.all else []
    with ThreadPoolExecutor(len(services) + 2 * REPLICAS) as pool:
        balanced = list(pool.map(ask, services, trust))
        replicas = [found for found in pool.map(ask, direct) if found.body.get("status")]
        memory = dict(zip((r.address for r in replicas), pool.map(resident_memory, replicas), strict=True))
    rows = [COLUMNS, *(found.row(memory.get(found.address)) for found in (*balanced, *replicas))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if all(found.serves for found in balanced):
        return OK
    warn("not every service serves: make status, make logs; nothing there at all: make up")
    return FAILED


@dataclass
class Health:
    """What one address answered."""

    address: str
    code: int | None
    """HTTP status; None where nothing answers."""
    body: dict[str, Any]

    @property
    def serves(self) -> bool:
        """Whether a stream could be opened there, were there room."""
        return self.code == 200

    def row(self, memory: float | None) -> tuple[str, ...]:
        """The table's cells; `memory` in bytes."""
        body = self.body
        status = body.get("status") or ("down" if self.code is None else f"HTTP {self.code}")
        streams = f"{body['active_connections']}/{body['max_connections']}" if "max_connections" in body else "-"
        gpu = body.get("gpu")
        used = f"{gpu['index']}: {gpu['memory_used_mb']}/{gpu['memory_total_mb']} MB" if gpu else "-"
        return (
            urlsplit(self.address).netloc,
            str(body.get("service", "-")),
            str(status),
            streams,
            str(body.get("queue_depth", "-")),
            f"{memory / 2**20:.0f} MiB" if memory else "-",
            used,
            str(body.get("model") or body.get("voice") or "-"),
            str(body.get("instance", "-")),
        )


def base_address(url: str) -> str:
    """The `http` address of a service's URL, without path. Raises `ValueError` for what is none."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a service; one looks like {ASR_URL}")
    return f"{'https' if parts.scheme in ('wss', 'https') else 'http'}://{parts.netloc}"


def direct_addresses(address: str) -> list[str]:
    """Where single replicas may answer on the same host, never by TLS."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return [f"http://{host}:{first + 10 * n}" for first in (8001, 8002) for n in range(REPLICAS)]


def ask(address: str, tls: ssl.SSLContext | None = None) -> Health:
    """The health of one address; never raises."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=TIMEOUT_S, context=tls) as answer:
            return Health(address, answer.status, _object(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Health(address, error.code, _object(error.read()))
    except urllib.error.URLError as error:
        untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        return Health(address, None, {"status": "bad certificate"} if untrusted else {})
    except (OSError, ValueError):
        return Health(address, None, {})


def resident_memory(replica: Health) -> float | None:
    """Bytes of memory that a replica's process holds, by its metrics."""
    try:
        with urllib.request.urlopen(f"{replica.address}/metrics", timeout=TIMEOUT_S) as answer:
            found = re.search(rb"^process_resident_memory_bytes (\S+)", answer.read(), re.MULTILINE)
            return float(found[1]) if found else None
    except (OSError, ValueError):
        return None


def _object(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
