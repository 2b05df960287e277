"""Clients that are gone without a word: nothing of theirs arrives any more, and nothing reaches them."""

from __future__ import annotations

from chaos.clients import Wave, open_wave
from chaos.fault import Fault
from chaos.stack import FRONT, SERVICES, Stack

_waves: list[Wave] = []
EACH = 4
"""Of each service; the people who go on need room beside them."""


async def _go_silent(stack: Stack) -> None:
    """Leave their sockets open: it is for the server to find out."""
    _waves.extend([await open_wave(service, FRONT[service], EACH) for service in SERVICES])
    for wave in _waves:
        await wave.block()


async def _end(_stack: Stack) -> None:
    for wave in _waves:
        await wave.put_away()
    _waves.clear()


FAULTS = [
    Fault(
        name="half-open",
        what=f"{EACH} clients of each service go silent, without a FIN, in the midst of a stream",
        inject=_go_silent,
        during_s=35,
        heal=_end,
    ),
]
