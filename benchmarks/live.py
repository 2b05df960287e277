"""A live speaker on a recognition stream: what came back, and how late."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from benchmarks.speech import Speech, covers, finals_of
from chorus.sources import from_bytes
from chorus.transcription import transcribe
from chorus.wire import asr as wire


@dataclass
class Heard:
    """What one speaker got back."""

    latencies: list[float] = field(default_factory=list)
    """Of each clip that was covered: from the true end of its speech to its last final, seconds, however late."""
    uncovered: int = 0
    """Clips whose end no final tells of: they are lost."""
    broken: list[str] = field(default_factory=list)
    """Promises of the protocol that were."""


async def speak(speech: Speech, url: str, delay: float = 0.0) -> Heard:
    """One speaker's stream, at the speed of speech, from its first word to `done`. Raises what `transcribe` raises.

    The end of a clip's speech is by the sender's schedule: a sender that is late does not flatter the server.
    """
    await asyncio.sleep(delay)
    began = 0.0
    arrived: dict[int | None, float] = {}

    def note(event: object) -> None:
        nonlocal began
        if isinstance(event, wire.Final):
            arrived[event.utterance] = time.monotonic()
        began = began or time.monotonic()  # `ready`: the first sample is spoken then

    source = from_bytes(speech.samples.tobytes())
    result = await transcribe(source, url, realtime=True, strict=False, on_event=note)
    heard = Heard(broken=list(result.violations))
    for spoken, finals in zip(speech.spoken, finals_of(speech.spoken, result.finals), strict=True):
        covering = [final for final in finals if covers(final, spoken)]
        if covering:
            heard.latencies.append(arrived[covering[-1].utterance] - began - spoken.speech_end)
        else:
            heard.uncovered += 1
    return heard
