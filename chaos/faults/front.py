"""What may happen to nginx: it is restarted, or can't ask for names."""

from __future__ import annotations

from chaos.fault import Fault
from chaos.stack import NGINX, Stack, docker, iptables


async def _restart(_stack: Stack) -> None:
    await docker("restart", NGINX)


# Docker's resolver listens within the container, behind rules of its own that change the port.
NO_NAMES = "OUTPUT -d 127.0.0.11 -j DROP"


async def _drop_names(_stack: Stack) -> None:
    await iptables(NGINX, f"-I {NO_NAMES}")


async def _allow_names(_stack: Stack) -> None:
    await iptables(NGINX, f"-D {NO_NAMES}", check=False)


FAULTS = [
    Fault(
        name="nginx",
        what="nginx is restarted",
        inject=_restart,
        during_s=5,
        restarts=lambda _stack: [NGINX],
    ),
    Fault(
        name="dns",
        what="nginx gets no answer from Docker's DNS for 10 s",
        inject=_drop_names,
        during_s=10,
        heal=_allow_names,
    ),
]
