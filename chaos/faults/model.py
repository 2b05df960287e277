"""A replica that is started anew finds its model damaged."""

from __future__ import annotations

import signal

from chaos.fault import Fault
from chaos.faults.process import hurt_containers, signal_hurt
from chaos.stack import OUTSIDE, Stack, docker

FILES = ("/models/whisper-tiny.en/model.bin", "/models/piper-en_US-joe-medium/en_US-joe-medium.onnx")


async def _truncate(_stack: Stack) -> None:
    """As a copy that broke off. Its place is taken by name: replicas that run keep what they have open."""
    for file in FILES:
        await docker(
            "exec",
            OUTSIDE,
            "sh",
            "-c",
            f"head -c 20M {file} >{file}.half && mv {file} {file}.whole && mv {file}.half {file}",
        )
    await signal_hurt(signal.SIGKILL)


async def _repair(_stack: Stack) -> None:
    for file in FILES:
        await docker("exec", OUTSIDE, "sh", "-c", f"if [ -e {file}.whole ]; then mv {file}.whole {file}; fi")


FAULTS = [
    Fault(
        name="model",
        what="one replica of each service is killed, and finds its model's file cut off; it is whole again after 20 s",
        inject=_truncate,
        during_s=20,
        heal=_repair,
        restarts=hurt_containers,
    ),
]
