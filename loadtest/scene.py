"""What the people of a crew share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.events import Event
from loadtest.isolation import Isolation
from loadtest.metronome import Metronome
from loadtest.references import References
from loadtest.settings import LoadSettings
from loadtest.utterances import Library


@dataclass
class Scene:
    """One a crew."""

    settings: LoadSettings
    emit: Callable[[Event], None]
    references: References
    library: Library | None = None
    """None until it has been read."""
    metronome: Metronome = field(default_factory=Metronome)
    isolation: Isolation = field(default_factory=Isolation)
    players: dict[tuple[str, int], str] = field(default_factory=dict)
    """Who has which number of a kind now."""
    _epoch: float = field(default_factory=lambda: time.time() - time.monotonic())

    def epoch(self, monotonic: float) -> float:
        """A moment in seconds since the epoch; all clocks of a crew go by one of them."""
        return self._epoch + monotonic

    def now(self) -> float:
        """The present, as records tell it."""
        return self.epoch(time.monotonic())
