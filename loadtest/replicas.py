"""Reads what replicas, nginx and the machine tell of themselves during a run, every few seconds, on threads of its own.

Replicas are asked on their direct ports, so that scaling and restarts show. What can't be read is a reading with `up` 0
where it was there before, and nothing where it never was. Records go to a callback, one each.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from loadtest.events import Replica, Service

log = logging.getLogger(__name__)

EVERY_S = 5.0
TIMEOUT_S = 2.0
"""Of one request; a replica that takes longer counts as down for this reading."""
MOST_BYTES = 2**20
"""Of one answer that are read; a replica's metrics are some 20 kB."""
MOST = 6
"""Replicas of a service, by nginx's direct ports."""
PORTS: Mapping[Service, int] = {"asr": 8001, "tts": 8002}
"""Of a service's first replica; the next is ten higher."""

# What is kept of the metrics, each with its name for one service and the other.
UP = ("up",)
"""1 while it serves (`/health` says `ok`), else 0."""
ACTIVE = ("asr_active_connections", "tts_active_connections")
QUEUE = ("asr_queue_depth", "tts_queue_depth")
RESIDENT = ("process_resident_memory_bytes",)
CPU_SECONDS = ("process_cpu_seconds_total",)
ENGINE_SECONDS = ("asr_decode_seconds_sum", "tts_chunk_seconds_sum")
DECODED_SECONDS = ("asr_decoded_audio_seconds_total", "tts_rendered_seconds_total")
WAIT_SECONDS = ('asr_queue_wait_seconds_sum{kind="final"}', "tts_queue_wait_seconds_sum")
WAIT_COUNT = ('asr_queue_wait_seconds_count{kind="final"}', "tts_queue_wait_seconds_count")
SCRAPED = (ACTIVE, QUEUE, RESIDENT, CPU_SECONDS, ENGINE_SECONDS, DECODED_SECONDS, WAIT_SECONDS, WAIT_COUNT)
FAMILIES = frozenset(metric.partition("{")[0] for metrics in SCRAPED for metric in metrics)
"""Names of the samples that are kept."""
GPU_BUSY = ("gpu_utilization",)
"""0 to 1; with the next two from `/health`, which asks NVML."""
GPU_MEMORY = ("gpu_memory_used_bytes",)
GPU_MEMORY_TOTAL = ("gpu_memory_total_bytes",)
NGINX_ACTIVE = ("nginx_connections_active",)
MACHINE_BUSY = ("machine_cpu_busy",)
"""Share of all cores since the reading before, 0 to 1."""
MACHINE_MEMORY = ("machine_memory_used_bytes",)

Put = Callable[[Replica], None]


class NotThere(Exception):
    """No replica answers at an address."""


def direct_urls(service: Service, host: str = "127.0.0.1") -> list[str]:
    """Where nginx offers the replicas of a service one by one, whether or not they exist."""
    return [f"http://{host}:{PORTS[service] + 10 * number}" for number in range(MOST)]


def read_replica(service: Service, url: str, timeout_s: float = TIMEOUT_S) -> Replica:
    """What the replica at that address says now. Raises `NotThere`."""
    health = read_health(url, timeout_s)
    try:
        values = parse(_get(f"{url}/metrics", timeout_s).decode())
    except ValueError as error:
        raise NotThere(f"{url}/metrics: {error}") from error
    values[UP[0]] = float(health["status"] == "ok")
    gpu = health.get("gpu")
    if gpu:
        values[GPU_BUSY[0]] = gpu["utilization"] / 100
        values[GPU_MEMORY[0]] = gpu["memory_used_mb"] * 2.0**20
        values[GPU_MEMORY_TOTAL[0]] = gpu["memory_total_mb"] * 2.0**20
    return Replica(at=time.time(), instance=health["instance"], service=service, values=values)


def read_health(url: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """What `/health` says, also of a replica that can't serve. Raises `NotThere`, for nginx's own answer too."""
    try:
        health = json.loads(_get(f"{url}/health", timeout_s))
    except ValueError as error:
        raise NotThere(f"{url}/health: {error}") from error
    if not isinstance(health, dict) or "instance" not in health:
        raise NotThere(f"{url}/health: no replica there")
    return health


def parse(text: str) -> dict[str, float]:
    """Of the text of `/metrics`, the samples that the report uses. Raises `ValueError`."""
    return {
        _written(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in FAMILIES
    }


def _written(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inner}}}" if inner else name


def read_nginx(url: str, timeout_s: float = TIMEOUT_S) -> Replica:
    """Its open connections, by the text of `stub_status` at that address. Raises `NotThere`."""
    try:
        words = _get(url, timeout_s).decode().split()
        return Replica(at=time.time(), instance="nginx", service="nginx", values={NGINX_ACTIVE[0]: float(words[2])})
    except (ValueError, IndexError) as error:
        raise NotThere(f"{url}: {error}") from error


class Machine:
    """The processor and memory of the machine that this runs on; /proc tells the host's, in a container too."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._before = self._times()

    def read(self) -> Replica:
        """Since the reading before. Raises `OSError`."""
        busy, every = self._times()
        busy_before, every_before = self._before
        self._before = busy, every
        values = {MACHINE_MEMORY[0]: self._memory()}
        if every > every_before:
            values[MACHINE_BUSY[0]] = (busy - busy_before) / (every - every_before)
        return Replica(at=time.time(), instance="machine", service="machine", values=values)

    def _times(self) -> tuple[int, int]:
        """Ticks of all cores that were busy, and all. Fields: user nice system idle iowait irq softirq steal guest …"""
        line = (self._proc / "stat").read_text(encoding="ascii").partition("\n")[0]
        ticks = [int(word) for word in line.split()[1:9]]  # guests' are within user and nice
        every = sum(ticks)
        return every - ticks[3] - ticks[4], every

    def _memory(self) -> float:
        lines = (self._proc / "meminfo").read_text(encoding="ascii").splitlines()
        kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
        return float(kib["MemTotal"] - kib["MemAvailable"]) * 1024


class Watcher:
    """Reads everything until `stop`, or for the time of a `with`. `put` is called on a thread of this object."""

    def __init__(
        self,
        put: Put,
        urls: Mapping[Service, Sequence[str]],
        nginx_status: str | None = None,
        machine: Machine | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        """`urls` as `direct_urls` gives them; None for what is not to be read."""
        self._put = put
        self._replicas = [(service, url) for service, each in urls.items() for url in each]
        self._nginx_status = nginx_status
        self._machine = machine
        self._every_s = every_s
        self._known: dict[str, Replica] = {}
        self._readers = ThreadPoolExecutor(max_workers=max(1, len(self._replicas)), thread_name_prefix="replicas")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the reading that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._readers.shutdown()

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def read_once(self) -> list[Replica]:
        """One reading of everything that answers, replicas at the same time."""
        found = [each for each in self._readers.map(self._read_replica, self._replicas) if each is not None]
        try:
            if self._nginx_status is not None:
                found.append(read_nginx(self._nginx_status))
        except NotThere as error:
            log.debug("%s", error)
        if self._machine is not None:
            found.append(self._machine.read())
        return found

    def _read_replica(self, where: tuple[Service, str]) -> Replica | None:
        service, url = where
        try:
            self._known[url] = read_replica(service, url)
            return self._known[url]
        except NotThere as error:
            log.debug("%s", error)
        before = self._known.get(url)
        return before and Replica(at=time.time(), instance=before.instance, service=service, values={UP[0]: 0.0})

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._every_s, time.monotonic())  # what is late is not made up for
            try:
                for reading in self.read_once():
                    self._put(reading)
            except Exception:
                log.exception("a reading of the replicas failed; the next is tried")


def describe(urls: Mapping[Service, Sequence[str]], timeout_s: float = TIMEOUT_S) -> dict[str, str]:
    """What serves, for a run's settings: of each service, how many replicas run which model on what."""
    told: dict[str, str] = {}
    for service, each in urls.items():
        kinds: Counter[str] = Counter()
        for url in each:
            try:
                health = read_health(url, timeout_s)
            except NotThere:
                continue
            model = health.get("model") or health.get("voice")
            kinds[f"{model}, {health.get('device')}, {health.get('compute_type')}"] += 1
        told[service] = "; ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items())) or "no replica answers"
    return told


def _get(url: str, timeout_s: float) -> bytes:
    """The body of an answer, whatever its status. Raises `NotThere`."""
    try:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                return bytes(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                return error.read(MOST_BYTES)
    except (OSError, HTTPException) as error:
        raise NotThere(f"{url}: {error}") from error
