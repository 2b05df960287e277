"""Listeners: what they ask for and when, what came of it, and the silences that they hear in it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from benchmarks.systems import Refused
from loadtest.figures import gaps, percentile
from loadtest.texts import REPLIES

CONNECTS_BEFORE_S = 0.5
"""A listener's connection is opened so long before it asks; what takes longer counts as waiting for the answer."""
COMPLETE_WITHIN_S = 60.0
"""A reply that is not complete so long after it was asked for has failed."""


@dataclass
class Reply:
    """One text that a listener asks for, and what came back. Times are of `time.monotonic`."""

    text: str
    due: float
    """When it is asked for, by a schedule that no system can delay."""
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    """When each piece of audio came, and how many seconds it sounds."""
    complete: bool = False
    refused: bool = False
    failure: str | None = None

    async def until_due(self) -> None:
        """Wait for the moment to ask."""
        await asyncio.sleep(max(0.0, self.due - time.monotonic()))

    def hear(self, seconds: float) -> None:
        """Audio came."""
        self.arrivals.append((time.monotonic(), seconds))

    @property
    def first_audio_s(self) -> float:
        """From the moment to ask to the first audio; infinite where none came."""
        return self.arrivals[0][0] - self.due if self.arrivals else math.inf

    @property
    def ended(self) -> float | None:
        """When the last of its audio came; None where it is not complete."""
        return self.arrivals[-1][0] if self.complete else None

    @property
    def seconds(self) -> float:
        """How long all that came sounds."""
        return sum(seconds for _, seconds in self.arrivals)


@dataclass(frozen=True)
class Heard:
    """What came of many replies."""

    replies: int
    refused: int
    """The system told that it takes no more; nothing else here is about them."""
    failed: int
    """Those that were not complete in time, or ended in an error."""
    first_p50: float
    """From the moment to ask to the first audio, seconds; infinite where that one never came, as the next two."""
    first_p95: float
    first_worst: float
    gapped: int
    """Replies with a gap in them."""
    gaps: int
    gap_s: float
    """All of them together."""
    longest_gap_s: float
    audio_s: float
    failures: dict[str, int]
    """How often what went wrong."""

    @property
    def complete(self) -> bool:
        """Whether everybody got everything."""
        return not self.failed and not self.refused


def judge(replies: Iterable[Reply]) -> Heard:
    """What came of them."""
    replies = list(replies)
    taken = [reply for reply in replies if not reply.refused]
    first = [reply.first_audio_s for reply in taken]
    silences = [found for reply in taken if (found := gaps(reply.arrivals))]
    lengths = [length for found in silences for length in found]
    failures = Counter(reply.failure for reply in taken if reply.failure is not None)
    return Heard(
        replies=len(replies),
        refused=len(replies) - len(taken),
        failed=failures.total(),
        first_p50=_quantile(first, 0.5),
        first_p95=_quantile(first, 0.95),
        first_worst=max(first, default=math.inf),
        gapped=len(silences),
        gaps=len(lengths),
        gap_s=sum(lengths),
        longest_gap_s=max(lengths, default=0.0),
        audio_s=sum(reply.seconds for reply in taken),
        failures=dict(failures),
    )


def texts(seed: int = 0) -> Iterator[str]:
    """Replies without end: each once, in an order of the seed, then all again in another."""
    known = REPLIES.read_text(encoding="utf-8").splitlines()
    order = random.Random(seed)
    while True:
        yield from order.sample(known, len(known))


def apart(listeners: int, every_s: float, seconds: float, begin: float) -> list[Reply]:
    """So many listeners, each with a reply every so often from a random moment on: all that falls into the time."""
    phases = random.Random(listeners)
    moments = sorted(
        phase + turn * every_s
        for phase in (phases.uniform(0, every_s) for _ in range(listeners))
        for turn in range(math.ceil((seconds - phase) / every_s))
    )
    return [Reply(text, begin + moment) for text, moment in zip(texts(), moments, strict=False)]


async def ask(speak: Callable[[Reply], Awaitable[None]], reply: Reply) -> None:
    """Have a reply spoken at its time, and note what came of it."""
    await asyncio.sleep(max(0.0, reply.due - CONNECTS_BEFORE_S - time.monotonic()))
    limit = asyncio.timeout(reply.due + COMPLETE_WITHIN_S - time.monotonic())
    try:
        async with limit:
            await speak(reply)
    except Refused:
        reply.refused = True
    except Exception as error:  # whatever a system does to one listener, the others go on
        late = f"not complete after {COMPLETE_WITHIN_S:.0f} s" if limit.expired() else ""
        reply.failure = late or str(error) or type(error).__name__
    else:
        reply.complete = bool(reply.arrivals)
        reply.failure = None if reply.complete else "no audio"


def _quantile(values: list[float], share: float) -> float:
    found = percentile(values, share)
    return math.inf if found is None else found
