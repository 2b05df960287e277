"""What replicas, nginx and the machine told of themselves, from totals to what happened between two readings."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from loadtest.events import Replica
from loadtest.replicas import (
    ACTIVE,
    CPU_SECONDS,
    DECODED_SECONDS,
    ENGINE_SECONDS,
    GPU_BUSY,
    GPU_MEMORY,
    GPU_MEMORY_TOTAL,
    MACHINE_BUSY,
    MACHINE_MEMORY,
    NGINX_ACTIVE,
    QUEUE,
    RESIDENT,
    UP,
    WAIT_COUNT,
    WAIT_SECONDS,
)

AS_READ = {
    "up": UP,
    "connections": ACTIVE,
    "queue": QUEUE,
    "memory_bytes": RESIDENT,
    "gpu": GPU_BUSY,
    "vram_bytes": GPU_MEMORY,
    "vram_total_bytes": GPU_MEMORY_TOTAL,
    "nginx_connections": NGINX_ACTIVE,
    "machine_cpu": MACHINE_BUSY,
    "machine_memory_bytes": MACHINE_MEMORY,
}
"""What is shown as it was read, by the metrics that tell it: the first that is there, summed over its labels."""
RATES = {
    "real_time_factor": (ENGINE_SECONDS, DECODED_SECONDS),
    "queue_wait_s": (WAIT_SECONDS, WAIT_COUNT),
}
"""One counter's growth by another's, between two readings."""


class Figures(msgspec.Struct, frozen=True):
    """What a replica, nginx or the machine told over the run, by its name in `AS_READ`, `RATES` or `cpu` (in cores)."""

    service: str
    instance: str
    mean: dict[str, float]
    most: dict[str, float]


@dataclass
class Readings:
    """Of one replica, nginx or the machine: name to the moments and values."""

    service: str
    instance: str
    when: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    values: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))

    def put(self, name: str, at: float, value: float) -> None:
        """Add one value."""
        self.when[name].append(at)
        self.values[name].append(value)


class Server:
    """All readings of a run."""

    def __init__(self) -> None:
        self.readings: dict[tuple[str, str], Readings] = {}
        self._before: dict[tuple[str, str], Replica] = {}

    def add(self, event: Replica) -> None:
        """Take one reading; those of one instance come in their order."""
        key = event.service, event.instance
        found = self.readings.setdefault(key, Readings(event.service, event.instance))
        for name, metrics in AS_READ.items():
            value = total(event.values, metrics)
            if value is not None:
                found.put(name, event.at, value)
        if total(event.values, UP) == 0:
            return  # it tells nothing else; the next is compared with the last that did
        before = self._before.get(key)
        self._before[key] = event
        if before is None or event.at <= before.at:
            return
        cpu = growth(before, event, CPU_SECONDS)
        if cpu is not None:
            found.put("cpu", event.at, cpu / (event.at - before.at))
        for name, (above, below) in RATES.items():
            more, by = growth(before, event, above), growth(before, event, below)
            if more is not None and by:
                found.put(name, event.at, more / by)

    def figures(self) -> list[Figures]:
        """Of everything that was read, in order."""
        return [
            Figures(
                each.service,
                each.instance,
                {name: sum(values) / len(values) for name, values in each.values.items()},
                {name: max(values) for name, values in each.values.items()},
            )
            for _, each in sorted(self.readings.items())
        ]

    def instances(self, service: str) -> list[str]:
        """Of a service, in order."""
        return sorted(instance for kind, instance in self.readings if kind == service)


def total(values: dict[str, float], metrics: Iterable[str]) -> float | None:
    """The sum over all labels of the first of those metrics that is there; None where none is."""
    for metric in metrics:
        found = [value for name, value in values.items() if name == metric or name.startswith(metric + "{")]
        if found:
            return sum(found)
    return None


def growth(before: Replica, now: Replica, metrics: Iterable[str]) -> float | None:
    """How much that counter has grown; None where it is not there, or began anew in between."""
    first, last = total(before.values, metrics), total(now.values, metrics)
    return None if first is None or last is None or last < first else last - first
