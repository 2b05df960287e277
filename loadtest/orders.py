"""What a crew is told, and what it tells of itself beside events: JSON lines on its standard input and output."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtest.events import Event, Record
from loadtest.settings import Kind


class Prepare(msgspec.Struct, tag="prepare", tag_field="order", forbid_unknown_fields=True):
    """Make what these people will say and hear; answered by `Progress` … `Prepared` or `Trouble`.

    Everybody of a kind has a number, by which texts and utterances are the person's own. Crews of one run are given
    numbers that do not overlap. Who is started beyond the prepared numbers is not compared with a reference.
    """

    people: dict[Kind, int]
    """How many of each kind may be there at once."""
    first: int = 0
    """The first number of each kind."""


class Start(msgspec.Struct, tag="start", tag_field="order", forbid_unknown_fields=True):
    """A person comes, and stays until it is stopped."""

    name: str
    """As `voice-17`, unique in the run."""
    kind: Kind


class Stop(msgspec.Struct, tag="stop", tag_field="order", forbid_unknown_fields=True):
    """A person leaves: it closes its streams in order, which takes a moment."""

    name: str


class StopAll(msgspec.Struct, tag="stop_all", tag_field="order", forbid_unknown_fields=True):
    """Everybody leaves, and nobody arrives any more; answered by `Left`."""


class Arrive(msgspec.Struct, tag="arrive", tag_field="order", forbid_unknown_fields=True):
    """Callers arrive from now on, of the kinds of the mix; each leaves after its turns. A rate of 0 ends it.

    They are named by kind and number: `first`, `first + step`, …, so that several crews name different ones.
    """

    per_minute: float
    turns: int
    first: int = 1
    step: int = 1


class End(msgspec.Struct, tag="end", tag_field="order", forbid_unknown_fields=True):
    """Everybody leaves and the crew ends, as at the end of its input."""


Order = Prepare | Start | Stop | StopAll | Arrive | End


class Progress(Record, kw_only=True):
    """Of `Prepare`."""

    done: int
    total: int
    what: str


class Prepared(Record, kw_only=True):
    """Everything that was asked to be prepared is."""


class Left(Record, kw_only=True):
    """Everybody has left."""


class Trouble(Record, kw_only=True):
    """An order that could not be followed, and why; of a crew that can't go on it is the last line."""

    what: str


Told = Event | Progress | Prepared | Left | Trouble
"""A line of a crew's output."""

_encoder = msgspec.json.Encoder()
_orders = msgspec.json.Decoder(Order)
_told = msgspec.json.Decoder(Told)


def encode(line: Any) -> bytes:
    """An order, an event or another line, with its end."""
    return _encoder.encode(line) + b"\n"


def read_order(line: bytes) -> Order:
    """Raises `msgspec.ValidationError`."""
    order: Order = _orders.decode(line)
    return order


def read_told(line: bytes) -> Told:
    """Raises `msgspec.ValidationError`."""
    told: Told = _told.decode(line)
    return told
