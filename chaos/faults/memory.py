"""A replica reaches its container's memory limit, and the kernel ends it."""

from __future__ import annotations

from chaos.fault import Fault
from chaos.faults.process import HURT, hurt_containers
from chaos.stack import ChaosError, Stack, docker, inspect, until

LIMIT_MB = 600
"""Above what a replica takes, below that and the 500 MiB that its tmpfs may hold."""
KILLED_WITHIN_S = 60.0


async def _fill(_stack: Stack) -> None:
    """What lies on the tmpfs counts as the container's memory; the largest process is the one to go."""
    for replica in HURT:
        container = replica.container
        began = await inspect(container, "{{.State.StartedAt}}")
        limit = str(await _limit(container))
        await docker("update", "--memory", f"{LIMIT_MB}m", "--memory-swap", f"{LIMIT_MB}m", container)
        try:
            await docker("exec", container, "sh", "-c", "head -c 2G /dev/zero >/tmp/full", check=False)

            async def ended(container: str = container, began: str = began) -> bool:
                return await inspect(container, "{{.State.StartedAt}}") != began

            await until(ended, KILLED_WITHIN_S, f"{container} is ended by the kernel")
        finally:
            await docker("update", "--memory", limit, "--memory-swap", limit, container)


async def _limit(container: str) -> int:
    limit = int(await inspect(container, "{{.HostConfig.Memory}}"))
    if limit <= LIMIT_MB * 2**20:
        raise ChaosError(f"{container} has a limit of {limit} bytes; one over {LIMIT_MB} MiB was expected")
    return limit


FAULTS = [
    Fault(
        name="oom",
        what="one replica of each service reaches its memory limit: its tmpfs is filled until the kernel ends it",
        inject=_fill,
        during_s=2,
        restarts=hurt_containers,
    ),
]
