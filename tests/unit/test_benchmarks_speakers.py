"""What the benchmark of live speakers makes of systems that answer, collapse, refuse and fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import asr_speakers
from benchmarks.asr_speakers import COMPARED_AT, Level, Results, conclusions, measure_system, table, write
from benchmarks.asr_systems import Refused, Usage
from benchmarks.hearing import Speaker
from benchmarks.rival_servers import DoesNotRun
from benchmarks.speech import CLIPS, Errors, Speech
from loadtest.clips import read_manifest

pytestmark = pytest.mark.unit

LEVEL = Level("chorus", 1, 0, 40, 40, Errors(10.0, 1, 1, 1), 0.3, 0.5, 0.6, 0.4, 0.1, 300.0, {}, [])


class Scripted:
    """A system that answers, or does not, without any server."""

    settings = "as told"

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name, self.error = name, error
        self.broken: list[str] = []
        self.started: list[int] = []

    def prepare(self) -> None:
        if isinstance(self.error, DoesNotRun):
            raise self.error

    def start(self, speakers: int) -> None:
        self.started.append(speakers)

    async def listen(self, speaker: Speaker) -> None:
        if self.error is not None and self.started[-1] > 1:
            raise self.error

    def usage(self) -> Usage:
        return Usage(1.0, 100.0)

    def stop(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr_speakers, "SPREAD_S", 0.0)


def measured(system: Scripted) -> Results:
    results = Results([system], [], [])
    measure_system(system, read_manifest(CLIPS)[:2], (1, 2, COMPARED_AT, 8), 8, results)
    return results


def test_a_collapsed_rival_is_asked_for_no_more_but_where_all_are_compared() -> None:
    """One that never answers has collapsed with one speaker; the rest is told, not left out."""
    system = Scripted("silent")
    results = measured(system)
    assert system.started == [1, COMPARED_AT]
    assert [(level.finalised, level.p95) for level in results.levels] == [(0, math.inf)] * 2
    assert [(each.speakers, each.why) for each in results.missing] == [
        (2, "not run: collapsed at 1"),
        (8, "not run: collapsed at 1"),
    ]


def test_chorus_is_measured_at_every_level() -> None:
    """Its own collapse is a result as well."""
    assert [level.speakers for level in measured(Scripted("chorus")).levels] == [1, 2, COMPARED_AT, 8]


def test_what_does_not_run_is_reported_with_its_error() -> None:
    """Whether it could not be installed or failed later."""
    assert "not on PyPI" in table([], measured(Scripted("absent", DoesNotRun("not on PyPI"))).missing)
    assert "fell over" in table([], measured(Scripted("broken", OSError("fell over"))).missing)


async def test_refused_speakers_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were told at once: they are neither late nor wrong, and the level is not held."""
    system = Scripted("full")
    warm_up = Speech([], asr_speakers.speeches(read_manifest(CLIPS), 1, 1)[0].samples)

    async def listen(speaker: Speaker) -> None:
        if speaker.speech is not warm_up:
            raise Refused

    monkeypatch.setattr(system, "listen", listen)
    level = await asr_speakers.measure(system, asr_speakers.speeches(read_manifest(CLIPS), 3, 3), warm_up)
    assert (level.refused, level.clips, level.broken, level.sound) == (3, 0, [], False)


def test_conclusions_compare_with_each_rival_alone_and_with_the_best_of_them_together() -> None:
    """The largest level within a rival's p95 counts only where everybody got everything."""
    ours = [replace(LEVEL, speakers=speakers, p95=p95) for speakers, p95 in ((1, 0.4), (5, 0.6), (12, 0.9), (16, 2.0))]
    ours.append(replace(LEVEL, speakers=24, p95=0.9, refused=1))
    slow, slower = replace(LEVEL, system="slow", p95=1.0), replace(LEVEL, system="slower", p95=math.inf)
    rivals = [slow, slower, replace(slow, speakers=5, p95=6.0), replace(slower, speakers=5)]
    systems = [Scripted("chorus"), Scripted("slow"), Scripted("slower")]
    slow_alone, slower_alone, together = conclusions(Results(systems, ours + rivals, []))
    assert "1.00 s; Chorus holds 12 within it" in slow_alone
    assert "without a final" in slower_alone
    assert "0.10 of the best rival's (slow, 6.00 s)" in together


def test_the_results_are_valid_json_and_a_picture_even_where_something_never_came(tmp_path: Path) -> None:
    """Infinity is not JSON."""
    results = Results([Scripted("chorus")], [LEVEL, replace(LEVEL, speakers=2, p95=math.inf)], [])
    write(results, tmp_path / "out")
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert [level["p95"] for level in found["levels"]] == [0.5, None]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
