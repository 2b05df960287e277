"""From audio to words in one call."""

from __future__ import annotations

import os
from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from chorus.aio import AsrStream, ReconnectingAsrStream, connect_asr, reconnecting_asr
from chorus.connect import ASR_URL
from chorus.reconnect import Event, Resumed
from chorus.sources import Source
from chorus.tasks import from_thread, send_and_receive
from chorus.wire import asr as wire

KEPT_BYTES = 32 * 1024 * 1024
"""For a reconnect: of a file sent as fast as it is taken, the network's buffers alone hold minutes of audio."""


@dataclass
class Transcription:
    """What came back for one source."""

    name: str
    text: str
    finals: list[wire.Final]
    events: list[Event]
    """Everything the server said, in order, from `ready` to `done`; with `reconnect` also the client's own events."""
    done: wire.Done
    missing_finals: int
    """Utterances that were neither finished nor dropped."""
    violations: list[str]
    """Promises of the protocol that the server broke; empty, or an exception would have told, where `strict`."""
    seconds_after_end: float
    """From the last sample sent to `done`."""

    @property
    def lost_seconds(self) -> float:
        """Audio that no connection could be given once more."""
        return sum(event.lost_seconds for event in self.events if isinstance(event, Resumed))


async def transcribe(
    source: Source,
    url: str = ASR_URL,
    *,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    realtime: bool = False,
    strict: bool = True,
    reconnect: bool = False,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Transcription:
    """Stream a source and collect its words, at the speed of speech where `realtime`, else as fast as they are taken.

    `key` and `ca` are `connect_asr`'s. With `reconnect` a connection that is lost is not the end. `on_event` is called
    with each event as it comes.
    Raises `ChorusError`, `OSError`, `ValueError`, and what the source raises.
    """
    asked = source.settings | settings
    async with (
        reconnecting_asr(url, key=key, ca=ca, resend_bytes=KEPT_BYTES, strict=strict, **asked)
        if reconnect
        else connect_asr(url, key=key, ca=ca, strict=strict, **asked)
    ) as stream:
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


async def _send_audio(stream: AsrStream | ReconnectingAsrStream, source: Source, realtime: bool) -> None:
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
