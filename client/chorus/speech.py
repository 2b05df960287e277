"""From text to audio in one call."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from chorus.aio import connect_tts
from chorus.connect import TTS_URL
from chorus.errors import StreamError
from chorus.tasks import send_and_receive
from chorus.tts import Audio, Event
from chorus.wire import tts as wire
from chorus.wire.common import Error


@dataclass
class Speech:
    """The audio of a text."""

    audio: bytes
    encoding: str
    sample_rate: int
    """Hz; 0 where nothing was spoken."""
    seconds: float
    first_audio_s: float | None
    """From the first text sent to the first audio received; None where nothing was spoken."""
    events: list[Event]
    """Everything the server said, in order, from `ready` to `done`."""
    done: wire.Done
    violations: list[str]
    """Promises of the protocol that the server broke; empty, or an exception would have told, where `strict`."""


async def speak(
    text: str | AsyncIterator[str],
    url: str = TTS_URL,
    *,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    strict: bool = True,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Speech:
    """Synthesise a text, or one that comes in pieces: whole sentences are spoken while the rest is still written.

    `key` and `ca` are `connect_tts`'s. `on_event` is called with each event as it comes. Raises `ChorusError`,
    `OSError`, `ValueError`, and what the pieces raise.
    """
    async with connect_tts(url, key=key, ca=ca, strict=strict, **settings) as stream:
        protocol = stream.protocol
        assert protocol.ready is not None
        events: list[Event] = [protocol.ready]
        asked: float | None = None
        heard: float | None = None

        async def send() -> None:
            nonlocal asked
            if isinstance(text, str):
                asked = time.monotonic()
                await stream.send(protocol.synthesize(text))
            else:
                async for piece in text:
                    asked = asked or time.monotonic()
                    await stream.send(protocol.append(piece))
            await stream.send(protocol.close())

        async def receive() -> None:
            nonlocal heard
            async for event in stream:
                if isinstance(event, Audio):
                    heard = heard or time.monotonic()
                elif isinstance(event, Error) and event.recoverable:
                    # The one request was not accepted: there is nothing to go on with.
                    raise StreamError(event.code, event.message)
                events.append(event)
                if on_event is not None:
                    on_event(event)

        await send_and_receive(send(), receive())
        assert protocol.done is not None
        frames = [event for event in events if isinstance(event, Audio)]
        return Speech(
            b"".join(frame.data for frame in frames),
            frames[0].encoding if frames else str(protocol.settings.get("encoding", "")),
            frames[0].sample_rate if frames else 0,
            protocol.done.audio_seconds,
            heard - asked if heard is not None and asked is not None else None,
            events,
            protocol.done,
            protocol.violations,
        )
