"""Settings of a run: what people there are and how they behave, read once from the environment (`LOADTEST_…`)."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chorus.connect import ASR_URL, TTS_URL

ROOT = Path(__file__).resolve().parents[1]
Kind = Literal["voice", "caption", "reader", "idle", "slow"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def shares(mix: str) -> dict[Kind, float]:
    """Each kind's share of the people, together 1, of a mix such as `voice=9,reader=1`. Raises `ValueError`."""
    weights: dict[Kind, float] = {}
    for part in filter(None, (part.strip() for part in mix.split(","))):
        name, _, weight = (each.strip() for each in part.partition("="))
        kind = next((kind for kind in KINDS if kind == name), None)
        if kind is None or kind in weights:
            raise ValueError(f"{part!r}: each part is KIND=WEIGHT, once for each of {', '.join(KINDS)}")
        try:
            weights[kind] = float(weight)
        except ValueError:
            raise ValueError(f"{part!r}: {weight!r} is no number") from None
        if not (math.isfinite(weights[kind]) and weights[kind] >= 0):
            raise ValueError(f"{part!r}: a weight is 0 or more")
    whole = sum(weights.values())
    if not whole:
        raise ValueError(f"{mix!r}: at least one weight must be more than 0")
    return {kind: weight / whole for kind, weight in weights.items() if weight}


def split(mix: str, people: int) -> dict[Kind, int]:
    """How many of each kind so many people are: the nearest whole numbers (largest remainder) that sum up to them."""
    exact = {kind: share * people for kind, share in shares(mix).items()}
    counts = {kind: math.floor(number) for kind, number in exact.items()}
    nearest = sorted(exact, key=lambda kind: counts[kind] - exact[kind])
    for kind in nearest[: people - sum(counts.values())]:
        counts[kind] += 1
    return {kind: count for kind, count in counts.items() if count}


def _checked(mix: str) -> str:
    shares(mix)
    return mix


class LoadSettings(BaseSettings):
    """How a run's people behave. A crew gets them by its environment: `environment()`."""

    model_config = SettingsConfigDict(env_prefix="LOADTEST_", extra="ignore", frozen=True)

    asr_url: str = ASR_URL
    """Of the balanced recognition service."""
    tts_url: str = TTS_URL
    """Of the balanced synthesis service."""
    voice: str = ""
    """A voice id for all replies; empty for the replicas' default."""
    mix: Annotated[str, AfterValidator(_checked)] = "voice=1"
    """Kinds of people with their weights: `voice=6,caption=1,reader=1,idle=1,slow=1`."""
    seed: int = 0
    """Of everything random: the same seed gives the same people, texts and moments."""

    turn_every_s: float = Field(default=45.0, ge=5, le=240)
    """A voice user speaks every so often by its own schedule, from a random moment on, however slow the service is."""
    utterance_s: float = Field(default=5.0, gt=0, le=25)
    """Mean length of an utterance, seconds; short recordings are joined, so that it can't be under theirs. Sentences of
    `speech_from=synthesis` are about as long."""
    reply_words: float = Field(default=15.0, ge=5, le=35)
    """Mean number of words of a reply, which has 5 to 35."""
    barge_in_share: float = Field(default=0.1, ge=0, le=1)
    """Share of replies that the person cancels while they are spoken."""
    hang_up_share: float = Field(default=0.02, ge=0, le=1)
    """Share of turns in which the person hangs up without a word (TCP reset), and comes back some seconds later."""
    slow_bytes_per_s: int = Field(default=16_000, ge=1_000)
    """How fast a slow user reads; a voice of 22,050 Hz sounds 44,100 bytes a second."""

    arrivals_per_minute: float = Field(default=0.0, ge=0, le=6000)
    """Open loop: callers arrive at this rate over all workers, at random (Poisson); 0 for a number of people."""
    turns_per_caller: int = Field(default=3, ge=1)
    """Open loop: a caller leaves after so many turns."""

    speech: Path = ROOT / "tests" / "data" / "speech"
    """Folder with recordings of 16 kHz and `manifest.jsonl`: a line a file with `audio` and `text`."""
    speech_from: Literal["recordings", "synthesis"] = "recordings"
    """`synthesis`: every person says sentences of its own, spoken beforehand by the stack's own synthesis. They tell
    everybody apart, and nothing about how well people are understood."""
    sentences: int = Field(default=3, ge=1, le=100)
    """Different sentences of each person with `speech_from=synthesis`, in turn."""
    texts: int = Field(default=3, ge=1, le=100)
    """Different replies of each person, in turn; each is rendered once before the run, to compare with."""
    references: Path = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "chorus-loadtest"
    """Folder that keeps what was rendered before a run for the next one."""
    rendering: int = Field(default=4, ge=1, le=50)
    """Texts that are rendered at once before a run."""

    connect_within_s: float = Field(default=10.0, gt=0)
    """A connection that is not greeted after so long has failed."""
    final_within_s: float = Field(default=30.0, gt=0)
    """An utterance without its final so long after its end is lost."""
    reply_within_s: float = Field(default=60.0, gt=0)
    """A reply that is not complete so long after it was asked for has failed."""

    def environment(self) -> dict[str, str]:
        """What makes these settings again, in a process that reads its environment."""
        return {f"LOADTEST_{name.upper()}": str(value) for name, value in self.model_dump().items()}


def read_settings(changes: Mapping[str, Any] | None = None) -> LoadSettings:
    """The environment's settings, with changes; a wrong one ends the process with a message that names it."""
    try:
        return LoadSettings(**(changes or {}))
    except ValidationError as error:
        for problem in error.errors():
            field = str(problem["loc"][0]) if problem["loc"] else "?"
            print(f"LOADTEST_{field.upper()}: {problem['msg']} (got {problem['input']!r})", file=sys.stderr)
        raise SystemExit(78) from None  # EX_CONFIG
