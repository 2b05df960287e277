"""A replica reaches its container's memory limit, and the kernel ends it."""

from __future__ import annotations

from chaos.fault import Fault
from chaos.faults.process import HURT, hurt_containers
from chaos.stack import Stack, docker, inspect, restarts, until

LIMIT_MB = 600
"""Above what a replica takes, below that and the 500 MiB that its tmpfs may hold."""
KILLED_WITHIN_S = 60.0
_limits: dict[str, str] = {}
"""Before, in bytes."""


async def _fill(_stack: Stack) -> None:
    """What lies on the tmpfs counts as the container's memory; the largest process is the one to go."""
    for replica in HURT:
        container = replica.container
        before = await restarts(container)
        _limits[container] = await inspect(container, "{{.HostConfig.Memory}}")
        await docker("update", "--memory", f"{LIMIT_MB}m", "--memory-swap", f"{LIMIT_MB}m", container)
        await docker("exec", container, "sh", "-c", "head -c 2G /dev/zero >/tmp/full", check=False)

        async def ended(container: str = container, before: int = before) -> bool:
            return await restarts(container) > before

        await until(ended, KILLED_WITHIN_S, f"{container} is ended by the kernel")


async def _widen(_stack: Stack) -> None:
    for container, limit in _limits.items():

        async def widened(container: str = container, limit: str = limit) -> bool:
            await docker("update", "--memory", limit, "--memory-swap", limit, container, check=False)
            return await inspect(container, "{{.HostConfig.Memory}}") == limit

        await until(widened, KILLED_WITHIN_S, f"{container} has its memory limit again")
    _limits.clear()


FAULTS = [
    Fault(
        name="oom",
        what="one replica of each service reaches its memory limit: its tmpfs is filled until the kernel ends it",
        inject=_fill,
        during_s=2,
        heal=_widen,
        restarts=hurt_containers,
    ),
]
