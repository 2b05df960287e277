"""Records as rows of Locust's statistics: what each tells who watches, in milliseconds, and whether it failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.events import Breach, Connected, Event, Failed, Heard, Lag, Lost, OfUser, Refused, Spoken

LONGEST = 300
"""Characters of what went wrong that are shown."""
FINAL, PARTIAL, FIRST_AUDIO = "final after end of speech", "first partial", "first audio"


@dataclass(frozen=True)
class Row:
    """One measurement."""

    kind: str
    """Locust's column `Type`: ASR, TTS, or load for what the generator tells of itself."""
    name: str
    ms: float
    failure: str | None = None
    """What went wrong; None where nothing did."""


def rows(event: Event) -> Iterator[Row]:
    """Of one record; none of those that tell of no measurement."""
    kind = event.service.upper() if isinstance(event, OfUser) else "load"
    match event:
        case Connected():
            yield Row(kind, "connect again" if event.again else "connect", event.took * 1000)
        case Refused():
            yield Row(kind, f"refused with {event.status}", event.took * 1000)
        case Failed():
            yield Row(kind, "error", 0, event.what[:LONGEST])
        case Lost(promised=True):
            yield Row(kind, "slow reader cut off", 0)
        case Lost():
            yield Row(kind, "connection lost", 0, f"lost: {event.what}"[:LONGEST])
        case Heard():
            if event.final_s is None:
                yield Row(kind, FINAL, 0, "the utterance's final never came")
            else:
                yield Row(kind, FINAL, event.final_s * 1000)
            if event.partial_s is not None:
                yield Row(kind, PARTIAL, event.partial_s * 1000)
        case Spoken():
            yield from _spoken(kind, event)
        case Breach():
            whose = f"is {event.whose}'s ({event.other_connection_id})" if event.whose else "is not theirs"
            told = f"{event.user} ({event.connection_id}) got what {whose}: {event.what}"
            yield Row(kind, "somebody else's", 0, told[:LONGEST])
        case Lag():
            yield Row(kind, "frames sent late, p95 of a second", event.late_p95 * 1000)


def _spoken(kind: str, event: Spoken) -> Iterator[Row]:
    if event.first_audio_s is not None:
        yield Row(kind, FIRST_AUDIO, event.first_audio_s * 1000)
    elif event.outcome == "complete":
        yield Row(kind, FIRST_AUDIO, 0, "the reply was complete without any audio")
    if event.outcome == "overloaded":
        yield Row(kind, "reply refused (overloaded)", 0)
    if event.gaps:
        yield Row(kind, "gap within a reply", event.gap_s * 1000, "the listener heard a gap")
