"""What happened in a run: one record each, written as JSON lines, from which everything reported is computed.

The people (`loadtest.crew`) emit them, Locust collects them, the report reads them. A new fact is a new field or record
here, never a second channel. `at` is when it was known, in seconds since the epoch; all lengths of time are in seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Service = Literal["asr", "tts"]


class Record(msgspec.Struct, tag_field="record", tag=str.lower, kw_only=True):
    """Common to all."""

    at: float


class Run(Record, kw_only=True):
    """What was to be done, and on which machine; the first record of a run, once."""

    settings: dict[str, str | int | float | bool | None]
    """As a person chose them, and what the stack said of itself; shown in the report as they are."""
    machine: dict[str, str | int]
    """That the people ran on, as `benchmarks.machine.describe` tells it."""
    seconds: float | None = None
    """How long it was to last; None: until somebody ended it."""
    users: int | None = None
    """How many people there were to be at the most; None: it was left open, as where they arrive by a rate."""


class OfUser(Record, kw_only=True):
    """Of one simulated person on one connection."""

    user: str
    """As `voice-17`: kind and number, unique in a run over all workers."""
    service: Service
    connection_id: str = ""
    """From `ready`; empty where none came."""
    instance: str = ""
    """The replica, from `ready`."""


class Connected(OfUser, kw_only=True):
    """A connection was accepted and greeted."""

    took: float
    """From the attempt to `ready`."""
    again: bool = False
    """A reconnect after a connection was lost, or after the person hung up."""


class Refused(OfUser, kw_only=True):
    """The service said before the upgrade that it takes no more; not an error."""

    took: float
    status: int
    retry_after: float | None = None


class Failed(OfUser, kw_only=True):
    """Something that must not happen: a failed connection, an `error` message, a broken promise of the protocol."""

    what: str


class Lost(OfUser, kw_only=True):
    """A connection ended before its stream was over; the person connects again by itself."""

    what: str
    """Close code and reason."""
    promised: bool = False
    """By the protocol, to a slow reader: `too_slow`, or no answer to a ping, which lies behind what is unread."""


class Heard(OfUser, kw_only=True):
    """What recognition made of one utterance that a person spoke."""

    spoken: str
    """Reference words, normalised."""
    heard: str
    """Words of the finals, normalised; empty where nothing came."""
    words: int
    errors: int
    """Word edits between the two."""
    seconds: float
    """Length of its speech."""
    final_s: float | None
    """From the true end of speech to the final that covers it, at the client; None: lost, it never came."""
    partial_s: float | None
    """From the begin of speech to the first partial."""
    turn_due: float
    """When it was to be spoken by the person's own schedule, seconds since the epoch."""


class Spoken(OfUser, kw_only=True):
    """One reply that a person asked for and heard."""

    text: str
    words: int
    outcome: Literal["complete", "cancelled", "cut", "overloaded"]
    """`cancelled` by the person (barge-in), `cut` by a lost connection, `overloaded`: the service took no more."""
    first_audio_s: float | None
    """From `asked_due` to the first audio; None: none came."""
    seconds: float
    """Audio that came."""
    gaps: int
    gap_s: float
    """Silence that a player hears within it, together."""
    longest_gap_s: float
    proof: Literal["same", "other", "unchecked"]
    """Whether the audio is that of its text (`same`), is not (`other`), or was not compared, as of a cut reply."""
    asked_due: float
    """When it was to be asked for by the person's own schedule, seconds since the epoch."""


class Breach(OfUser, kw_only=True):
    """Words or audio of somebody else's, or audio that is not that of its text: isolation is broken."""

    whose: str
    """The other person; empty where nobody is known to whom it belongs."""
    other_connection_id: str
    what: str
    """What came, and whose it is."""
    heard: str = ""
    """Of recognition: the words that came, normalised. By them the report finds a person of another load generator."""


class Lag(Record, kw_only=True):
    """A load generator's own state over the last second or so: whether its figures can be trusted."""

    worker: str
    users: int
    late_p95: float
    """Frames sent after they were due."""
    late_worst: float
    cpu: float
    """Share of one core that the crew's process took, and the Locust worker's beside it, where there is one."""


class Population(Record, kw_only=True):
    """How many people there are, whenever that changes."""

    users: int
    worker: str = ""


class Replica(Record, kw_only=True):
    """What a replica, nginx or the machine told of itself; read every few seconds."""

    instance: str
    """The replica's host name, `nginx` or `machine`."""
    service: str
    values: dict[str, float]
    """Metric (with labels, as Prometheus writes them) to value, only those that the report uses."""


Event = Run | Connected | Refused | Failed | Lost | Heard | Spoken | Breach | Lag | Population | Replica

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """One line, without its end."""
    return _encoder.encode(event)


def decode(line: bytes | str) -> Event:
    """The record of a line. Raises `msgspec.ValidationError`."""
    event: Event = _decoder.decode(line)
    return event
