"""What may happen between clients, nginx and replicas: packets are lost, late, or go nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.fault import Fault
from chaos.faults.process import HURT
from chaos.relay import Relay
from chaos.stack import NGINX, Stack, iptables

LOSS = "-m statistic --mode random --probability 0.01 -j DROP"
NOBODY = {"INPUT": "! -i lo -j DROP", "OUTPUT": "! -o lo -j DROP"}
"""Docker's own health check goes on."""
relay = Relay()


async def _lose(_stack: Stack) -> None:
    await iptables(NGINX, f"-I INPUT {LOSS}", f"-I OUTPUT {LOSS}")


async def _lose_no_more(_stack: Stack) -> None:
    await iptables(NGINX, f"-D INPUT {LOSS}", f"-D OUTPUT {LOSS}", check=False)


async def _cut_off(_stack: Stack) -> None:
    for replica in HURT:
        await iptables(replica.container, *(f"-I {chain} {rule}" for chain, rule in NOBODY.items()))


async def _let_back(_stack: Stack) -> None:
    for replica in HURT:
        await iptables(replica.container, *(f"-D {chain} {rule}" for chain, rule in NOBODY.items()), check=False)


@asynccontextmanager
async def _relayed(_stack: Stack) -> AsyncIterator[dict[str, str]]:
    async with relay.listening("nginx", 8000) as asr, relay.listening("nginx", 8003) as tts:
        yield {"asr": f"ws://127.0.0.1:{asr}", "tts": f"ws://127.0.0.1:{tts}"}


async def _delay(_stack: Stack) -> None:
    relay.delay_s, relay.jitter_s = 0.25, 0.1


async def _delay_no_more(_stack: Stack) -> None:
    relay.delay_s, relay.jitter_s = 0.0, 0.0


FAULTS = [
    Fault(
        name="loss",
        what="nginx loses 1 % of its packets, both ways, to clients and to replicas, for 25 s",
        inject=_lose,
        during_s=25,
        heal=_lose_no_more,
    ),
    Fault(
        name="delay",
        what="everything between clients and nginx takes 250 to 350 ms, each way, for 20 s",
        inject=_delay,
        during_s=20,
        heal=_delay_no_more,
        around=_relayed,
    ),
    Fault(
        name="cut-off",
        what="one replica of each service is cut off from the network for 30 s, without a FIN",
        inject=_cut_off,
        during_s=30,
        heal=_let_back,
    ),
]
