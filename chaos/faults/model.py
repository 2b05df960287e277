"""A replica that is started anew finds its model damaged: cut off, or with other weights."""

from __future__ import annotations

import asyncio
import signal
import time

from chaos.fault import Fault, Step
from chaos.faults.process import HURT, hurt_containers, signal_hurt
from chaos.stack import OUTSIDE, Stack, docker, health

FILES = ("/models/whisper-tiny.en/model.bin", "/models/piper-en_US-joe-medium/en_US-joe-medium.onnx")
CUT_OFF = "head -c 20M {0} >{0}.bad"
CHANGED = "cp {0} {0}.bad && head -c 1000000 /dev/urandom | dd of={0}.bad bs=1000000 seek=20 conv=notrunc 2>/dev/null"
"""A megabyte of weights; the file is as long as before, and loads."""
DURING_S = 20.0
_served: set[str] = set()
"""Replicas that served with a damaged model."""


def _damage(command: str) -> Step:
    async def damage(_stack: Stack) -> None:
        """By another file of the same name, as a copy would: replicas that run keep what they have open."""
        _served.clear()
        for file in FILES:
            script = f"{command.format(file)} && mv {file} {file}.whole && mv {file}.bad {file}"
            await docker("exec", OUTSIDE, "sh", "-c", script)
        await signal_hurt(signal.SIGKILL)
        until = time.monotonic() + DURING_S
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            _served.update([each.container for each in HURT if (await health(each))["status"] == "ok"])

    return damage


async def _repair(_stack: Stack) -> None:
    for file in FILES:
        await docker("exec", OUTSIDE, "sh", "-c", f"if [ -e {file}.whole ]; then mv {file}.whole {file}; fi")


async def _not_served(_stack: Stack) -> list[str]:
    return [f"{container} served with a damaged model" for container in sorted(_served)]


FAULTS = [
    Fault(
        name="model",
        what="one replica of each service is killed, and finds its model's file cut off; it is mended after 20 s",
        inject=_damage(CUT_OFF),
        during_s=0,
        heal=_repair,
        check=_not_served,
        restarts=hurt_containers,
    ),
    Fault(
        name="weights",
        what="the same with a file as long as before, of which a megabyte has changed",
        inject=_damage(CHANGED),
        during_s=0,
        heal=_repair,
        check=_not_served,
        restarts=hurt_containers,
    ),
]
