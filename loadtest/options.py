"""What a person chooses for a run: on the command line, by the environment, or on the web UI's start form."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loadtest.report.thresholds import thresholds_from
from loadtest.settings import LoadSettings, read_settings
from loadtest.shapes import SHAPES, Outline, Stage, in_time, stages

MIXES = (
    "voice=1",
    "voice=6,caption=1,reader=1,idle=1,slow=1",
    "voice=1,idle=1",
    "caption=1",
    "reader=1",
)
"""Those that the start form offers."""
BEHAVIOUR = (
    "turn_every_s",
    "utterance_s",
    "reply_words",
    "barge_in_share",
    "hang_up_share",
    "speech_from",
    "voice",
    "arrivals_per_minute",
    "turns_per_caller",
)
"""Settings of the people that a run chooses; the others are the environment's."""
HELP = {
    "turn_every_s": "seconds from turn to turn of a voice user",
    "utterance_s": "mean seconds of an utterance",
    "reply_words": "mean words of a reply, 5 to 35",
    "barge_in_share": "share of replies that are interrupted",
    "hang_up_share": "share of turns in which the caller hangs up and comes back",
    "speech_from": "what people say: recordings, or sentences of their own, which tell everybody apart",
    "voice": "of all replies; empty for the stack's default",
    "arrivals_per_minute": "shape open: callers a minute over all workers",
    "turns_per_caller": "shape open: after so many a caller leaves",
}
OUTLINE: Mapping[str, tuple[float | int, str]] = {
    "peak": (100, "shape burst: users at its height"),
    "ramp_s": (60.0, "shapes ramp and soak: seconds in which they come"),
    "step": (10, "shape staircase: users a step"),
}


@dataclass(frozen=True)
class Options:
    """One run, checked."""

    outline: Outline
    table: tuple[Stage, ...]
    people: LoadSettings
    thresholds: tuple[str, ...]
    """As the report's command takes them."""

    @property
    def name(self) -> str:
        """For a folder."""
        return "open" if self.outline.shape == "open" else f"{self.outline.shape}-{self.outline.users}"


def add_arguments(parser: ArgumentParser) -> None:
    """To Locust's own parser; their defaults, and those of its own that a run needs, come from the environment."""
    given = read_settings()
    mixes = list(dict.fromkeys((given.mix, *MIXES)))
    parser.add_argument("--shape", choices=SHAPES, default=_text("shape", "steady"), help="of the load over time")
    parser.add_argument("--mix", choices=mixes, default=given.mix, help="of people, by weight")
    parser.add_argument("--other-mix", default="", help="in place of the one above: voice, caption, reader, idle, slow")
    for name in BEHAVIOUR:
        default = getattr(given, name)
        choices = ("recordings", "synthesis") if name == "speech_from" else None
        parser.add_argument(_flag(name), type=type(default), choices=choices, default=default, help=HELP[name])
    for name, (default, told) in OUTLINE.items():
        parser.add_argument(_flag(name), type=type(default), default=type(default)(_text(name, default)), help=told)
    parser.add_argument("--thresholds", default=_text("thresholds", "gpu"), help="gpu or cpu, then NAME=NUMBER")
    parser.set_defaults(
        num_users=int(_text("users", 60)),
        spawn_rate=float(_text("spawn_rate", 10)),
        run_time=round(float(_text("minutes", 5)) * 60),
    )


def read_options(chosen: Mapping[str, Any]) -> Options:
    """Of Locust's parsed options, or of the start form's fields over them. Raises `ValueError`, which names a field."""
    try:
        outline = Outline(
            shape=chosen["shape"],
            users=int(_number("users", chosen["num_users"])),
            seconds=_number("run time", chosen["run_time"]),
            rate=_number("spawn rate", chosen["spawn_rate"]),
            peak=int(_number("peak", chosen["peak"])),
            ramp_s=_number("ramp_s", chosen["ramp_s"]),
            step=int(_number("step", chosen["step"])),
        )
        changes = {name: chosen[name] for name in BEHAVIOUR}
        people = LoadSettings(**changes, mix=chosen["other_mix"].strip() or chosen["mix"])
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{problem['loc'][0]}: {problem['msg']} (got {problem['input']!r})") from None
    thresholds = tuple(chosen["thresholds"].split())
    thresholds_from(thresholds)
    table = stages(outline)
    if outline.shape == "open" and not people.arrivals_per_minute:
        raise ValueError("shape open: set arrivals_per_minute to more than 0")
    if not in_time(table, outline.seconds):
        raise ValueError(
            f"a run of {outline.seconds:g} s is too short for {outline.shape} with {outline.users} users: "
            "give it more time, or a higher spawn rate"
        )
    return Options(outline, table, people, thresholds)


def _number(name: str, given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: a number is expected (got {given!r})") from None


def _text(name: str, default: object) -> str:
    return os.environ.get(f"LOADTEST_{name.upper()}") or str(default)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
