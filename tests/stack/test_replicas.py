"""Replicas that come, go and die, as clients see it; and a cluster that is full."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
import soundfile

from chorus.aio import AsrStream, connect_asr, connect_tts
from chorus.errors import ChorusError, ConnectionLost, Refused
from tests.conftest import DATA
from tests.stack.conftest import ASR, TTS, docker, health, kill_process, replicas, scale, settled

pytestmark = pytest.mark.stack

CLIP = DATA / "speech" / "3331-159605-0005.flac"


@pytest.fixture
def three() -> None:
    """Three replicas of each service."""
    scale(asr=3, tts=3)


async def test_connections_are_spread_evenly(three: None) -> None:
    """Thirty streams each: nine to eleven on any replica; every direct port is another instance."""
    async with AsyncExitStack() as open_streams:
        for _ in range(30):
            await open_streams.enter_async_context(connect_asr(ASR))
            await open_streams.enter_async_context(connect_tts(TTS))
        for service in ("asr", "tts"):
            held = await settled(service, 3, 30)
            assert max(held) <= 11, held
            assert min(held) >= 9, held
            assert len({body["instance"] for body in replicas(service, 3)}) == 3
    for service in ("asr", "tts"):
        assert sum(await settled(service, 3, 0)) == 0


async def test_a_killed_replica_hurts_its_own_streams_alone(three: None) -> None:
    """kill -9 of one: the other two's streams end complete, new ones are accepted, and the replica returns."""
    samples, rate = soundfile.read(CLIP, dtype="int16")
    audio = samples.tobytes()
    instances = [body["instance"] for body in replicas("asr", 3)]

    async def talk(stream: AsrStream) -> str | None:
        """The words, or None where the connection was lost."""
        size = rate // 50 * 2
        try:
            for start in range(0, len(audio), size):
                await stream.send(audio[start : start + size])
                await asyncio.sleep(0.02)
            await stream.send(stream.protocol.close())
            async for _ in stream:
                pass
        except ConnectionLost:
            return None
        return stream.protocol.text

    async with AsyncExitStack() as open_streams:
        streams = [await open_streams.enter_async_context(connect_asr(ASR)) for _ in range(12)]
        talks = [asyncio.create_task(talk(stream)) for stream in streams]
        await asyncio.sleep(1)
        await asyncio.to_thread(kill_process, "chorus-asr-2")
        slowest = 0.0
        for _ in range(30):
            started = time.monotonic()
            async with connect_asr(ASR):
                slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.1)
        texts = await asyncio.gather(*talks)
    print(f"slowest new connection: {slowest:.2f} s")
    for stream, text in zip(streams, texts, strict=True):
        assert stream.protocol.ready is not None
        if stream.protocol.ready.instance == instances[1]:
            assert text is None
        else:
            assert text is not None
            assert "home" in text.lower()
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(health, 8011))[0] != 200:
            await asyncio.sleep(0.5)


async def test_scaling_down_leaves_nobody_without_a_replica(three: None) -> None:
    """After a return to one replica each, every new connection succeeds."""
    await asyncio.to_thread(scale)
    for _ in range(10):
        async with connect_asr(ASR), connect_tts(TTS):
            pass
    status, body = health(8011)
    assert (status, body["error"]["code"]) == (503, "overloaded")


async def test_no_new_stream_fails_while_replicas_come_and_go() -> None:
    """Scaled up and down, each connection made meanwhile succeeds, also one that was given a replica just gone."""
    stop = asyncio.Event()
    accepted = 0

    async def knock() -> None:
        nonlocal accepted
        while not stop.is_set():
            async with connect_asr(ASR):
                accepted += 1
            await asyncio.sleep(0.05)

    knocking = [asyncio.create_task(knock()) for _ in range(4)]
    for replicas_wanted in (3, 1, 2, 1):
        await asyncio.to_thread(scale, replicas_wanted)
        await asyncio.sleep(2)
    stop.set()
    await asyncio.gather(*knocking)
    assert accepted > 100


async def test_a_restarted_replica_closes_its_streams_with_1012() -> None:
    """`docker compose restart` drains: an idle stream is told to reconnect."""
    async with connect_asr(ASR) as stream:
        restart = asyncio.create_task(asyncio.to_thread(docker, "compose", "restart", "asr"))
        with pytest.raises(ConnectionLost) as lost:
            async for _ in stream:
                pass
        assert lost.value.close_code == 1012
        await restart
    await asyncio.to_thread(scale)


async def refused_by(url: str) -> Refused | None:
    try:
        async with connect_asr(url):
            return None
    except Refused as refusal:
        return refusal


async def test_the_51st_stream_of_a_replica_is_refused() -> None:
    """On the direct port by the replica itself, and it stays healthy."""
    direct = "ws://127.0.0.1:8001"
    async with AsyncExitStack() as open_streams:
        for _ in range(50):
            await open_streams.enter_async_context(connect_asr(direct))
        refusal = await refused_by(direct)
        assert refusal is not None
        assert (refusal.status, refusal.code, refusal.retry_after) == (503, "overloaded", 5)
        assert health(8001)[0] == 200
        assert health(8000)[0] == 200
    await settled("asr", 1, 0)
    assert await refused_by(ASR) is None


async def test_a_burst_beyond_capacity_is_refused_and_forgotten() -> None:
    """Of 200 at once onto two replicas 100 are accepted and 100 refused; then everything is as before."""
    await asyncio.to_thread(scale, 2, 1)
    done = asyncio.Event()
    outcomes: list[Refused | None] = []

    async def one() -> None:
        try:
            async with connect_asr(ASR):
                outcomes.append(None)
                await done.wait()
        except Refused as refusal:
            outcomes.append(refusal)

    async with asyncio.TaskGroup() as clients:
        for _ in range(200):
            clients.create_task(one())
        async with asyncio.timeout(60):
            while len(outcomes) < 200:
                await asyncio.sleep(0.05)
        assert await settled("asr", 2, 100) == [50, 50]
        refusals = [each for each in outcomes if each is not None]
        done.set()
    assert len(refusals) == 100
    assert {(each.status, each.code) for each in refusals} == {(503, "overloaded")}
    assert all(each.retry_after for each in refusals)
    await settled("asr", 2, 0)
    async with AsyncExitStack() as open_streams:
        for _ in range(20):
            await open_streams.enter_async_context(connect_asr(ASR))
        assert await settled("asr", 2, 20) == [10, 10]
    await asyncio.to_thread(scale)


@pytest.mark.parametrize(
    ("url", "query", "status"),
    [(ASR, {"nonsense": "1"}, 400), (TTS, {"speed": "9"}, 400), (f"{ASR}/nowhere", {}, 404)],
)
async def test_refusals_pass_through_nginx(url: str, query: dict[str, str], status: int) -> None:
    """400 and 404 come with the protocol's JSON, and count against no replica."""
    connect = connect_tts if url == TTS else connect_asr
    for _ in range(5):
        with pytest.raises(Refused) as refused:
            async with connect(url, **query):
                pass
        assert refused.value.status == status
        assert refused.value.code in ("bad_config", "bad_message")
    async with connect_asr(ASR), connect_tts(TTS):
        pass


async def test_a_thousand_connections_leave_nothing_behind() -> None:
    """Connects and abrupt disconnects: no stream is left open and memory returns to where it was."""

    def memory() -> float:
        rss = docker("exec", "chorus-asr-1", "sh", "-c", "grep -h VmRSS /proc/[0-9]*/status | sort -k2n | tail -1")
        return int(rss.split()[1]) / 1024

    async def come_and_go() -> None:
        try:
            async with connect_asr(ASR) as stream:
                await stream.send(bytes(3200))
                stream.socket.transport.abort()
        except ChorusError:
            pass

    for _ in range(5):
        await asyncio.gather(*(come_and_go() for _ in range(20)))
    await settled("asr", 1, 0)
    before = memory()
    for _ in range(50):
        await asyncio.gather(*(come_and_go() for _ in range(20)))
    await settled("asr", 1, 0)
    assert memory() < before + 20
