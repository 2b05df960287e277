"""What may happen to a replica's process: it is killed, or frozen for a while."""

from __future__ import annotations

import os
import signal

from chaos.fault import Fault
from chaos.stack import SERVICES, Replica, Stack, process_of

HURT = [Replica(service, 1) for service in SERVICES]
"""The replicas that most faults are for: one of each service, so that the other is there to take over."""


def hurt_containers(_stack: Stack) -> list[str]:
    """Their names, for faults after which they are started anew."""
    return [replica.container for replica in HURT]


async def signal_hurt(number: signal.Signals) -> None:
    """Send a signal to the process of each."""
    for replica in HURT:
        os.kill(await process_of(replica.container), number)


async def _kill(_stack: Stack) -> None:
    await signal_hurt(signal.SIGKILL)


async def _freeze(_stack: Stack) -> None:
    await signal_hurt(signal.SIGSTOP)


async def _thaw(_stack: Stack) -> None:
    await signal_hurt(signal.SIGCONT)


FAULTS = [
    Fault(
        name="kill",
        what="`kill -9` of the process of one replica of each service",
        inject=_kill,
        during_s=5,
        restarts=hurt_containers,
    ),
    Fault(
        name="freeze",
        what="SIGSTOP of one replica of each service, SIGCONT after 8 s",
        inject=_freeze,
        during_s=8,
        heal=_thaw,
    ),
    Fault(
        name="freeze-long",
        what="the same for 40 s, longer than nginx waits for a byte",
        inject=_freeze,
        during_s=40,
        heal=_thaw,
    ),
]
