"""From audio to words in one call."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from chorus.aio import AsrStream, connect_asr
from chorus.asr import Event
from chorus.connect import ASR_URL
from chorus.sources import Source
from chorus.tasks import from_thread, send_and_receive
from chorus.wire import asr as wire


@dataclass
class Transcription:
    """What came back for one source."""

    name: str
    text: str
    finals: list[wire.Final]
    events: list[Event]
    """Everything the server said, in order, from `ready` to `done`."""
    done: wire.Done
    missing_finals: int
    """Utterances that were neither finished nor dropped."""
    violations: list[str]
    """Promises of the protocol that the server broke; empty, or an exception would have told, where `strict`."""
    seconds_after_end: float
    """From the last sample sent to `done`."""


async def transcribe(
    source: Source,
    url: str = ASR_URL,
    *,
    realtime: bool = False,
    strict: bool = True,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Transcription:
    """Stream a source and collect its words, at the speed of speech where `realtime`, else as fast as they are taken.

    `on_event` is called with each event as it comes. Raises `ChorusError`, `OSError`, and what the source raises.
    """
    async with connect_asr(url, strict=strict, **source.settings, **settings) as stream:
        protocol = stream.protocol
        assert protocol.ready is not None
        events: list[Event] = [protocol.ready]
        if on_event is not None:
            on_event(protocol.ready)
        ended = 0.0

        async def send() -> None:
            nonlocal ended
            await _send_audio(stream, source, realtime)
            ended = monotonic()
            await stream.send(protocol.close())

        async def receive() -> None:
            async for event in stream:
                events.append(event)
                if on_event is not None:
                    on_event(event)

        await send_and_receive(send(), receive())
        assert protocol.done is not None
        return Transcription(
            source.name,
            protocol.text,
            protocol.finals,
            events,
            protocol.done,
            protocol.missing_finals,
            protocol.violations,
            monotonic() - ended,
        )


async def _send_audio(stream: AsrStream, source: Source, realtime: bool) -> None:
    started = monotonic()
    sent = 0
    async for frame in _frames(source):
        if realtime:
            # Audio can be sent once it has been spoken: a frame goes out at the time of its last sample.
            due = started + (sent + len(frame)) / source.bytes_per_second
            await sleep(max(0.0, due - monotonic()))
        await stream.send(stream.protocol.audio(frame))
        sent += len(frame)


async def _frames(source: Source) -> AsyncIterator[bytes]:
    if source.blocks:
        async for frame in from_thread(source.frames):
            yield frame
    else:
        for frame in source.frames:
            yield frame
            await sleep(0)  # a send that does not wait would never let the receiver run
