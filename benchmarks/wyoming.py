"""Events of the Wyoming protocol: a line of JSON, and the data and payload that it announces."""

from __future__ import annotations

import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One message, either way."""

    type: str
    data: dict[str, Any]
    payload: bytes


def say(writer: StreamWriter, kind: str, data: dict[str, Any], payload: bytes = b"") -> None:
    """Send an event."""
    header = {"type": kind, "data": data, **({"payload_length": len(payload)} if payload else {})}
    writer.write(json.dumps(header).encode() + b"\n" + payload)


async def events(reader: StreamReader) -> AsyncIterator[Event]:
    """Every event until the other side hangs up."""
    while line := await reader.readline():
        header = json.loads(line)
        data = header.get("data") or {}
        if length := header.get("data_length"):
            data |= json.loads(await reader.readexactly(length))
        yield Event(header["type"], data, await reader.readexactly(header.get("payload_length") or 0))
