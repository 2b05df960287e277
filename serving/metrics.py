"""Prometheus metrics that both services have, under the prefix of the service (`asr_`, `tts_`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from chorus.wire.common import CloseCode, ErrorCode
from serving.state import ReplicaState, Status

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 0.8, 1, 1.5, 2, 3, 5, 10, 30)
"""Seconds; dense where a listener notices, with room to see an overload."""


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures: CPU, memory, file descriptors, garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


MAX_KEY_LABELS = 100
"""Names of API keys with a time series each, in the order of their first use; those after them are `other`."""
_CLOSE_CODES = frozenset(CloseCode)


class ConnectionMetrics:
    """What happens to streams, whichever the service."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self.active = Gauge(f"{prefix}_active_connections", "Streams open now", registry=registry)
        self.accepted = Counter(f"{prefix}_connections_accepted", "Streams accepted", registry=registry)
        self.by_key = Counter(
            f"{prefix}_connections_by_key",
            "Streams accepted with an API key, by its name",
            ["key"],
            registry=registry,
        )
        self._key_labels: set[str] = set()
        self.refused = Counter(
            f"{prefix}_connections_refused",
            "Streams refused before the upgrade, by HTTP status",
            ["status"],
            registry=registry,
        )
        self.closed = Counter(
            f"{prefix}_connections_closed",
            "Streams ended, by WebSocket close code; other for codes of a client's own",
            ["code"],
            registry=registry,
        )
        self.errors = Counter(f"{prefix}_errors", "Errors told to clients, by code", ["code"], registry=registry)
        for code in get_args(ErrorCode):
            self.errors.labels(code)  # from 0 on: a counter that appears with its first error shows no increase

    def count_closed(self, code: int) -> None:
        """A stream has ended; 2000 codes are free for clients to choose, and each would be a series for good."""
        self.closed.labels(str(int(code)) if code in _CLOSE_CODES else "other").inc()

    def count_accepted(self, key: str | None) -> None:
        """A stream was accepted, with the API key of this name or without one."""
        self.accepted.inc()
        if key is None:
            return
        if key not in self._key_labels and len(self._key_labels) < MAX_KEY_LABELS:
            self._key_labels.add(key)
        self.by_key.labels(key if key in self._key_labels else "other").inc()


def gauge_from(name: str, help_text: str, read: Callable[[], float], registry: CollectorRegistry) -> None:
    """A gauge whose value is read at each scrape."""
    Gauge(name, help_text, registry=registry).set_function(read)


def replica_metrics(
    prefix: str,
    state: ReplicaState,
    *,
    drain_s: float,
    sockets: Callable[[], int],
    tasks: Callable[[], int],
    registry: CollectorRegistry,
) -> None:
    """What a replica is doing as a whole, read at each scrape: `sockets` are WebSockets, `tasks` the event loop's."""
    status = Gauge(f"{prefix}_status", "1 for what /health reports, 0 for the others", ["status"], registry=registry)
    for each in get_args(Status):
        status.labels(each).set_function(partial(_is, state, each))
    info = Gauge(
        f"{prefix}_replica_info", "Always 1; the label is what /health calls instance", ["replica"], registry=registry
    )
    info.labels(state.instance).set(1)
    for name, help_text, read in (
        ("max_connections", "Streams that may be open at once", lambda: state.max_connections),
        ("slots_taken", "Slots that streams hold; not for long above the sockets", lambda: state.active_connections),
        ("stream_sockets", "WebSockets that exist, handshakes and refusals included", sockets),
        ("asyncio_tasks", "Tasks of the event loop; those of a stream go with it", tasks),
        ("draining_seconds", "For how long the replica has been draining, 0 while it is not", lambda: state.draining_s),
        ("drain_limit_seconds", "How long it may take", lambda: drain_s),
    ):
        gauge_from(f"{prefix}_{name}", help_text, read, registry)


def _is(state: ReplicaState, status: Status) -> float:
    return float(state.status == status)


def metrics_endpoint(registry: CollectorRegistry) -> Callable[[Request], Response]:
    """The handler of `GET /metrics`."""

    def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return metrics
