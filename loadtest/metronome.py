"""The one clock of a crew: every microphone's next frame when it is due, and how late that was.

Frames are due every 20 ms. People are spread over phases of that, so that a worker wakes up 200 times a second however
many there are, and a replica does not get everybody's frames at once. A tick that was missed is made up for: as many
frames go out as time has passed, and each counts as late as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.figures import percentile

FRAME_S = 0.02
PHASES = 4
TICK_S = FRAME_S / PHASES

Tick = Callable[[float], None]
"""Sends a person's next frame, which was due at that time (`time.monotonic`)."""


@dataclass(frozen=True)
class Lateness:
    """Of the ticks since the last look."""

    p95: float
    worst: float
    cpu: float
    """Share of one core that this process took."""


class Metronome:
    """Calls every member once in 20 ms, from when it joins until it leaves."""

    def __init__(self) -> None:
        self._members: list[dict[Tick, None]] = [{} for _ in range(PHASES)]
        self._late: list[float] = []
        self._looked = (time.monotonic(), time.process_time())

    def join(self, tick: Tick) -> None:
        """Call it from now on, in the phase with the fewest members."""
        min(self._members, key=len)[tick] = None

    def leave(self, tick: Tick) -> None:
        """Call it no more; nothing happens where it is not called."""
        for members in self._members:
            members.pop(tick, None)

    async def run(self) -> None:
        """Tick until cancelled."""
        number, begin = 0, time.monotonic()
        while True:
            due = begin + number * TICK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))  # with 0, what has been received has its turn
            for tick in list(self._members[number % PHASES]):
                tick(due)
            # Taken after the frames were written: the last of a tick waits for all before it.
            self._late.append(max(0.0, time.monotonic() - due))
            number += 1

    def look(self) -> Lateness:
        """How late ticks were, and the CPU used, since the last look."""
        late, self._late = self._late, []
        before, self._looked = self._looked, (time.monotonic(), time.process_time())
        wall, cpu = (new - old for new, old in zip(self._looked, before, strict=True))
        return Lateness(percentile(late, 0.95) or 0.0, max(late, default=0.0), cpu / wall if wall else 0.0)
