"""An engine's call does not return."""

from __future__ import annotations

from chaos.fault import Fault
from chaos.faults.process import HURT, hurt_containers
from chaos.stack import FOLDER, Stack, inspect, restarts, until

ENDED_WITHIN_S = 60.0
"""Twice `…_STUCK_S`, which chaos/compose.yaml sets to 5 s, and Docker's wait before a restart."""


async def _hang(_stack: Stack) -> None:
    """Until each has been found stuck and ended: chaos/python/sitecustomize.py holds the calls of these processes."""
    before = {replica.container: await restarts(replica.container) for replica in HURT}
    for replica in HURT:
        (FOLDER / f"hang-{await inspect(replica.container, '{{.Config.Hostname}}')}").touch()

    async def ended() -> bool:
        return all([await restarts(container) > count for container, count in before.items()])

    await until(ended, ENDED_WITHIN_S, "the processes whose engines hang are ended")


async def _let_go(_stack: Stack) -> None:
    for flag in FOLDER.glob("hang-*"):
        flag.unlink()


FAULTS = [
    Fault(
        name="hang",
        what="a call of the engine does not return, in one replica of each service (`…_STUCK_S=5`)",
        inject=_hang,
        during_s=2,
        heal=_let_go,
        restarts=hurt_containers,
        short=True,
    ),
]
