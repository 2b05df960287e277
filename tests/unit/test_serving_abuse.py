"""The serving layer and clients that break the rules: what the conformance driver and the fuzzer have found."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from abuse import frames
from abuse.cases import handshake_cases
from abuse.conformance import run_case
from abuse.peer import Answer, Peer, upgrade_request
from abuse.targets import Target
from serving.errors import MAX_MESSAGE_CHARS, BadConfig
from serving.run import Replica
from serving.websocket import WebSocketProtocol
from tests.conftest import eventually, running
from tests.unit.fakes import EchoService

pytestmark = pytest.mark.unit

PATH = "/v1/stream/asr"
T = TypeVar("T")


peers: list[Peer] = []
"""Closed after each test, however it ended."""


@pytest.fixture(autouse=True)
def no_peer_left() -> Iterator[None]:
    yield
    while peers:
        peers.pop().drop()


def connect(replica: Replica) -> Peer:
    peers.append(Peer("127.0.0.1", replica.stream_listener.port or 0, timeout_s=30))
    return peers[-1]


def open_peer(replica: Replica) -> Peer:
    peer = connect(replica)
    assert peer.upgrade(PATH).status == 101
    assert peer.read_until("ready", 30) is not None
    return peer


async def beside(call: Callable[[], T]) -> T:
    """A peer blocks, and the replica is on this loop."""
    return await asyncio.to_thread(call)


def protocols(replica: Replica) -> list[WebSocketProtocol]:
    connections = replica.stream_listener._server.server_state.connections
    return [each for each in connections if isinstance(each, WebSocketProtocol)]


async def ask(replica: Replica, data: bytes, *, admin: bool = False) -> Answer:
    """The answer to a request; the connection has ended since, or is closed."""

    def request() -> Answer:
        port = replica.admin_listener.port if admin else replica.stream_listener.port
        with Peer("127.0.0.1", port or 0, timeout_s=30) as peer:
            peer.send(data)
            return peer.answer()

    return await beside(request)


async def test_every_handshake_is_answered_as_the_rfc_has_it() -> None:
    """Right ones by 101, wrong ones by a status and the protocol's JSON; none is left open, none is our own fault."""
    async with running(EchoService()) as replica:
        target = Target("asr", "direct", "127.0.0.1", replica.stream_listener.port or 0, 0)
        cases = [case for case in handshake_cases(PATH) if not case.slow and "query" not in case.sends]
        results = await beside(lambda: [run_case(target, case) for case in cases])
        assert {each.sends: each.problems for each in results if each.problems} == {}
        await eventually(lambda: replica.stream_listener.sockets == 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HT",
        upgrade_request(PATH)[:100],
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea",
    ],
)
async def test_a_request_that_does_not_end_is_dropped(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Nothing, half a head, half a body, half of a second request: nobody holds a connection by being slow."""
    monkeypatch.setattr("serving.http.REQUEST_S", 0.2)
    async with running(EchoService()) as replica:
        connections = replica.stream_listener._server.server_state.connections
        _, writer = await asyncio.open_connection("127.0.0.1", replica.stream_listener.port)
        writer.write(sent)
        await eventually(lambda: len(connections) == 1)
        await eventually(lambda: len(connections) == 0)
        writer.close()


async def test_a_client_that_reads_no_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor holds a connection by asking and asking."""
    monkeypatch.setattr("serving.http.ANSWER_S", 0.2)
    async with running(EchoService()) as replica:
        connections = replica.stream_listener._server.server_state.connections
        peer = connect(replica)
        await eventually(lambda: len(connections) == 1)
        requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 3000
        await beside(lambda: peer.send(requests))
        await eventually(lambda: len(connections) == 0)


async def test_a_stream_is_not_a_slow_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a request may take ends with the upgrade."""
    monkeypatch.setattr("serving.http.REQUEST_S", 0.2)
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        await asyncio.sleep(0.5)
        peer.send(frames.text("still here"))
        assert "still here" in str(await beside(lambda: peer.read_until("error", 30)))


async def test_text_that_is_not_utf8_and_a_close_frame_in_one_piece(caplog: pytest.LogCaptureFixture) -> None:
    """The close frame has been answered by then; the connection ends by a close frame, not by an exception."""
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        peer.send(frames.text(b"\xff") + frames.close())
        heard = await beside(lambda: peer.read_to_end(30))
        assert heard.close is not None
        assert heard.close[0] in (1000, 1007)
        assert not [each for each in caplog.records if each.levelname == "ERROR"]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_head_has_a_bound(ends: bool) -> None:
    """Whether it comes to its end or not."""
    head = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"x" * 40_000 + (b"\r\n\r\n" if ends else b"")
    async with running(EchoService()) as replica:
        for admin in (False, True):
            answer = await ask(replica, head, admin=admin)
            assert (answer.status, (answer.error or {})["code"]) == (431, "too_large")


async def test_what_is_no_request_is_refused_in_json() -> None:
    """On both ports."""
    async with running(EchoService()) as replica:
        for admin in (False, True):
            answer = await ask(replica, b"\x16\x03\x01\r\n\r\n", admin=admin)
            assert (answer.status, (answer.error or {})["code"]) == (400, "bad_message")
            assert (await ask(replica, b"GET /health/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n", admin=admin)).status == 404


async def test_empty_fragments_take_no_memory() -> None:
    """A message is as large as its bytes, in however many fragments they come."""
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        (protocol,) = protocols(replica)
        await beside(lambda: peer.send(frames.text("al", fin=False) + frames.more("") * 50_000 + frames.more("l")))
        await eventually(lambda: bytes(protocol._message) == b"all")
        assert protocol.frames == []
        peer.send(frames.more(" of it", fin=True))
        assert "all of it" in str(await beside(lambda: peer.read_until("error", 30)))


async def test_text_that_can_not_become_utf8_fails_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Though the message has not ended; and a client's mistake is no error in the log."""
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        peer.send(frames.text(b"\xce\xba\xf4", fin=False) + frames.more(b"\x90"))
        heard = await beside(lambda: peer.read_to_end(30))
        assert heard.close is not None
        assert heard.close[0] == 1007
        assert not [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")]


async def test_pongs_wait_one_at_a_time_for_a_peer_that_does_not_read() -> None:
    """Memory does not grow with pings; once it reads, the newest is answered."""
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        (protocol,) = protocols(replica)
        pings = frames.ping(b"x" * 125) * 4000
        while protocol.writable.is_set():
            await beside(lambda: peer.send(pings))
        stopped = protocol.transport.get_write_buffer_size()
        for _ in range(20):
            await beside(lambda: peer.send(pings))
        peer.send(frames.ping(b"the newest"))
        await eventually(lambda: protocol._late_pong is not None and protocol._late_pong.endswith(b"the newest"))
        assert protocol.transport.get_write_buffer_size() <= stopped + len(pings)
        await beside(lambda: read_until_pong(peer, b"the newest"))


def read_until_pong(peer: Peer, payload: bytes) -> None:
    while not peer.heard.pongs or peer.heard.pongs[-1] != payload:
        assert peer.next_frame(30) is not None


async def test_a_peer_that_breaks_the_protocol_learns_why() -> None:
    """It may go on sending for a while: the connection is not reset under it, and its slot is free at once."""
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        peer.send(frames.frame(2, bytes(1000), length=2**21, form=64))
        await eventually(lambda: replica.state.active_connections == 0)
        for _ in range(10):
            assert peer.send(bytes(1000))
            await asyncio.sleep(0.05)
        heard = await beside(lambda: peer.read_to_end(30))
        assert heard.close is not None
        assert heard.close[0] == 1009
        await eventually(lambda: replica.stream_listener.sockets == 0)


async def test_a_peer_that_never_stops_breaking_the_protocol_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is heard out only for so long."""
    monkeypatch.setattr("serving.websocket.LINGER_S", 0.3)
    async with running(EchoService()) as replica:
        peer = await beside(lambda: open_peer(replica))
        peer.send(frames.frame(3, b""))

        def go_on() -> None:
            until = time.monotonic() + 30
            while peer.send(b"x" * 100):
                assert time.monotonic() < until
                time.sleep(0.01)

        await beside(go_on)


async def test_an_idle_peer_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its close frame never leaves, though it may ping as long as it likes."""
    monkeypatch.setattr("serving.connection.CLOSE_HANDSHAKE_S", 0.2)
    service = EchoService(outbox_bytes=2**30, idle_timeout_s=0.5)
    async with running(service) as replica:
        peer = connect(replica)
        peer._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await beside(lambda: peer.upgrade(PATH))
        peer.send(frames.text("flood"))

        def ping_on() -> None:
            while not service.ended and peer.send(frames.ping()):
                time.sleep(0.05)

        await asyncio.wait_for(beside(ping_on), 60)
        await eventually(lambda: len(service.ended) == 1)


def test_an_error_has_a_bound() -> None:
    """It may quote what the client sent."""
    told = BadConfig("x" * 1_000_000 + "; known are a, b").to_message().message
    assert len(told) <= MAX_MESSAGE_CHARS
    assert told.endswith("known are a, b")


async def test_close_codes_of_a_client_are_one_label() -> None:
    """Two thousand codes are free to choose; each would be a time series for good."""
    async with running(EchoService()) as replica:
        for code in (1000, 3000, 4321):
            peer = await beside(lambda: open_peer(replica))
            peer.send(frames.close(code))
            await beside(lambda peer=peer: peer.read_to_end(30))  # type: ignore[misc]
        await eventually(lambda: replica.state.active_connections == 0)
        closed = replica.streams.metrics.closed
        assert {labels[0]: metric._value.get() for labels, metric in closed._metrics.items()} == {"1000": 1, "other": 2}
