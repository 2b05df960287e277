"""nginx in front of replicas that do as they are told: capacity, refusals, death, health, logs.

Containers of its own on a network of its own, with no published port but on the loopback address; the stack that runs
beside them is not touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.stack

FAKE = Path(__file__).with_name("fake_replica.py").read_text(encoding="utf-8")
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}
STREAM = "/v1/stream/asr"
CAPACITY = 5


def docker(*arguments: str, stderr: bool = False) -> str:
    """Output of a docker command, with `stderr` what it wrote there too."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr if stderr else done.stdout).strip()


def until(true: Callable[[], bool]) -> None:
    """Wait for a container's state to change."""
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within ten seconds")


def published(container: str, port: int) -> int:
    """Where a container's port is on this machine."""
    return int(docker("port", container, str(port)).splitlines()[0].rsplit(":", 1)[1])


@dataclass
class Answer:
    """What came back, and the socket where it is held open."""

    status: int
    headers: dict[str, list[str]]
    body: bytes
    seconds: float
    reader: asyncio.StreamReader | None = field(default=None, repr=False)
    writer: asyncio.StreamWriter | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    """The server's, in DER, where the connection is TLS."""

    @property
    def json(self) -> Any:
        """The body, which must be JSON and say so."""
        assert self.headers["content-type"][0].split(";")[0] == "application/json", self
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The protocol's error code."""
        code: str = self.json["error"]["code"]
        return code

    async def close(self) -> None:
        """End a held stream."""
        if self.writer is not None:
            self.writer.close()


open_streams: list[asyncio.StreamWriter] = []
"""Closed after each test, however it ended."""


async def raw(port: int, data: bytes, tls: ssl.SSLContext | None = None) -> Answer:
    """Send bytes, read an answer; one with status 101 is held open."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(data)
    headers: dict[str, list[str]] = {}
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        for line in head[1:-2]:
            name, value = line.split(": ", 1)
            headers.setdefault(name.lower(), []).append(value)
        answer = Answer(int(head[0].split()[1]), headers, b"", time.monotonic() - started)
        if tls is not None:
            answer.certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if answer.status == 101:
            answer.reader, answer.writer = reader, writer
            open_streams.append(writer)
        else:
            answer.body = await reader.readexactly(int(headers["content-length"][0]))
            writer.close()
    return answer


async def get(
    port: int, path: str = STREAM, headers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Answer:
    """One request; with `UPGRADE` among the headers it is a stream."""
    given = {"Host": "chorus", "Connection": "close", **(headers or {})}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return await raw(port, "\r\n".join([*lines, "", ""]).encode("latin-1"), tls)


class Stage:
    """A network with three fake ASR replicas, and nginx in front of them as often as a test wants another."""

    def __init__(self) -> None:
        """Start the replicas."""
        self.name = f"chorus-test-{os.getpid()}"
        self.containers: list[str] = []
        self.orders: dict[str, int] = {}
        docker("network", "create", self.name)
        for number in (1, 2, 3):
            aliases = ("--network-alias", "asr", "--network-alias", f"chorus-asr-{number}")
            name = self.run(f"asr-{number}", *aliases, "--publish", "127.0.0.1::7000",
                            "--entrypoint", "python3", "chorus/models", "-c", FAKE)  # fmt: skip
            self.orders[name] = published(name, 7000)
        for name in self.orders:
            until(lambda name=name: "ready" in docker("logs", name))  # type: ignore[misc]
        self.replicas = list(self.orders)

    def run(self, name: str, *arguments: str) -> str:
        """Start a container on the network; returns its name."""
        name = f"{self.name}-{name}"
        self.containers.append(name)
        docker("run", "--detach", "--init", "--name", name, "--network", self.name, "--read-only", "--cap-drop", "ALL",
               "--security-opt", "no-new-privileges:true", *arguments)  # fmt: skip
        return name

    def nginx(self, name: str, *options: str, **env: str) -> str:
        """Start another nginx with these settings and wait until it serves."""
        ports = [part for port in (8000, 8001, 8003, 8011, 8041, 8080) for part in ("--publish", f"127.0.0.1::{port}")]
        given = [part for key, value in env.items() for part in ("--env", f"{key}={value}")]
        front = self.run(name, "--tmpfs", "/tmp:mode=1777", *ports, *given, *options, "chorus/nginx")
        check = ["docker", "exec", front, "healthcheck", "8080"]
        until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0)
        return front

    async def order(self, *replicas: str, **modes: str) -> list[int]:
        """Tell replicas (all where none is named) how to behave; returns the streams that each holds."""
        query = "&".join(f"{key}={value}" for key, value in modes.items())
        answers = [await get(self.orders[each], f"/set?{query}") for each in replicas or self.replicas]
        return [answer.json["held"] for answer in answers]

    async def settled(self, total: int) -> list[int]:
        """Streams of each replica, once so many are held in all."""
        async with asyncio.timeout(10):
            while sum(held := await self.order()) != total:
                await asyncio.sleep(0.05)
        return held

    def remove(self) -> None:
        """Leave nothing behind."""
        subprocess.run(["docker", "rm", "--force", "--volumes", *self.containers], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", self.name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Replicas for every test of this module."""
    made = Stage()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def front(stage: Stage) -> str:
    """nginx with a small capacity."""
    return stage.nginx("front", ASR_MAX_CONNECTIONS=str(CAPACITY), NGINX_RETRY_AFTER_S="9")


@pytest.fixture
async def calm(stage: Stage, front: str) -> AsyncIterator[None]:
    """Every replica serves and holds no stream, before a test and after it."""
    await stage.order(stream="ok", health="ok")
    yield
    while open_streams:
        open_streams.pop().close()
    await stage.settled(0)


async def streams(port: int, count: int) -> tuple[list[Answer], list[Answer]]:
    """So many at once: those accepted (held) and those refused."""
    answers = await asyncio.gather(*(get(port, headers=UPGRADE) for _ in range(count)))
    return [each for each in answers if each.status == 101], [each for each in answers if each.status != 101]


async def test_capacity_is_exact_and_a_burst_is_forgotten(stage: Stage, front: str, calm: None) -> None:
    """Above three times five, every stream gets 503 with the protocol's JSON; a full cluster is healthy."""
    port = published(front, 8000)
    for _ in range(2):
        accepted, refused = await streams(port, 40)
        assert (len(accepted), len(refused)) == (3 * CAPACITY, 25)
        assert await stage.settled(3 * CAPACITY) == [CAPACITY] * 3
        assert {(each.status, each.code, each.headers["retry-after"][0]) for each in refused} == {
            (503, "overloaded", "9")
        }
        assert (await get(port, "/health")).status == 200
        for each in accepted:
            await each.close()
        await stage.settled(0)


async def test_streams_are_spread_evenly(stage: Stage, front: str, calm: None) -> None:
    """least_conn: one after the other, each replica has as many."""
    for _ in range(9):
        assert (await get(published(front, 8000), headers=UPGRADE)).status == 101
    assert await stage.settled(9) == [3, 3, 3]


async def test_a_replicas_refusal_passes_through_and_is_no_failure(stage: Stage, front: str, calm: None) -> None:
    """Its status, body and Retry-After are its own; the next moment it is asked again."""
    port = published(front, 8000)
    await stage.order(stream="refuse")
    for _ in range(12):
        answer = await get(port, headers=UPGRADE)
        assert (answer.status, answer.headers["retry-after"]) == (503, ["7"])
        assert answer.json["error"]["message"] == "the replica's own words"
    await stage.order(stream="ok")
    _, refused = await streams(port, 3 * CAPACITY)
    assert not refused
    assert await stage.settled(3 * CAPACITY) == [CAPACITY] * 3


async def test_a_replica_that_does_not_listen_is_passed_over(stage: Stage, front: str, calm: None) -> None:
    """A refused connect costs nobody anything; with none left the answer is the protocol's 503."""
    port = published(front, 8000)
    first, second, third = stage.replicas
    await stage.order(first, stream="closed")
    answers = [await get(port, "/echo") for _ in range(12)]
    assert {each.status for each in answers} == {200}
    assert max(each.seconds for each in answers) < 2
    await stage.order(second, third, stream="closed")
    answer = await get(port, headers=UPGRADE)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", ["9"])


async def test_health_is_that_of_the_cluster(stage: Stage, front: str, calm: None) -> None:
    """200 while any replica is ready, the service's own 503 while none is, and 503 where nobody answers."""
    port = published(front, 8000)
    first, *others = stage.replicas
    await stage.order(*others, health="loading")
    for _ in range(6):
        assert (await get(port, "/health")).json["status"] == "ok"
    await stage.order(first, health="loading")
    answer = await get(port, "/health")
    assert (answer.status, answer.json["status"]) == (503, "loading")
    await stage.order(health="closed")
    answer = await get(port, "/health")
    assert (answer.status, answer.code) == (503, "overloaded")
    await stage.order(health="ok")
    assert (await get(port, "/health")).status == 200
    assert (await get(published(front, 8003), "/health")).code == "overloaded"


async def test_health_is_told_soon_though_a_replica_is_frozen(stage: Stage, front: str, calm: None) -> None:
    """A balancer's probe waits seconds, not for the time that a stream may be silent."""
    docker("pause", stage.replicas[0])
    try:
        answers = await asyncio.gather(*(get(published(front, 8000), "/health") for _ in range(6)))
    finally:
        docker("unpause", stage.replicas[0])
    assert {each.status for each in answers} == {200}
    assert max(each.seconds for each in answers) < 5


async def test_direct_ports_reach_one_replica_each(stage: Stage, front: str, calm: None) -> None:
    """Streams on its stream port, health and metrics on its admin port, whatever its state; a missing one is 503."""
    hosts = {(await get(published(front, port), "/echo")).json["host"] for port in (8001, 8011)}
    assert len(hosts) == 2
    await stage.order(stage.replicas[0], stream="closed", health="loading")
    answer = await get(published(front, 8001), "/health")
    assert (answer.status, answer.json["status"]) == (503, "loading")
    answer = await get(published(front, 8001), "/metrics")
    assert answer.json["target"] == "/metrics"
    answer = await get(published(front, 8001), headers=UPGRADE)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", ["9"])
    answer = await get(published(front, 8041), headers=UPGRADE)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", ["9"])


async def test_unknown_paths_are_told_in_json(front: str, calm: None) -> None:
    """A path that the service does not know is its own 404; metrics of a cluster there are none."""
    port = published(front, 8000)
    answer = await get(port, "/nowhere")
    assert (answer.status, answer.json["error"]["message"]) == (404, "the replica's 404")
    answer = await get(port, "/metrics")
    assert (answer.status, answer.code) == (404, "bad_message")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_message"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431, "too_large"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "too_large"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", 413, "too_large"),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "bad_message"),
        (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505, "bad_message"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: brotli\r\n\r\n", 501, "bad_message"),
    ],
)
async def test_what_nginx_itself_refuses_is_told_in_json(
    front: str, calm: None, request_bytes: bytes, status: int, code: str
) -> None:
    """Not a page of HTML, on the balanced ports and the direct ones."""
    for port in (8000, 8001):
        answer = await raw(published(front, port), request_bytes)
        assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /echo HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_only_an_upgrade_as_it_must_be_reaches_a_replica(front: str, calm: None, request_bytes: bytes) -> None:
    """To WebSocket, by HTTP/1.1, with both headers; any other is a plain request."""
    for port in (8000, 8001):
        seen = (await raw(published(front, port), request_bytes)).json["headers"]
        assert (seen["connection"], seen.get("upgrade")) == ("close", None)


@pytest.mark.parametrize(
    ("given", "kept"), [("trace-1.2_3:4", True), ("a b", False), ('"}', False), ("x" * 129, False), (None, False)]
)
async def test_a_request_id_goes_through(front: str, calm: None, given: str | None, kept: bool) -> None:
    """A sane one of the client is kept, else there is a new one; replica, client and log have the same."""
    headers = {} if given is None else {"X-Request-ID": given}
    answer = await get(published(front, 8000), "/echo?secret=1", headers)
    (returned,) = answer.headers["x-request-id"]
    seen = answer.json["headers"]
    assert seen["x-request-id"] == returned
    assert seen["x-forwarded-for"]
    assert answer.json["target"] == "/echo?secret=1"
    assert (returned == given) is kept
    assert kept or len(returned) == 32
    assert returned in {entry["request_id"] for entry in log(front)}


def log(front: str) -> list[dict[str, Any]]:
    """The access log: every line on standard output must be JSON."""
    done = subprocess.run(["docker", "logs", front], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if not line.startswith(b"/docker-entrypoint")]


async def test_the_access_log_is_json_whatever_is_asked(front: str, calm: None) -> None:
    """Quotes, backslashes and control characters of a path; the log has the replica but never the query."""
    port = published(front, 8000)
    for path in ('/echo/%22%5C"\\', "/echo/%0A%09", "/echo/%C3%A4", "/echo?name=secret"):
        assert (await get(port, path)).status == 200
    await raw(port, b"\x16\x03\x01\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /echo/no-version\r\n")
    assert b"no-version" in await reader.read()
    writer.close()
    entries = log(front)
    served = [entry for entry in entries if entry["uri"] == '/echo/"\\"\\']
    assert len(served) == 1
    assert served[0]["status"] == 200
    assert served[0]["upstream"].endswith(":8001")
    assert float(served[0]["connect_seconds"]) < 2
    assert "secret" not in json.dumps(entries)


async def test_a_key_reaches_the_replica_and_no_log(stage: Stage, front: str, calm: None) -> None:
    """By header and by subprotocol. In the address it is refused, also with no replica left: that would be an error,
    and nginx writes the address of an error's request."""
    key = "chorus_" + 43 * "k"
    sent = {"Authorization": f"Bearer {key}", "Sec-WebSocket-Protocol": f"chorus, key.{key}"}
    seen = (await get(published(front, 8000), "/echo", sent)).json["headers"]
    assert (seen["authorization"], seen["sec-websocket-protocol"]) == tuple(sent.values())
    for mode in ("ok", "closed"):
        await stage.order(stream=mode)
        for port in (8000, 8001):
            for query in (f"key={key}", f"language=en&API_KEY={key}", f"access-token={key}"):
                answer = await get(published(front, port), f"{STREAM}?{query}", UPGRADE)
                assert (answer.status, answer.code) == (400, "bad_config")
        # By its direct port: failures there are not held against the replica afterwards.
        answer = await get(published(front, 8001), STREAM, UPGRADE | sent)
        assert answer.status == (101 if mode == "ok" else 503)
        await answer.close()
    written = docker("logs", front, stderr=True)
    assert f'request: "GET {STREAM}' in written
    assert key not in written


async def test_streams_of_one_address_can_be_limited(stage: Stage, calm: None) -> None:
    """The third of two is refused, health is not; nor is the status page to those who may not read it."""
    front = stage.nginx("limited", NGINX_CLIENT_CONNECTIONS="2", NGINX_STATUS_ALLOW="203.0.113.1")
    port = published(front, 8000)
    accepted = [await get(port, headers=UPGRADE) for _ in range(2)]
    assert {each.status for each in accepted} == {101}
    answer = await get(port, headers=UPGRADE)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "overloaded", ["5"])
    assert "address" in answer.json["error"]["message"]
    assert (await get(port, "/health")).status == 200
    answer = await get(published(front, 8080), "/nginx_status")
    assert (answer.status, answer.code) == (403, "bad_message")


@pytest.mark.parametrize("trusted", [True, False])
async def test_who_a_client_is_is_believed_of_a_trusted_proxy_alone(stage: Stage, calm: None, trusted: bool) -> None:
    """By X-Forwarded-For: its last address that is no trusted proxy's own. Nobody else's changes anything. Limit, log
    and replica go by the same address, and the replica is not told what a client says of itself."""
    peer = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", stage.name)
    proxies = f"{peer}, 198.51.100.0/24" if trusted else "198.51.100.0/24"
    front = stage.nginx(f"trusting-{trusted}", NGINX_TRUSTED_PROXIES=proxies, NGINX_CLIENT_CONNECTIONS="1")
    port = published(front, 8000)
    for told, client in (
        ("203.0.113.1", "203.0.113.1"),
        ("127.0.0.1, 203.0.113.2", "203.0.113.2"),
        ("127.0.0.1, 203.0.113.3, 198.51.100.7", "203.0.113.3"),
        ("no address", peer),
    ):
        expected = client if trusted else peer
        seen = (await get(port, "/echo", {"X-Forwarded-For": told, "X-Real-IP": "192.0.2.1"})).json["headers"]
        assert (seen["x-real-ip"], seen["x-forwarded-for"]) == (expected, expected)
        headers = UPGRADE | {"X-Forwarded-For": told}
        async with asyncio.timeout(10):
            while (held := await get(port, headers=headers)).status != 101:  # the request before may still count
                await asyncio.sleep(0.05)
        again = await get(port, headers=headers)
        assert (again.status, again.code, again.headers["retry-after"]) == (503, "overloaded", ["5"])
        other = await get(port, headers=UPGRADE | {"X-Forwarded-For": "203.0.113.9"})
        assert other.status == (101 if trusted else 503)
        await held.close()
        await other.close()
        await stage.settled(0)
        assert expected in {entry["remote_addr"] for entry in log(front)}


async def test_ip_hash_keeps_an_address_with_its_replica(stage: Stage, calm: None) -> None:
    """Every request of one address goes to one replica, and to another while that is full."""
    front = stage.nginx("hash", NGINX_BALANCE="ip_hash", ASR_MAX_CONNECTIONS="4")
    port = published(front, 8000)
    assert len({(await get(port, "/echo")).json["host"] for _ in range(6)}) == 1
    _, refused = await streams(port, 6)
    assert not refused
    assert sorted(await stage.settled(6)) == [0, 2, 4]


async def test_a_killed_replica_is_left_at_once_and_found_again(stage: Stage, front: str, calm: None) -> None:
    """No request fails and none takes two seconds, from the kill to its return under another address."""
    port = published(front, 8000)
    killed = stage.replicas[2]
    answers: list[Answer] = []

    async def knock(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answers.append(await get(port, "/echo"))
            await asyncio.sleep(0.05)

    await asyncio.gather(knock(4), knock(4), asyncio.to_thread(docker, "kill", killed))
    await asyncio.gather(knock(4), asyncio.to_thread(docker, "start", killed))
    stage.orders[killed] = published(killed, 7000)
    assert {each.status for each in answers} == {200}
    assert max(each.seconds for each in answers) < 2
    host = docker("inspect", "--format", "{{.Config.Hostname}}", killed)
    async with asyncio.timeout(60):  # nginx may have found its address before it listened, and then leaves it for 30 s
        while (await get(port, "/echo")).json["host"] != host:
            await asyncio.sleep(0.1)
