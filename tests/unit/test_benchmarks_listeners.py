"""What the benchmark of listeners makes of systems that speak, collapse, refuse and fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import listening
from benchmarks.listening import Heard, Reply
from benchmarks.rival_servers import DoesNotRun
from benchmarks.systems import Refused, Usage
from benchmarks.tts_listeners import HELD_P95_S, Level, Results, Scenario, conclusions, measure_system, report, write

pytestmark = pytest.mark.unit

TOGETHER = Scenario(None, rounds=2, replies=1)
APART = Scenario(0.01, 0.02)
HEARD = Heard(60, 0, 0, 0.05, 0.1, 0.2, 0, 0, 0.0, 0.0, 300.0, {})
LEVEL = Level("chorus", TOGETHER.name, 1, HEARD, 20.0, 0.1, 300.0, {}, [])


class Scripted:
    """A system that speaks, or does not, without any server."""

    settings = "as told"

    def __init__(self, name: str, error: Exception | None = None, *, most: int = 1000) -> None:
        self.name, self.error, self.most = name, error, most
        self.broken: list[str] = []
        self.started: list[int] = []
        self.stopped = 0

    def prepare(self) -> None:
        if isinstance(self.error, DoesNotRun):
            raise self.error

    def start(self, at_once: int) -> None:
        self.started.append(at_once)

    async def speak(self, reply: Reply) -> None:
        if self.error is not None and self.started[-1] > 1:
            raise self.error
        reply.hear(1.0)
        if self.started[-1] > self.most:
            at, seconds = reply.arrivals[0]
            reply.arrivals.append((at + seconds + 0.5, 1.0))

    def usage(self) -> Usage:
        return Usage(1.0, 100.0)

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.tts_listeners.CONNECTS_BEFORE_S", 0.0)
    monkeypatch.setattr(listening, "CONNECTS_BEFORE_S", 0.0)


def measured(system: Scripted, numbers: tuple[int, ...] = (1, 2, 4), search: Scenario | None = None) -> Results:
    results = Results([system])
    measure_system(system, (TOGETHER, APART), numbers, search, results)
    return results


def test_everybody_is_asked_in_each_scenario_on_a_server_started_for_it() -> None:
    """Rounds and listeners, or what falls into the time."""
    system = Scripted("rival")
    results = measured(system)
    assert system.started == [1, 2, 4, 1, 2, 4]
    assert system.stopped == 6
    assert [level.heard.replies for level in results.of("rival", TOGETHER.name)] == [2, 4, 8]
    assert [level.heard.replies for level in results.of("rival", APART.name)] == [2, 4, 8]
    assert all(level.sound and level.held for level in results.levels)


def test_a_level_has_at_least_so_many_replies() -> None:
    """With few listeners, in more rounds."""
    results = Results([Scripted("rival")])
    measure_system(results.systems[0], [Scenario(None, rounds=2, replies=12)], (1, 4, 8), None, results)
    assert [level.heard.replies for level in results.levels] == [12, 12, 16]


def test_a_collapsed_rival_is_asked_for_no_more_in_that_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not asked is told; the other scenario is another matter, and Chorus is asked for everything."""
    monkeypatch.setattr("benchmarks.tts_listeners.COLLAPSED_P95_S", -1.0)
    system = Scripted("rival")
    results = measured(system)
    assert system.started == [1, 1]
    assert [(each.scenario, each.listeners, each.why) for each in results.missing] == [
        (scenario.name, listeners, "not run: collapsed at 1") for scenario in (TOGETHER, APART) for listeners in (2, 4)
    ]
    chorus = Scripted("chorus")
    measured(chorus)
    assert chorus.started == [1, 2, 4, 1, 2, 4]


def test_what_does_not_run_is_reported_with_its_error() -> None:
    """Whether it could not be installed or failed later, and with what was measured before."""
    assert "not on PyPI" in report(measured(Scripted("absent", DoesNotRun("not on PyPI"))))
    system = Scripted("broken", OSError("fell over"))
    results = measured(system)
    assert [level.listeners for level in results.levels] == [1]
    assert system.stopped == 2
    assert "2 listeners: fell over" in report(results)


def test_refused_replies_are_counted_apart_and_not_held() -> None:
    """They were told at once."""

    class Full(Scripted):
        async def speak(self, reply: Reply) -> None:
            if self.warm:
                raise Refused
            self.warm = True

        warm = False

    (level,) = measured(Full("full"), (1,)).of("full", TOGETHER.name)
    assert (level.heard.refused, level.heard.failed) == (2, 0)
    assert level.sound
    assert not level.held


def test_the_search_finds_the_most_listeners_without_a_gap() -> None:
    """And tells all that it has tried."""
    results = measured(Scripted("chorus", most=13), (), APART)
    (held,) = results.held
    assert held.listeners == 13
    assert [level.listeners for level in held.tried if level.held] == [8, 12, 13]
    assert "chorus holds 13 listeners" in report(results)


def test_what_is_held_is_in_time_without_a_gap_and_complete() -> None:
    """Each of them counts."""
    assert replace(LEVEL, heard=replace(HEARD, first_p95=HELD_P95_S)).held
    for spoilt in ({"first_p95": HELD_P95_S + 0.001}, {"gaps": 1}, {"refused": 1}, {"failed": 1}):
        assert not replace(LEVEL, heard=replace(HEARD, **spoilt)).held  # type: ignore[arg-type]
    assert not replace(LEVEL, broken=["a promise"]).held


def test_conclusions_put_chorus_beside_each_rival_as_ratios() -> None:
    """At the compared numbers together, at the most of them apart; where a rival never answers there is no ratio."""
    slow = replace(HEARD, first_p50=0.2, first_p95=0.4, gaps=3, gap_s=1.5, longest_gap_s=1.0)
    rival = replace(LEVEL, system="rival", heard=slow, throughput=25.0, cpu_per_audio_second=0.05)
    apart = [replace(LEVEL, scenario=APART.name, listeners=number) for number in (2, 4)]
    never = replace(rival, scenario=APART.name, listeners=4, heard=replace(slow, first_p95=math.inf))
    results = Results([Scripted("chorus"), Scripted("rival")], [LEVEL, *apart, rival, never])
    first, beside, most, beside_never = conclusions(results)
    assert first.startswith("1 listener, at the same moment: chorus's first audio p50 50 ms, p95 100 ms; 0 gaps")
    assert "3 gaps, 1.50 s of silence, the longest 1.00 s" in beside
    assert "p50 is 0.25 of its, p95 0.25, throughput 0.80, CPU per audio second 2.00" in beside
    assert most.startswith("4 listeners, apart")
    assert "p50 is 0.25 of its, p95 no ratio" in beside_never


def test_the_results_are_valid_json_and_a_picture_even_where_something_never_came(tmp_path: Path) -> None:
    """Infinity is not JSON."""
    never = replace(LEVEL, listeners=2, heard=replace(HEARD, first_p95=math.inf, first_worst=math.inf))
    write(Results([Scripted("chorus")], [LEVEL, never]), tmp_path / "out")
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert [level["heard"]["first_p95"] for level in found["levels"]] == [0.1, None]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
