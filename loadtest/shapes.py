"""How many people there are over the time of a run: each shape is a table of stages, made before the run begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

ShapeName = Literal["steady", "ramp", "burst", "staircase", "soak", "open"]
SHAPES: tuple[ShapeName, ...] = get_args(ShapeName)
BURST_S = 2.0
"""The time in which the burst's people come."""
CHURN_S = 300.0
"""A soak sends a tenth of its people away so often …"""
AWAY_S = 30.0
"""… for so long."""


@dataclass(frozen=True)
class Stage:
    """From a moment on there are to be so many people."""

    start_s: float
    """Since the begin of the run."""
    users: int
    rate: float
    """People who come or leave in a second, until there are so many."""


@dataclass(frozen=True)
class Outline:
    """What every shape is made of."""

    shape: ShapeName
    users: int
    seconds: float
    """Of the whole run."""
    rate: float = 10.0
    """People who come or leave in a second, where the shape does not say."""
    peak: int = 100
    """Of the burst."""
    ramp_s: float = 60.0
    """In which the ramp's people come, and the soak's."""
    step: int = 10
    """By which a staircase rises."""


def stages(outline: Outline) -> tuple[Stage, ...]:
    """The shape's table, from 0 s on. Raises `ValueError`, which names what can't be."""
    users, seconds, rate = outline.users, outline.seconds, outline.rate
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a run of {seconds:g} s: a time is more than 0")
    if outline.shape == "open":
        return (Stage(0, 0, 1),)
    if users < 1:
        raise ValueError(f"{users} users: at least 1 is needed")
    if not 0 < rate < float("inf"):
        raise ValueError(f"{rate:g} users a second: more than 0 must come")
    ramp = users / outline.ramp_s if outline.ramp_s else float(users)
    match outline.shape:
        case "steady":
            return (Stage(0, users, rate),)
        case "ramp":
            return (Stage(0, users, ramp),)
        case "burst":
            if outline.peak <= users:
                raise ValueError(f"a burst from {users} to {outline.peak} users: the peak must be above")
            burst = (outline.peak - users) / BURST_S
            third = seconds / 3
            return Stage(0, users, rate), Stage(third, outline.peak, burst), Stage(2 * third, users, burst)
        case "staircase":
            if outline.step < 1:
                raise ValueError(f"stairs of {outline.step} users: at least 1 is needed")
            levels = [*range(outline.step, users, outline.step), users]
            return tuple(Stage(number * seconds / len(levels), level, rate) for number, level in enumerate(levels))
        case "soak":
            return (Stage(0, users, ramp), *_churn(outline))
    raise ValueError(f"{outline.shape!r}: a shape is one of {', '.join(SHAPES)}")


def _churn(outline: Outline) -> list[Stage]:
    """A tenth leaves and comes again, by turns, so that a soak opens and closes connections all the time."""
    fewer = outline.users - max(1, outline.users // 10)
    found = []
    leave_s = outline.ramp_s + CHURN_S
    while leave_s + AWAY_S < outline.seconds:
        found += [Stage(leave_s, fewer, outline.rate), Stage(leave_s + AWAY_S, outline.users, outline.rate)]
        leave_s += CHURN_S
    return found


def stage_at(table: Sequence[Stage], elapsed_s: float) -> Stage:
    """The one that holds then."""
    return next(stage for stage in reversed(table) if stage.start_s <= elapsed_s)


def most(table: Sequence[Stage]) -> int:
    """How many people there are at the most."""
    return max(stage.users for stage in table)


def in_time(table: Sequence[Stage], seconds: float) -> bool:
    """Whether every stage reaches its number before the next one begins, or the run ends."""
    ends = [stage.start_s for stage in table[1:]] + [seconds]
    before = [0, *(stage.users for stage in table)]
    changes = [abs(after - first) for first, after in pairwise(before)]
    return all(
        stage.start_s + change / stage.rate <= end for stage, change, end in zip(table, changes, ends, strict=True)
    )
