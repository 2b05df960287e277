"""No space is left: on the volume of the models, or on a replica's own tmpfs."""

from __future__ import annotations

import asyncio
import time

from chaos.fault import Fault
from chaos.stack import OUTSIDE, ChaosError, Replica, Stack, docker, run, until
from chorus.aio import connect_tts
from chorus.errors import ChorusError
from chorus.wire import tts as wire
from chorus.wire.common import Error

FILLER = "/models/.full"
VOICE = "chaos"
"""A voice that `scripts/chaos.sh` puts where voices of one's own lie."""
FETCH = ("docker", "compose", "run", "--rm", "--no-deps", "-T", "models", "fetch", VOICE)
TRIED_AGAIN_S = 90.0
"""A voice that could not be loaded is tried again after a minute."""
VOICE_MB = 150.0
"""A voice that has been loaded stays loaded, and what was needed to load it beside it."""
_told: list[str] = []
"""What was not told as it should be, while the fault lasted."""


async def _volume_full(_stack: Stack) -> None:
    _told.clear()
    await docker("exec", OUTSIDE, "sh", "-c", f"head -c 1G /dev/zero >{FILLER}", check=False)
    done = await asyncio.to_thread(run, *FETCH, check=False)
    if done.returncode == 0 or "full" not in done.stderr:
        _told.append(f"a fetch onto a full volume ended with {done.returncode}: {done.stderr.strip()[-200:]}")


async def _volume_free(_stack: Stack) -> None:
    await docker("exec", OUTSIDE, "rm", "-f", FILLER)


async def _fetched(stack: Stack) -> list[str]:
    """The same fetch works now, every replica offers the voice, and nothing of the first try is left."""
    found = list(_told)
    await asyncio.to_thread(run, *FETCH)
    left = (await docker("exec", OUTSIDE, "sh", "-c", "ls -A /models")).split()
    if extra := [name for name in left if name.startswith(".") and name != ".lock"]:
        found.append(f"the failed fetch has left {extra}")
    for replica in stack.of("tts"):

        async def offered(replica: Replica = replica) -> bool:
            return VOICE in await _voices(replica)

        await until(offered, 15, f"{replica.container} offers the new voice")
    await _forget_voice(stack)
    return found


async def _voices(replica: Replica) -> list[str]:
    async with connect_tts(replica.url) as stream:
        await stream.send(stream.protocol.list_voices())
        while not isinstance(event := await stream.receive(), wire.VoiceList):
            pass
    return [voice.id for voice in event.voices]


async def _forget_voice(_stack: Stack) -> None:
    await docker("exec", OUTSIDE, "rm", "-rf", f"/models/piper-{VOICE}")


async def _tmpfs_full(stack: Stack) -> None:
    """A voice that is not loaded yet needs room there; who asks for it is told, and everybody else is served."""
    _told.clear()
    await asyncio.to_thread(run, *FETCH)
    for replica in stack.all:
        await docker("exec", replica.container, "sh", "-c", "head -c 1G /dev/zero >/tmp/full", check=False)
    for replica in stack.of("tts"):
        answer = await _speak(replica)
        if answer != "unknown_voice":
            _told.append(f"{replica.container}: a voice that there was no room for was answered {answer}")


async def _tmpfs_free(stack: Stack) -> None:
    for replica in stack.all:
        await docker("exec", replica.container, "rm", "-f", "/tmp/full")


async def _spoken(stack: Stack) -> list[str]:
    """The same voice can be heard now."""
    for replica in stack.of("tts"):
        began = time.monotonic()
        while (answer := await _speak(replica)) != "spoken":
            if time.monotonic() - began > TRIED_AGAIN_S:
                raise ChaosError(f"{replica.container}: the voice can't be used once there is room: {answer}")
            await asyncio.sleep(2)
    await _forget_voice(stack)
    return list(_told)


async def _speak(replica: Replica) -> str:
    """Ask for a sentence with the new voice: `spoken`, or the code of the error."""
    try:
        async with connect_tts(replica.url) as stream:
            await stream.send(stream.protocol.synthesize("There is room.", voice=VOICE))
            async with asyncio.timeout(60):
                while True:
                    event = await stream.receive()
                    if isinstance(event, Error):
                        return event.code
                    if isinstance(event, wire.SynthesisComplete):
                        return "spoken"
    except (ChorusError, OSError) as error:
        return str(error) or type(error).__name__


FAULTS = [
    Fault(
        name="volume-full",
        what="the volume of the models is full, and a voice is fetched onto it",
        inject=_volume_full,
        during_s=5,
        heal=_volume_free,
        check=_fetched,
    ),
    Fault(
        name="tmpfs-full",
        what="every replica's tmpfs is full, and a voice is asked for that is not loaded yet",
        inject=_tmpfs_full,
        during_s=5,
        heal=_tmpfs_free,
        check=_spoken,
        more_mb=VOICE_MB,
    ),
]
