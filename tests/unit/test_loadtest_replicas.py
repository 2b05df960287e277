"""What is read of replicas, nginx and the machine during a load test."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from asr.metrics import AsrMetrics
from loadtest import replicas
from loadtest.events import Replica, Service
from loadtest.replicas import (
    MACHINE_BUSY,
    MACHINE_MEMORY,
    NGINX_ACTIVE,
    SCRAPED,
    Machine,
    NotThere,
    Watcher,
    describe,
    direct_urls,
    parse,
    read_nginx,
    read_replica,
)
from loadtest.report.server import total
from serving.metrics import ConnectionMetrics, gauge_from, new_registry
from tests.conftest import eventually
from tts.metrics import TtsMetrics

pytestmark = pytest.mark.unit

HEALTH = {"status": "ok", "service": "asr", "instance": "a1", "model": "tiny", "device": "cpu", "compute_type": "int8"}
METRICS = "# TYPE asr_queue_depth gauge\nasr_queue_depth 3.0\n# TYPE other gauge\nother 1.0\n"
GONE = {"error": {"code": "overloaded", "message": "this replica is not running or not ready"}}


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what its server was told to, by path."""

    def do_GET(self) -> None:
        """The body at that path; None: no answer at all."""
        status, body = self.server.answers[self.path]  # type: ignore[attr-defined]
        if body is None:
            self.server.over.wait(10)  # type: ignore[attr-defined]
            return
        told = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def answering(answers: dict[str, tuple[int, Any]]) -> Iterator[str]:
    """The URL of a server that gives those answers, which may be changed meanwhile."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.answers, server.over = answers, threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.over.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


def a_replica(**health: object) -> dict[str, tuple[int, Any]]:
    return {"/health": (200, HEALTH | health), "/metrics": (200, METRICS.encode())}


@pytest.mark.parametrize("service", ["asr", "tts"])
def test_replicas_tell_what_is_kept(service: Service) -> None:
    """Every metric that the report uses is in what a replica of that service says, by its own code."""
    registry = new_registry()
    if service == "asr":
        asr = AsrMetrics(registry)
        asr.decoded("final", 1, 16000, 0.1, [])
        asr.queue_wait.labels("final").observe(0.1)
    else:
        TtsMetrics(registry).rendered_batch(0.1, 1.0, 1)
    ConnectionMetrics(service, registry)
    gauge_from(f"{service}_queue_depth", "", lambda: 2.0, registry)
    found = parse(generate_latest(registry).decode())
    missing = [metrics for metrics in SCRAPED if total(found, metrics) is None]
    assert missing == []
    assert found[f"{service}_queue_depth"] == 2
    assert len(found) < 30


def test_a_reading_has_the_instance_and_the_gpu_from_health() -> None:
    """The rest of what is kept from the metrics, and nothing else."""
    gpu = {"index": 0, "name": "a GPU", "memory_used_mb": 1024, "memory_total_mb": 4096, "utilization": 40}
    with answering(a_replica(gpu=gpu)) as url:
        found = read_replica("asr", url)
    assert (found.instance, found.service) == ("a1", "asr")
    assert found.values == {
        "up": 1,
        "asr_queue_depth": 3,
        "gpu_utilization": 0.4,
        "gpu_memory_used_bytes": 2**30,
        "gpu_memory_total_bytes": 2**32,
    }


def test_a_replica_that_drains_is_read_and_does_not_serve() -> None:
    """Its health is 503 with the same JSON."""
    answers = a_replica()
    answers["/health"] = 503, HEALTH | {"status": "draining"}
    with answering(answers) as url:
        assert read_replica("asr", url).values["up"] == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"/health": (503, GONE)},
        {"/health": (200, b"<html>")},
        {"/health": (200, ["no", "object"])},
        {"/health": (200, None)},
        {"/metrics": (200, None)},
        {"/metrics": (200, b"asr_queue_depth not a number\n")},
        {"/metrics": (200, b"\xff\xfe")},
    ],
)
def test_what_is_no_replica_is_not_there(broken: dict[str, tuple[int, Any]]) -> None:
    """Whatever answers in its place, or does not."""
    with answering(a_replica() | broken) as url, pytest.raises(NotThere):
        read_replica("asr", url, timeout_s=0.3)


def test_nobody_listens() -> None:
    """A refused connection is no replica either."""
    with answering({}) as url:
        pass
    with pytest.raises(NotThere):
        read_replica("asr", url)
    with pytest.raises(NotThere):
        read_nginx(url)


def test_the_watcher_tells_when_a_replica_goes() -> None:
    """As one that does not serve, if it was there before; what never was is not told of, and stops nobody else."""
    here, gone = a_replica(), {"/health": (503, GONE)}
    with answering(here) as url, answering(a_replica(instance="a2")) as other, answering(gone) as nowhere:
        watcher = Watcher(lambda _: None, {"asr": [url, other, nowhere]}, nginx_status=nowhere + "/health")
        assert [each.instance for each in watcher.read_once()] == ["a1", "a2"]
        here["/health"] = 503, GONE
        down, up = watcher.read_once()
        assert (down.instance, down.values) == ("a1", {"up": 0})
        assert up.values["up"] == 1
        here["/health"] = 200, HEALTH | {"instance": "a3"}
        assert [each.instance for each in watcher.read_once()] == ["a3", "a2"]
        watcher.stop()


async def test_the_watcher_reads_on_its_own_thread_until_it_ends() -> None:
    """Whatever becomes of a reading."""
    found: list[tuple[Replica, str]] = []

    def put(reading: Replica) -> None:
        found.append((reading, threading.current_thread().name))
        if len(found) == 1:
            raise ValueError("the first can't be taken")

    before = threading.active_count()
    with answering(a_replica()) as url:
        with Watcher(put, {"asr": [url]}, every_s=0.01):
            await eventually(lambda: len(found) >= 3)
        after = len(found)
        await asyncio.sleep(0.05)
        assert len(found) == after
    assert {name for _, name in found} == {"replicas"}
    assert threading.active_count() == before


def test_nginx_status() -> None:
    """The text of stub_status."""
    text = b"Active connections: 241 \nserver accepts handled requests\n 9 9 9 \nReading: 0 Writing: 1 Waiting: 0 \n"
    with answering({"/nginx_status": (200, text)}) as url:
        assert read_nginx(url + "/nginx_status").values == {NGINX_ACTIVE[0]: 241}
    with answering({"/nginx_status": (403, b"")}) as url, pytest.raises(NotThere):
        read_nginx(url + "/nginx_status")


def test_the_machine(tmp_path: Path) -> None:
    """Busy by all ticks since the reading before: 20 of 50 here, where waiting for a disk is not being busy."""
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\n")
    (tmp_path / "stat").write_text("cpu  100 0 50 800 50 0 0 0 30 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    machine = Machine(tmp_path)
    assert machine.read().values == {MACHINE_MEMORY[0]: 600 * 1024}
    (tmp_path / "stat").write_text("cpu  110 0 55 820 60 0 5 0 40 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert machine.read().values == {MACHINE_MEMORY[0]: 600 * 1024, MACHINE_BUSY[0]: pytest.approx(20 / 50)}
    assert Machine().read().values[MACHINE_MEMORY[0]] > 0


def test_what_serves_in_words() -> None:
    """Replicas by what they run, for the settings of a report."""
    with (
        answering(a_replica()) as one,
        answering(a_replica(model="base")) as two,
        answering({"/health": (503, GONE)}) as no,
    ):
        assert describe({"asr": [one, one, two, no], "tts": [no]}) == {
            "asr": "1 × base, cpu, int8; 2 × tiny, cpu, int8",
            "tts": "no replica answers",
        }


def test_direct_ports() -> None:
    """Those that nginx offers."""
    assert direct_urls("tts", "nginx")[::5] == ["http://nginx:8002", "http://nginx:8052"]
    assert len(direct_urls("asr")) == replicas.MOST
