"""What a speaker gets back from a system, whichever it is, and how long the words took."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.speech import Speech, Spoken
from loadtest.clips import BETWEEN_S, SAMPLE_RATE, Pcm

REACHES_S = 1.0
"""A final reaches the end of a clip's speech if it ends at most so much before it: Whisper's times are that rough."""
HOLDS_S = 0.3
"""And it must hold more than so much of that speech: what is barely audible may be silence."""
DRAIN_S = 15.0
"""So long after the end of the speech a final may still come; a clip without one by then was not finalised."""
SETTLE_S = 2.0
"""Without news for so long, a speaker whose clips are all covered expects no more."""


@dataclass(frozen=True)
class Text:
    """Words that a system gave out."""

    at: float
    """When they came: seconds since the stream's first sample was spoken."""
    words: str
    final: bool
    start: float | None
    """Where they are in the stream, seconds of its audio; None where the system does not tell."""
    end: float | None


@dataclass(frozen=True)
class Heard:
    """What one speaker got back."""

    latencies: list[float]
    """Of each clip: from the true end of its speech to its last final, seconds; infinite where none came in time."""
    first_partials: list[float]
    """Of each clip that had one: from the true begin of its speech to the first words of it, seconds."""
    said: str
    words: str


@dataclass
class Speaker:
    """One speaker's stream: what is said, by a schedule that no system can delay, and what came back."""

    speech: Speech
    texts: list[Text] = field(default_factory=list)
    began: float = 0.0
    """When the first sample is spoken, on the clock of `time.monotonic`."""

    def begin(self) -> None:
        """The first sample is spoken now."""
        self.began = time.monotonic()

    def hear(self, words: str, *, final: bool, start: float | None = None, end: float | None = None) -> None:
        """The system gave out words."""
        self.texts.append(Text(time.monotonic() - self.began, words.strip(), final, start, end))

    def waits(self) -> bool:
        """Whether the speaker, silent now, still waits for words."""
        now = time.monotonic() - self.began
        if now > self.speech.spoken[-1].speech_end + DRAIN_S:
            return False
        newest = self.texts[-1].at if self.texts else 0.0
        return now < newest + SETTLE_S or math.inf in _arrivals(
            self.speech, [text for text in self.texts if text.final]
        )

    async def frames(self, seconds: float) -> AsyncIterator[Pcm]:
        """All that is said, and then silence while the speaker waits; each frame once its last sample is spoken."""
        samples, size, sent = self.speech.samples, round(seconds * SAMPLE_RATE), 0
        while sent < len(samples) or self.waits():
            frame = samples[sent : sent + size]
            sent += size
            await self.until(sent / SAMPLE_RATE)
            yield np.pad(frame, (0, size - len(frame)))

    async def until(self, second: float) -> None:
        """Wait until that second of the stream has been spoken."""
        await asyncio.sleep(max(0.0, self.began + second - time.monotonic()))


def judge(speech: Speech, texts: list[Text]) -> Heard:
    """Find out which words tell of which clip."""
    finals = [text for text in texts if text.final]
    arrivals = _arrivals(speech, finals)
    late = [at - spoken.speech_end for at, spoken in zip(arrivals, speech.spoken, strict=True)]
    first_partials = []
    for (spoken, begin, end), known in zip(_windows(speech), [0.0, *arrivals[:-1]], strict=True):
        first = [text.at for text in texts if text.words and _tells(text, spoken, begin, end, known)]
        if first:
            first_partials.append(min(first) - spoken.speech_start)
    return Heard(
        [latency if latency <= DRAIN_S else math.inf for latency in late],
        first_partials,
        " ".join(spoken.clip.text for spoken in speech.spoken),
        " ".join(final.words for final in finals),
    )


def _arrivals(speech: Speech, finals: list[Text]) -> list[float]:
    """When the last final came that covers each clip; infinite where none did."""
    return [
        max((final.at for final in finals if _covers(final, spoken, end)), default=math.inf)
        for spoken, _, end in _windows(speech)
    ]


def _windows(speech: Speech) -> Iterator[tuple[Spoken, float, float]]:
    """Each clip with the part of the stream that is its own."""
    begins = [spoken.start - BETWEEN_S for spoken in speech.spoken]
    yield from zip(speech.spoken, begins, [*begins[1:], math.inf], strict=True)


def _covers(final: Text, spoken: Spoken, end: float) -> bool:
    """Whether a final tells of the end of a clip: it reaches it, and holds some of what is before it."""
    if final.end is None or final.end < spoken.speech_end - REACHES_S:
        return False
    if final.start is None:
        return final.end < end
    return final.start < spoken.speech_end - HOLDS_S


def _tells(text: Text, spoken: Spoken, begin: float, end: float, known: float) -> bool:
    """Whether a text, final or not, tells of a clip.

    Where the system does not tell the time, it is one that came after everything before the clip was final.
    """
    if text.end is None:
        return max(known, spoken.speech_start) < text.at
    return max(begin, spoken.speech_start) < text.end < end
