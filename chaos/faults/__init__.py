"""Every fault, one module a kind."""

from __future__ import annotations

from chaos.fault import Fault
from chaos.faults import clock, descriptors, disk, engine, front, half_open, memory, model, network, process

FAULTS: list[Fault] = [
    fault
    for module in (process, engine, memory, model, disk, descriptors, front, network, half_open, clock)
    for fault in module.FAULTS
]
