"""An engine's call does not return."""

from __future__ import annotations

import asyncio

from benchmarks.speech import CLIPS
from chaos.fault import Fault
from chaos.faults.process import HURT, hurt_containers
from chaos.stack import FOLDER, Replica, Stack, inspect, restarts, until
from chorus.aio import connect_asr, connect_tts
from chorus.errors import ChorusError
from loadtest.clips import SAMPLE_RATE, read, read_manifest

ENDED_WITHIN_S = 90.0
"""Twice `…_STUCK_S`, which chaos/compose.yaml sets to 10 s, and Docker's wait before a restart."""


async def _hang(_stack: Stack) -> None:
    """Until each has been found stuck and ended: chaos/python/sitecustomize.py holds the calls of these processes."""
    before = {replica.container: await restarts(replica.container) for replica in HURT}
    for replica in HURT:
        (FOLDER / f"hang-{await inspect(replica.container, '{{.Config.Hostname}}')}").touch()

    async def ended() -> bool:
        return all([await restarts(container) > count for container, count in before.items()])

    working = [asyncio.create_task(_work(replica)) for replica in HURT]
    try:
        await until(ended, ENDED_WITHIN_S, "the processes whose engines hang are ended")
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def _work(replica: Replica) -> None:
    """See to it that there is a call to hang in, wherever nginx has sent the people."""
    try:
        if replica.service == "asr":
            async with connect_asr(replica.url, sample_rate=SAMPLE_RATE) as stream:
                await stream.send(stream.protocol.audio(read(read_manifest(CLIPS)[0]).tobytes()))
                await stream.send(stream.protocol.close())
                await asyncio.Event().wait()
        else:
            async with connect_tts(replica.url) as speech:
                await speech.send(speech.protocol.synthesize("Whoever asks for this does not hear it."))
                await asyncio.Event().wait()
    except (ChorusError, OSError):
        pass  # it ends with its replica


async def _let_go(_stack: Stack) -> None:
    for flag in FOLDER.glob("hang-*"):
        flag.unlink()


FAULTS = [
    Fault(
        name="hang",
        what="a call of the engine does not return, in one replica of each service (`…_STUCK_S=10`)",
        inject=_hang,
        during_s=2,
        heal=_let_go,
        restarts=hurt_containers,
        short=True,
    ),
]
