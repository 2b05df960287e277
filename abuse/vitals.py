"""What a replica says of itself, and what must be the same after abuse as before it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import Any

from abuse.targets import Target
from benchmarks.metrics import read_metrics

SETTLE_S = 60.0
"""For what a client left behind to be freed: slots within a second, sockets with the close's own timeout."""
RSS_SLACK_MB = 48.0
"""By which resident memory may have grown: allocators keep some, and a metric's new label is memory too."""


@dataclass(frozen=True)
class Vitals:
    """Of one replica, at rest."""

    uptime_s: float
    active: int
    """Slots that streams hold."""
    sockets: float
    """WebSockets that exist."""
    tasks: float
    """Of its event loop."""
    descriptors: float
    rss_mb: float
    internal: float
    """Errors told as our fault, so far."""

    def as_dict(self) -> dict[str, float]:
        """For a report."""
        return asdict(self)


def health(target: Target) -> dict[str, Any]:
    """What `/health` says, of a replica that serves or not. Raises `OSError`."""
    url = f"http://{target.host}:{target.admin_port}/health"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def read(target: Target) -> Vitals:
    """Of this moment. Raises `OSError` where the replica does not answer."""
    found = health(target)
    metrics = read_metrics(f"http://{target.host}:{target.admin_port}/metrics")
    prefix = target.service
    return Vitals(
        uptime_s=float(found["uptime_s"]),
        active=int(found["active_connections"]),
        sockets=metrics[f"{prefix}_stream_sockets"],
        tasks=metrics[f"{prefix}_asyncio_tasks"],
        descriptors=metrics["process_open_fds"],
        rss_mb=metrics["process_resident_memory_bytes"] / 2**20,
        internal=metrics[f"{prefix}_errors_total,internal"],
    )


def settled(target: Target, before: Vitals | None = None, *, within_s: float = SETTLE_S) -> Vitals:
    """Once no stream is open, and, with `before`, tasks and descriptors are as they were; as it is when time is up."""
    until = time.monotonic() + within_s
    while True:
        try:
            now = read(target)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(1)
            continue
        calm = now.active == 0 and now.sockets == 0
        if before is not None:
            calm = calm and now.tasks <= before.tasks and now.descriptors <= before.descriptors
        if calm or time.monotonic() > until:
            return now
        time.sleep(0.2)


def lost(before: Vitals, after: Vitals) -> list[str]:
    """What a settled replica has lost or kept; empty where all is as before."""
    found = []
    if after.uptime_s < before.uptime_s:
        found.append("the process was started anew")
    for name, was, now in (
        ("active connections", 0, after.active),
        ("sockets", 0, after.sockets),
        ("tasks", before.tasks, after.tasks),
        ("descriptors", before.descriptors, after.descriptors),
    ):
        if now > was:
            found.append(f"{name}: {now:g}, {was:g} before")
    if after.internal > before.internal:
        found.append(f"{after.internal - before.internal:g} errors of our own")
    return found
