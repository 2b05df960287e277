"""The stack on a swarm, as its clients see it: balanced, scaled, updated, rolled back, and who may connect."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import AsyncExitStack

import pytest

from benchmarks.rollout import measure, spoken_for
from benchmarks.speech import CLIPS
from chorus.aio import connect_asr, connect_tts
from chorus.errors import Refused
from loadtest.clips import read_manifest
from tests.swarm.conftest import NAME, Swarm, docker

pytestmark = pytest.mark.stack

MOST_S = 600.0
"""What a speaker has to say; more than the updates take."""


def instances(swarm: Swarm, service: str) -> set[str]:
    """Of the replicas that serve."""
    return {each["instance"] for each in swarm.replicas(service)}


def test_the_stack_is_up_and_opens_two_ports_alone(swarm: Swarm) -> None:
    """Two healthy replicas of each service behind nginx; no direct ports, no status page."""
    services = docker("stack", "services", "--format", "{{.Name}} {{.Replicas}}", NAME).splitlines()
    assert sorted(services) == [
        f"{NAME}_asr 2/2", f"{NAME}_models 0/0 (1/1 completed)", f"{NAME}_nginx 1/1", f"{NAME}_tts 2/2",
    ]  # fmt: skip
    assert {each["status"] for name in ("asr", "tts") for each in swarm.replicas(name)} == {"ok"}
    published = docker("ps", "--filter", f"label=com.docker.stack.namespace={NAME}", "--format", "{{.Ports}}")
    ports = {each.rpartition("->")[0].rpartition(":")[2] for each in published.split(", ") if "->" in each}
    assert ports == {url.rpartition(":")[2] for url in (swarm.asr_url, swarm.tts_url)}


async def test_connections_are_spread_evenly(swarm: Swarm) -> None:
    """Twenty streams each: nine to eleven on either replica."""
    async with AsyncExitStack() as open_streams:
        for _ in range(20):
            await open_streams.enter_async_context(connect_asr(swarm.asr_url))
            await open_streams.enter_async_context(connect_tts(swarm.tts_url))
        for service in ("asr", "tts"):
            held = await swarm.settled(service, 2, 20)
            assert max(held) <= 11, held
    for service in ("asr", "tts"):
        await swarm.settled(service, 2, 0)


async def test_nginx_follows_the_number_of_replicas(swarm: Swarm) -> None:
    """Up to four: new streams are on the new ones too. Down to two again: no connect fails meanwhile."""
    scaling = asyncio.create_task(asyncio.to_thread(swarm.scale, asr=4))
    async with AsyncExitStack() as open_streams, asyncio.timeout(300):
        seen: dict[str, float] = {}
        serving: dict[str, float] = {}
        while len(seen) < 4:
            now = time.monotonic()
            for each in await asyncio.to_thread(instances, swarm, "asr"):
                serving.setdefault(each, now)
            stream = await open_streams.enter_async_context(connect_asr(swarm.asr_url))
            assert stream.protocol.ready is not None
            seen.setdefault(stream.protocol.ready.instance, time.monotonic())
            await asyncio.sleep(0.2)
        late = [round(seen[each] - serving.get(each, seen[each]), 1) for each in seen]
        print(f"seconds from `ok` to the first stream: {late}")
    await scaling
    await swarm.settled("asr", 4, 0)
    scaling = asyncio.create_task(asyncio.to_thread(swarm.scale, asr=2))
    while not scaling.done():
        async with connect_asr(swarm.asr_url):
            await asyncio.sleep(0.2)
    await scaling
    await swarm.settled("asr", 2, 0)


async def test_nobody_notices_a_rolling_update(swarm: Swarm) -> None:
    """Of ASR by force, of TTS by another setting: no connect fails, nothing is cut, no audio is lost."""
    before = {service: instances(swarm, service) for service in ("asr", "tts")}

    def update(service: str) -> None:
        if service == "asr":
            docker("service", "update", "--detach=false", "--quiet", "--force", f"{NAME}_asr")
        else:
            swarm.deploy(TTS_IDLE_TIMEOUT_S="299")

    async def roll_out(service: str) -> None:
        await asyncio.to_thread(update, service)
        async with asyncio.timeout(120):  # the drain of the last goes on
            while len(await asyncio.to_thread(swarm.containers, service)) > 2:
                await asyncio.sleep(0.5)

    told = spoken_for(read_manifest(CLIPS), 3, MOST_S)
    noticed, _ = await measure(told, 3, 1, roll_out=roll_out, asr_url=swarm.asr_url, tts_url=swarm.tts_url)
    assert noticed.faults == []
    assert noticed.moved_speakers >= 3
    assert noticed.moved_listeners >= 3
    assert noticed.replies > 0
    for service in ("asr", "tts"):
        now = instances(swarm, service)
        assert len(now) == 2
        assert not now & before[service]
    for container in swarm.containers("tts"):
        assert "TTS_IDLE_TIMEOUT_S=299" in docker("inspect", "--format", "{{.Config.Env}}", container)


def test_an_update_that_does_not_become_healthy_is_taken_back(swarm: Swarm) -> None:
    """The command fails and says so; those that were there go on serving, as many as before."""
    before = instances(swarm, "asr")
    done = swarm.make("swarm-deploy", ASR_BEAM_SIZE="99", TTS_IDLE_TIMEOUT_S="299")
    assert done.returncode != 0
    assert "does not become healthy" in done.stderr
    assert instances(swarm, "asr") == before


async def test_keys_are_a_secret_that_is_replaced(swarm: Swarm) -> None:
    """With one a stream needs it; with another in its place the old one opens none, and no node holds it any more."""
    keys = swarm.folder / "api_keys"

    async def opens(key: str) -> bool:
        try:
            async with connect_asr(swarm.asr_url, key=key):
                return True
        except Refused as error:
            if error.status != 401:
                raise
            return False

    for key, other in (("first", "second"), ("second", "first")):
        keys.write_text(f"app:{hashlib.sha256(key.encode()).hexdigest()}\n", encoding="utf-8")
        await asyncio.to_thread(swarm.deploy, CHORUS_API_KEYS_FILE=str(keys), TTS_IDLE_TIMEOUT_S="299")
        await swarm.settled("asr", 2, 0)
        assert await opens(key)
        assert not await opens(other)
        names = docker("secret", "ls", "--format", "{{.Name}}").split()
        assert len([name for name in names if "api_keys" in name]) == 1
