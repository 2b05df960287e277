"""The serving layer on real sockets, with a service that echoes: admission, closing, draining, slow readers."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import urllib.error
import urllib.request
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from serving.connection import Connection
from serving.http import HttpProtocol
from serving.run import EXIT_STUCK, Replica
from serving.state import Refusal
from serving.websocket import Handshake, WebSocketProtocol
from tests.conftest import eventually, running
from tests.unit.fakes import EchoService

pytestmark = pytest.mark.unit


def url(replica: Replica, query: str = "", path: str = "/v1/stream/asr") -> str:
    return f"ws://127.0.0.1:{replica.stream_listener.port}{path}{query}"


async def open_stream(replica: Replica, query: str = "") -> ClientConnection:
    stream = await connect(url(replica, query), compression=None, proxy=None)
    assert json.loads(await stream.recv())["type"] == "ready"
    return stream


def connect_and_ignore(replica: Replica) -> socket.socket:
    """A stream's socket that nobody reads."""
    sock = socket.create_connection(("127.0.0.1", replica.stream_listener.port or 0))
    sock.sendall(
        b"GET /v1/stream/asr HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return sock


async def refusal(address: str) -> tuple[int, Headers, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        await connect(address, proxy=None)
    response = refused.value.response
    return response.status_code, response.headers, json.loads(response.body or b"{}")


async def get(port: int | None, path: str) -> tuple[int, dict[str, str], Any]:
    def fetch() -> tuple[int, dict[str, str], Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    status, headers, body = await asyncio.to_thread(fetch)
    return status, headers, body if path == "/metrics" else json.loads(body)


async def test_one_more_than_fits_is_refused_before_the_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    """A full replica answers 503 with Retry-After and JSON, stays healthy, and takes the next when one leaves."""
    async with running(EchoService(max_connections=2)) as replica:
        first, second = [await open_stream(replica) for _ in range(2)]
        status, headers, body = await refusal(url(replica))
        assert (status, headers["Retry-After"], body["error"]["code"]) == (503, "5", "overloaded")
        assert not caplog.records
        assert (await get(replica.admin_listener.port, "/health"))[0] == 200
        await first.close()
        await eventually(lambda: replica.state.active_connections == 1)
        third = await open_stream(replica)
        await second.close()
        await third.close()


@pytest.mark.parametrize(
    ("query", "named"),
    [("?volume=loud", "volume"), ("?pitch=3", "pitch"), ("?volume=1&volume=2", "volume")],
)
async def test_a_wrong_query_parameter_is_refused_by_name(query: str, named: str) -> None:
    """400 tells which parameter is wrong."""
    async with running(EchoService()) as replica:
        status, _, body = await refusal(url(replica, query))
        assert status == 400
        assert body["error"]["code"] == "bad_config"
        assert named in body["error"]["message"]


async def test_unknown_paths_are_404_for_sockets_and_requests() -> None:
    """Neither a WebSocket nor a plain request to an unknown path gets anything but the protocol's 404."""
    async with running(EchoService()) as replica:
        status, _, body = await refusal(url(replica, path="/v1/stream/nothing"))
        assert (status, body["error"]["code"]) == (404, "bad_message")
        for port in (replica.stream_listener.port, replica.admin_listener.port):
            assert (await get(port, "/nothing"))[0] == 404


async def test_the_url_without_upgrade_tells_what_a_socket_would_get() -> None:
    """426 where a socket would be accepted, else the refusal."""
    async with running(EchoService()) as replica:
        port = replica.stream_listener.port
        status, headers, _ = await get(port, "/v1/stream/asr")
        assert (status, headers["upgrade"]) == (426, "websocket")
        assert (await get(port, "/v1/stream/asr?pitch=3"))[0] == 400


async def test_a_service_may_refuse_for_reasons_of_its_own() -> None:
    """What the service's overload says reaches the client."""
    service = EchoService()
    async with running(service) as replica:
        service.refused = Refusal(503, "overloaded", "too much to do", 7)
        status, headers, body = await refusal(url(replica))
        assert (status, headers["Retry-After"], body["error"]["message"]) == (503, "7", "too much to do")


async def test_a_mistake_is_answered_and_the_stream_goes_on() -> None:
    """A recoverable error is one message; the next message is served."""
    async with running(EchoService()) as replica, await open_stream(replica) as stream:
        await stream.send("mistake")
        error = json.loads(await stream.recv())
        assert (error["code"], error["recoverable"]) == ("bad_message", True)
        await stream.send(b"\x00\x01")
        assert await stream.recv() == b"\x00\x01"


async def test_a_crash_in_a_session_closes_that_stream_alone() -> None:
    """1011 with `internal` for the one, nothing for the other."""
    async with running(EchoService()) as replica, await open_stream(replica) as other:
        stream = await open_stream(replica)
        await stream.send("crash")
        error = json.loads(await stream.recv())
        assert (error["code"], error["recoverable"]) == ("internal", False)
        with pytest.raises(ConnectionClosed) as closed:
            await stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        await other.send("still here")
        assert "still here" in str(await other.recv())


async def test_a_message_over_1_mib_closes_with_1009() -> None:
    """The size limit is the protocol's."""
    async with running(EchoService()) as replica, await open_stream(replica) as stream:
        with pytest.raises(ConnectionClosed) as closed:
            await stream.send(bytes(1024 * 1024 + 1))
            await stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_text_that_is_not_utf8_closes_with_1007() -> None:
    """Broken UTF-8 is a broken protocol."""
    async with running(EchoService()) as replica, await open_stream(replica) as stream:
        with pytest.raises(ConnectionClosed) as closed:
            await stream.send(b"\xff\xfe", text=True)
            await stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007


async def test_a_reader_that_does_not_read_is_cut_off_alone() -> None:
    """A full outbox ends the stream and its memory; another stream never notices."""
    service = EchoService(outbox_bytes=1024 * 1024)
    async with running(service) as replica, await open_stream(replica) as other:
        sock = connect_and_ignore(replica)
        await eventually(lambda: replica.state.active_connections == 2)
        sock.sendall(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"flood")  # masked with zeros
        await eventually(lambda: len(service.ended) == 1)
        assert replica.streams.metrics.errors.labels("too_slow")._value.get() == 1
        sock.close()
        await other.send("fine")
        assert "fine" in str(await other.recv())


async def test_a_silent_client_is_sent_away() -> None:
    """`idle_timeout` and 1008 after `idle_timeout_s` without a message."""
    async with running(EchoService(idle_timeout_s=0.2)) as replica, await open_stream(replica) as stream:
        assert json.loads(await stream.recv())["code"] == "idle_timeout"
        with pytest.raises(ConnectionClosed) as closed:
            await stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_client_that_waits_for_its_answer_is_not_idle() -> None:
    """What was accepted is delivered however long that takes; the idle time counts from then on."""
    async with running(EchoService(idle_timeout_s=0.2)) as replica, await open_stream(replica) as stream:
        await stream.send("work")
        await stream.recv()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.recv(), 0.8)
        (session,) = replica.streams.sessions.values()
        session.working = False
        assert json.loads(await stream.recv())["code"] == "idle_timeout"


async def test_a_peer_that_is_not_read_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers to pings lie behind what it sent before them: nothing of it is lost once it is read on."""
    monkeypatch.setattr("serving.listener.PING_S", 0.02)
    pings: list[WebSocketProtocol] = []
    ping = WebSocketProtocol.send_keepalive_ping
    monkeypatch.setattr(WebSocketProtocol, "send_keepalive_ping", lambda self: (pings.append(self), ping(self)))
    async with running(EchoService()) as replica, await open_stream(replica) as stream:
        await stream.send("pause")
        await stream.recv()
        for number in range(3):
            await stream.send(f"waits {number}")
        await eventually(lambda: len(pings) > 5)
        (session,) = replica.streams.sessions.values()
        session.connection.read_on(True)
        assert [f"waits {number}" in str(await stream.recv()) for number in range(3)] == [True] * 3


async def test_a_peer_that_answers_no_ping_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends nothing either: whatever there was of it is freed."""
    monkeypatch.setattr("serving.listener.PING_S", 0.02)
    service = EchoService()
    async with running(service) as replica:
        with connect_and_ignore(replica):
            await eventually(lambda: len(service.ended) == 1)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("paused", [False, True])
async def test_a_client_that_vanishes_frees_its_slot(how: str, paused: bool) -> None:
    """FIN or RST, also on a stream that is not being read at the moment, leaves neither slot nor session nor task."""
    service = EchoService()
    async with running(service) as replica:
        tasks = len(asyncio.all_tasks())
        stream = await open_stream(replica)
        if paused:
            await stream.send("pause")
            await stream.recv()
            await stream.send("waits unread")
        sock = stream.transport.get_extra_info("socket")
        if how == "rst":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.transport.abort()
        await eventually(lambda: replica.state.active_connections == 0)
        assert len(service.ended) == 1
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_connection_that_ended_waits_for_no_garbage_collection(*, abruptly: bool) -> None:
    """It comes once thousands have ended, and what they held then lies scattered over the memory."""
    kinds = (WebSocketProtocol, HttpProtocol, Handshake, Connection)

    def held() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    async with running(EchoService()) as replica:
        gc.collect()
        gc.disable()
        try:
            stream = await open_stream(replica)
            assert {type(each) for each in held()} >= {WebSocketProtocol, Handshake, Connection}
            if abruptly:
                stream.transport.abort()
            else:
                await stream.close()
            await eventually(lambda: not held())
        finally:
            gc.enable()


async def test_sigterm_drains_and_closes_with_1012() -> None:
    """On the way out health says `draining`, the stream port refuses, and open streams end with 1012."""
    service = EchoService()
    async with running(service) as replica:
        stream = await open_stream(replica)
        port = replica.stream_listener.port
        replica.terminate.set()
        with pytest.raises(ConnectionClosed) as closed:
            await stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert replica.state.status == "draining"
        with pytest.raises(OSError, match="Connect"):
            await connect(f"ws://127.0.0.1:{port}/v1/stream/asr", proxy=None)


async def close_code(stream: ClientConnection) -> int | None:
    """The code with which the server closes the stream, whatever it says before."""
    try:
        while True:
            await stream.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


async def test_a_drain_ends_idle_streams_at_once_and_waits_for_the_others() -> None:
    """Meanwhile health says so, and a stream at work gets its answer before its 1012."""
    async with running(EchoService(drain_s=600)) as replica:
        idle, busy = [await open_stream(replica) for _ in range(2)]
        await busy.send("work")
        await busy.recv()
        replica.terminate.set()
        assert await close_code(idle) == 1012
        status, _, body = await get(replica.admin_listener.port, "/health")
        assert (status, body["status"], body["active_connections"]) == (503, "draining", 1)
        await busy.send("worked")
        assert "echo worked" in str(await busy.recv())
        assert await close_code(busy) == 1012


async def test_a_drain_cuts_what_does_not_end() -> None:
    """A stream that is still at work near the end of `drain_s` is closed with 1012, and the replica ends."""
    async with running(EchoService(drain_s=0.2)) as replica:
        stream = await open_stream(replica)
        await stream.send("work")
        await stream.recv()
        replica.terminate.set()
        assert await close_code(stream) == 1012
        assert stream.close_reason == "cut"


async def test_a_handshake_that_meets_a_closed_port_gets_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """One whose connection was accepted just before: an end without an answer sends nginx to the next replica."""
    async with running(EchoService(drain_s=600)) as replica, await open_stream(replica) as busy:
        await busy.send("work")
        await busy.recv()
        connections = replica.stream_listener._server.server_state.connections
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.stream_listener.port)
        await eventually(lambda: len(connections) == 2)
        replica.terminate.set()
        await eventually(lambda: replica.state.status == "draining")
        writer.write(
            b"GET /v1/stream/asr HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        assert not [each for each in caplog.records if each.name.startswith("uvicorn")]
        await busy.send("worked")
        assert await close_code(busy) == 1012


async def test_the_stream_port_is_closed_until_the_models_are_loaded() -> None:
    """While loading, the admin port answers 503 `loading` and the stream port does not listen."""
    loaded = asyncio.Event()
    service = EchoService()
    service.before_load = loaded.wait
    replica = Replica(service)
    task = asyncio.create_task(replica.run())
    await eventually(lambda: replica.admin_listener.port is not None)
    status, _, body = await get(replica.admin_listener.port, "/health")
    assert (status, body["status"], replica.stream_listener.port) == (503, "loading", None)
    loaded.set()
    await eventually(lambda: replica.stream_listener.port is not None)
    status, _, body = await get(replica.admin_listener.port, "/health")
    assert (status, body["status"]) == (200, "ok")
    replica.terminate.set()
    await task


async def test_a_stuck_engine_closes_the_stream_port_until_it_goes_on() -> None:
    """`failed` is 503 and no new streams; an engine that goes on makes the replica whole again."""
    service = EchoService(stuck_s=1000)
    async with running(service) as replica:
        service.stuck = 1500
        await eventually(lambda: replica.state.status == "failed")
        assert replica.stream_listener.port is None
        assert (await get(replica.admin_listener.port, "/health"))[0] == 503
        service.stuck = 0
        await eventually(lambda: replica.stream_listener.port is not None)
        await (await open_stream(replica)).close()


async def test_an_engine_that_hangs_ends_a_draining_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that wait for it need not wait for the end of the drain."""
    exits: list[int] = []
    monkeypatch.setattr("serving.run.os._exit", exits.append)
    service = EchoService(drain_s=600)
    async with running(service) as replica, await open_stream(replica) as busy:
        await busy.send("work")
        await busy.recv()
        replica.terminate.set()
        await eventually(lambda: replica.state.status == "draining")
        service.stuck = 1e6
        await eventually(lambda: exits)
        assert exits[0] == EXIT_STUCK
        service.stuck = 0
        await busy.send("worked")
        assert await close_code(busy) == 1012


async def test_metrics_and_health_tell_of_streams() -> None:
    """Counts rise with streams accepted and refused."""
    async with running(EchoService(max_connections=1)) as replica, await open_stream(replica):
        await refusal(url(replica))
        body = (await get(replica.admin_listener.port, "/metrics"))[2].decode()
        assert "asr_active_connections 1.0" in body
        assert "asr_connections_accepted_total 1.0" in body
        assert 'asr_connections_refused_total{status="503"} 1.0' in body
        health = (await get(replica.admin_listener.port, "/health"))[2]
        assert health["active_connections"] == 1
        assert set(health) == {
            "status", "service", "instance", "model", "device", "compute_type", "uptime_s",
            "active_connections", "max_connections", "queue_depth", "gpu",
        }  # fmt: skip


async def metric(replica: Replica, name: str) -> float:
    """The value of a sample, as it is scraped now."""
    body = (await get(replica.admin_listener.port, "/metrics"))[2].decode()
    (line,) = [line for line in body.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


async def test_metrics_tell_slots_and_sockets_apart() -> None:
    """A stream has one of each; a slot that nobody gave back shows as one above the sockets."""
    async with running(EchoService(max_connections=3)) as replica:
        stream = await open_stream(replica)
        assert await metric(replica, "asr_max_connections") == 3
        assert await metric(replica, "asr_slots_taken") == 1
        assert await metric(replica, "asr_stream_sockets") == 1
        replica.state.acquire()
        await stream.close()
        await eventually(lambda: replica.stream_listener.sockets == 0)
        await eventually(lambda: replica.state.active_connections == 1)
        assert await metric(replica, "asr_slots_taken") == 1
        replica.state.release()


async def test_metrics_tell_the_status_and_for_how_long_it_drains() -> None:
    """One of the states is 1; the clock of a drain runs from its begin."""
    async with running(EchoService(drain_s=30)) as replica:
        assert await metric(replica, 'asr_status{status="ok"}') == 1
        assert await metric(replica, "asr_draining_seconds") == 0
        assert await metric(replica, "asr_drain_limit_seconds") == 30
        replica.state.set_status("draining")
        assert await metric(replica, 'asr_status{status="ok"}') == 0
        assert await metric(replica, 'asr_status{status="draining"}') == 1
        assert await metric(replica, "asr_draining_seconds") > 0
        replica.state.set_status("draining")
        assert await metric(replica, f'asr_replica_info{{replica="{replica.state.instance}"}}') == 1


async def test_errors_are_counted_from_zero() -> None:
    """A counter that appears with its first error would show no increase."""
    async with running(EchoService()) as replica:
        assert await metric(replica, 'asr_errors_total{code="internal"}') == 0
