"""The load test's Locust side: shapes, who runs where, rows, records to the master, and real runs of Locust."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_ports
from loadtest.crew_process import CrewFailed
from loadtest.dispatch import Dispatcher, most_of_a_worker
from loadtest.events import (
    Breach,
    Connected,
    Event,
    Failed,
    Heard,
    Lag,
    Lost,
    Population,
    Refused,
    Spoken,
    decode,
    encode,
)
from loadtest.messages import Outbox
from loadtest.options import add_arguments, read_options
from loadtest.orders import Progress
from loadtest.rows import Row, rows
from loadtest.runs import REPORTS, find_run, list_runs, new_run, zipped
from loadtest.settings import Kind, LoadSettings, split
from loadtest.shapes import SHAPES, Outline, Stage, in_time, most, stage_at, stages
from loadtest.worker import MOST_FAILURES, Worker
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

EVERYBODY = "voice=6,caption=1,reader=1,idle=1,slow=1"
KINDS = ("voice", "caption", "reader", "idle", "slow")


# --- shapes


def test_a_burst_goes_from_60_to_100_within_two_seconds_and_back() -> None:
    table = stages(Outline("burst", 60, 300, peak=100))
    assert [(stage.start_s, stage.users) for stage in table] == [(0, 60), (100, 100), (200, 60)]
    assert 40 / table[1].rate <= 2
    assert most(table) == 100


def test_a_staircase_rises_in_even_steps_to_all_users() -> None:
    table = stages(Outline("staircase", 25, 90, step=10))
    assert [(stage.start_s, stage.users) for stage in table] == [(0, 10), (30, 20), (60, 25)]


def test_a_ramp_takes_its_time_and_holds() -> None:
    assert stages(Outline("ramp", 60, 300, ramp_s=30)) == (Stage(0, 60, 2),)


def test_a_soak_sends_people_away_and_lets_them_come_again() -> None:
    table = stages(Outline("soak", 60, 3600, ramp_s=60))
    assert {stage.users for stage in table} == {60, 54}
    assert table[-1].users == 60
    assert len(table) > 10


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_begins_at_once_and_in_order(shape: Any) -> None:
    table = stages(Outline(shape, 60, 600))
    assert table[0].start_s == 0
    assert sorted(table, key=lambda stage: stage.start_s) == list(table)
    assert stage_at(table, 0) == table[0]
    assert stage_at(table, 1e6) == table[-1]
    assert in_time(table, 600)


def test_a_stage_holds_until_the_next_begins() -> None:
    table = (Stage(0, 1, 1), Stage(10, 2, 1))
    assert [stage_at(table, moment).users for moment in (0, 9.9, 10, 11)] == [1, 1, 2, 2]


def test_a_shape_that_is_too_slow_for_its_time_is_told() -> None:
    assert not in_time(stages(Outline("steady", 60, 30, rate=1)), 30)


@pytest.mark.parametrize(
    ("outline", "told"),
    [
        (Outline("burst", 60, 300, peak=60), "the peak must be above"),
        (Outline("steady", 0, 300), "at least 1"),
        (Outline("steady", 1, 0), "more than 0"),
        (Outline("steady", 1, 10, rate=0), "more than 0"),
        (Outline("staircase", 10, 10, step=0), "at least 1"),
    ],
)
def test_what_can_not_be_is_refused(outline: Outline, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        stages(outline)


# --- who runs where


def dispatcher(workers: int = 2, mix: str = EVERYBODY) -> tuple[Dispatcher, list[float]]:
    slept: list[float] = []
    names = [f"w{number}" for number in range(workers)]
    return Dispatcher(KINDS, names, lambda users: split(mix, users), slept.append), slept  # type: ignore[arg-type]


def together(step: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    count: Counter[str] = Counter()
    for people in step.values():
        count.update({kind: number for kind, number in people.items() if number})
    return dict(count)


def test_the_mix_is_exact_at_every_number_up_and_down() -> None:
    people, _ = dispatcher()
    for target in (60, 100, 60, 7, 60):
        people.new_dispatch(target, 1000.0)
        (step,) = people
        assert together(step) == split(EVERYBODY, target)


def test_every_step_is_exact_and_comes_at_the_rate() -> None:
    people, slept = dispatcher()
    people.new_dispatch(10, 2.0)
    steps = list(people)
    assert [sum(together(step).values()) for step in steps] == [2, 4, 6, 8, 10]
    assert all(together(step) == split(EVERYBODY, sum(together(step).values())) for step in steps)
    assert slept == pytest.approx([1.0] * 4, abs=0.1)
    people.new_dispatch(9, 0.5)
    assert [sum(together(step).values()) for step in people] == [9]


def test_workers_have_their_even_share_and_what_was_prepared_suffices() -> None:
    people, _ = dispatcher(workers=3)
    prepared = most_of_a_worker([split(EVERYBODY, users) for users in range(1, 101)], 3)
    for target in (100, 60, 100, 33, 100):
        people.new_dispatch(target, 10.0)
        for step in people:
            totals = [sum(counts.values()) for counts in step.values()]
            assert max(totals) - min(totals) <= 2
            assert all(counts[kind] <= prepared[kind] for counts in step.values() for kind in KINDS)


def test_nobody_moves_when_others_come() -> None:
    people, _ = dispatcher(mix="voice=3,reader=1")
    before: dict[str, dict[str, int]] = {}
    for target in range(1, 101):
        people.new_dispatch(target, 1.0)
        (step,) = people
        moved = sum(abs(step[worker][kind] - before.get(worker, {}).get(kind, 0)) for worker in step for kind in KINDS)
        assert moved in (1, 3), (target, moved)  # 3: nearest whole numbers made one of a kind another's
        before = step


def test_a_dispatch_to_where_it_is_still_tells_it_once() -> None:
    """Locust wants a last step to count."""
    people, _ = dispatcher()
    people.new_dispatch(0, 1.0)
    (step,) = people
    assert together(step) == {}
    assert set(step) == {"w0", "w1"}
    assert not people.dispatch_in_progress


def test_a_lost_workers_people_are_no_longer_counted() -> None:
    people, _ = dispatcher()
    people.new_dispatch(10, 100.0)
    list(people)
    node = argparse.Namespace(id="w0")
    people.remove_worker(node)
    people.new_dispatch(10, 100.0)
    (step,) = people
    assert together(step) == split(EVERYBODY, 10)
    assert set(step) == {"w1"}


# --- options


def chosen(**changes: Any) -> dict[str, Any]:
    """What Locust's parser makes of nothing, and of the changes."""
    parser = argparse.ArgumentParser()
    for name in ("--num-users", "--spawn-rate", "--run-time"):
        parser.add_argument(name)
    add_arguments(parser)
    return vars(parser.parse_args([])) | changes


def test_defaults_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USERS": "7", "MINUTES": "2", "MIX": "reader=1,idle=3", "SHAPE": "ramp", "STEP": ""}.items():
        monkeypatch.setenv(f"LOADTEST_{name}", value)
    options = read_options(chosen())
    assert (options.outline.shape, options.outline.users, options.outline.seconds) == ("ramp", 7, 120)
    assert options.outline.step == 10
    assert options.people.mix == "reader=1,idle=3"
    assert options.name == "ramp-7"


def test_a_mix_of_ones_own_takes_the_place_of_the_one_chosen() -> None:
    assert read_options(chosen(other_mix=" idle=1 ")).people.mix == "idle=1"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"other_mix": "singer=1"}, "mix: .*singer"),
        ({"turn_every_s": "1"}, "turn_every_s: .*5"),
        ({"turn_every_s": "soon"}, "turn_every_s"),
        ({"num_users": "many"}, "users: a number"),
        ({"run_time": None}, "run time: a number"),
        ({"shape": "burst", "peak": 3}, "peak must be above"),
        ({"shape": "open"}, "arrivals_per_minute"),
        ({"num_users": 500, "spawn_rate": 1, "run_time": 60}, "too short"),
        ({"thresholds": "cpu nonsense=1"}, "nonsense"),
    ],
)
def test_a_wrong_choice_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_options(chosen(**changes))


# --- rows

AT = {"at": 1.0, "user": "voice-1", "connection_id": "c1", "instance": "i1"}
HEARD = {"spoken": "a", "heard": "a", "words": 1, "errors": 0, "seconds": 1.0, "turn_due": 1.0}
SPOKEN = {"text": "a", "words": 1, "seconds": 1.0, "longest_gap_s": 0.0, "asked_due": 1.0}


def heard(**changes: Any) -> Heard:
    return Heard(**AT, service="asr", **{**HEARD, "final_s": 0.5, "partial_s": 0.25, **changes})


def spoken(**changes: Any) -> Spoken:
    usual = {"outcome": "complete", "first_audio_s": 0.125, "gaps": 0, "gap_s": 0.0, "proof": "same"}
    return Spoken(**AT, service="tts", **{**SPOKEN, **usual, **changes})


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Connected(**AT, service="asr", took=0.5), [Row("ASR", "connect", 500)]),
        (Connected(**AT, service="tts", took=0.5, again=True), [Row("TTS", "connect again", 500)]),
        (Refused(**AT, service="asr", took=0.25, status=503), [Row("ASR", "refused with 503", 250)]),
        (Failed(**AT, service="asr", what="bad"), [Row("ASR", "error", 0, "bad")]),
        (Lost(**AT, service="tts", what="1006"), [Row("TTS", "connection lost", 0, "lost: 1006")]),
        (Lost(**AT, service="tts", what="1008", promised=True), [Row("TTS", "slow reader cut off", 0)]),
        (heard(), [Row("ASR", "final after end of speech", 500), Row("ASR", "first partial", 250)]),
        (
            heard(final_s=None, partial_s=None),
            [Row("ASR", "final after end of speech", 0, "the utterance's final never came")],
        ),
        (spoken(), [Row("TTS", "first audio", 125)]),
        (spoken(outcome="cancelled", first_audio_s=None), []),
        (spoken(outcome="overloaded", first_audio_s=None), [Row("TTS", "reply refused (overloaded)", 0)]),
        (
            spoken(first_audio_s=None),
            [Row("TTS", "first audio", 0, "the reply was complete without any audio")],
        ),
        (
            spoken(gaps=2, gap_s=0.75, proof="other"),
            [
                Row("TTS", "first audio", 125),
                Row("TTS", "gap within a reply", 750, "the listener heard a gap"),
            ],
        ),
        (
            Breach(**AT, service="asr", whose="voice-2", other_connection_id="c2", what="words"),
            [Row("ASR", "somebody else's", 0, "voice-1 (c1) got what is voice-2's (c2): words")],
        ),
        (
            Breach(**AT, service="tts", whose="", other_connection_id="", what="noise"),
            [Row("TTS", "somebody else's", 0, "voice-1 (c1) got what is not theirs: noise")],
        ),
        (
            Lag(at=1.0, worker="w", users=1, late_p95=0.25, late_worst=0.5, cpu=0.1),
            [Row("load", "frames sent late, p95 of a second", 250)],
        ),
        (Population(at=1.0, users=3), []),
    ],
)
def test_records_are_rows(event: Event, expected: list[Row]) -> None:
    assert list(rows(event)) == expected


# --- a worker


def test_what_waits_for_the_master_is_bounded_and_counted() -> None:
    outbox = Outbox(2)
    for line in (b"1", b"2", b"3"):
        outbox.put(line)
    assert outbox.dropped == 1
    taken = outbox.take(5)
    assert taken == [b"1", b"2"]
    outbox.put_back(taken)
    assert outbox.take(1) == [b"1"]


class ScriptedCrew:
    """Notes its orders, and tells what the test wants."""

    def __init__(
        self, on_event: Callable[[Event], None], settings: LoadSettings, worker: str, on_trouble: Callable[[str], None]
    ) -> None:
        self.on_event = on_event
        self.settings = settings
        self.orders: list[tuple[object, ...]] = []
        self.dead = False

    def prepare(self, people: Mapping[Kind, int], first: int, on_progress: Callable[[Progress], None]) -> None:
        on_progress(Progress(at=1.0, done=1, total=2, what="replies"))

    def start(self, kind: Kind, name: str) -> None:
        self._note("start", kind, name)

    def stop(self, name: str) -> None:
        self._note("stop", name)

    def arrive(self, per_minute: float, turns: int, first: int, step: int) -> None:
        self._note("arrive", per_minute, turns, first, step)

    def close(self) -> None:
        self.orders.append(("close",))

    def _note(self, *order: object) -> None:
        if self.dead:
            raise CrewFailed("the crew has ended with status -9")
        self.orders.append(order)


class Bench:
    """A worker between a scripted crew and a master that takes notes."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.fired: list[dict[str, Any]] = []
        self.crew: ScriptedCrew | None = None
        self.unreachable = False
        self.worker = Worker(self._send, lambda **row: self.fired.append(row), self._make)

    def _make(self, *arguments: Any) -> ScriptedCrew:
        self.crew = ScriptedCrew(*arguments)
        return self.crew

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        if self.unreachable:
            raise ConnectionError("gone")
        self.told.append(data)

    def prepare(self) -> ScriptedCrew:
        people = {"voice": 2}
        order = {
            "what": "prepare",
            "run": "r",
            "changes": {"mix": "idle=1"},
            "people": people,
            "first": 5,
            "worker": "w",
        }
        self.order(order)
        assert self.crew is not None
        return self.crew

    def order(self, order: Mapping[str, Any]) -> None:
        import gevent

        self.worker.handle(order)
        gevent.sleep(0)  # what takes long runs beside

    def said(self) -> list[str]:
        return [told["what"] for told in self.told]


def test_a_worker_prepares_with_the_runs_settings() -> None:
    bench = Bench()
    crew = bench.prepare()
    assert crew.settings.mix == "idle=1"
    assert bench.said() == ["progress", "prepared"]
    assert all(told["run"] == "r" for told in bench.told)


def test_people_get_the_workers_own_numbers_and_free_ones_again() -> None:
    bench = Bench()
    crew = bench.prepare()
    assert [bench.worker.come("voice"), bench.worker.come("voice")] == ["voice-5", "voice-6"]
    bench.worker.leave("voice-6")
    assert bench.worker.come("voice") == "voice-6"
    beyond = bench.worker.come("voice")
    assert beyond not in ("voice-5", "voice-6")
    assert crew.orders[:3] == [("start", "voice", "voice-5"), ("start", "voice", "voice-6"), ("stop", "voice-6")]


def test_records_become_rows_and_go_to_the_master_in_batches() -> None:
    bench = Bench()
    crew = bench.prepare()
    events = [heard(final_s=number / 1000) for number in range(2500)]
    for event in events:
        crew.on_event(event)
    assert len(bench.fired) == 5000
    assert bench.fired[0]["name"] == "final after end of speech"
    bench.worker.flush()
    batches = [told["lines"] for told in bench.told if told["what"] == "records"]
    assert [len(lines) for lines in batches] == [1000, 1000, 500]
    assert [decode(line) for lines in batches for line in lines] == events


def test_the_generators_processor_time_is_its_crews_and_its_own() -> None:
    bench = Bench()
    crew = bench.prepare()
    lag = Lag(at=1.0, worker="w", users=1, late_p95=0.001, late_worst=0.002, cpu=0.1)
    crew.on_event(lag)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    crew.on_event(lag)
    bench.worker.flush()
    told = [decode(line) for told in bench.told if told["what"] == "records" for line in told["lines"]]
    assert all(isinstance(each, Lag) for each in told)
    assert [each.cpu > 0.1 for each in told if isinstance(each, Lag)] == [True, True]


def test_what_the_master_does_not_take_waits_for_it() -> None:
    bench = Bench()
    crew = bench.prepare()
    crew.on_event(heard())
    bench.unreachable = True
    bench.worker.flush()
    bench.unreachable = False
    bench.worker.flush()
    (records,) = (told for told in bench.told if told["what"] == "records")
    assert records["lines"] == [encode(heard())]


def test_locust_gets_no_more_than_so_many_texts_of_failures() -> None:
    bench = Bench()
    crew = bench.prepare()
    for number in range(2 * MOST_FAILURES):
        crew.on_event(Failed(**AT, service="asr", what=f"error {number}"))
    assert len(bench.fired) == 2 * MOST_FAILURES
    assert len({str(row["exception"]) for row in bench.fired}) == MOST_FAILURES + 1


def test_a_crew_that_died_is_told() -> None:
    bench = Bench()
    bench.prepare().dead = True
    name = bench.worker.come("voice")
    bench.worker.leave(name)
    assert bench.said()[-1] == "trouble"
    assert "status -9" in bench.told[-1]["why"]


def test_the_open_loop_is_the_crews() -> None:
    bench = Bench()
    crew = bench.prepare()
    bench.order({"what": "arrive", "run": "r", "per_minute": 6.0, "turns": 3, "first": 2, "step": 4})
    bench.order({"what": "arrive", "run": "another", "per_minute": 6.0, "turns": 3, "first": 2, "step": 4})
    assert crew.orders == [("arrive", 6.0, 3, 2, 4)]


def test_the_last_records_are_handed_over_before_the_end_is_told() -> None:
    bench = Bench()
    crew = bench.prepare()
    crew.on_event(heard())
    bench.order({"what": "finish", "run": "another"})
    assert "finished" not in bench.said()
    bench.order({"what": "finish", "run": "r"})
    assert crew.orders == [("close",)]
    assert bench.said()[-2:] == ["records", "finished"]


# --- runs


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert new_run(tmp_path, "steady-4", now).name == "2026-01-02-030405-steady-4"
    assert new_run(tmp_path, "steady-4", now).name == "2026-01-02-030405-steady-4-2"


def test_runs_are_listed_with_their_outcome_the_newest_first(tmp_path: Path) -> None:
    for number, (report, trouble) in enumerate(
        [
            ({"holds": True, "invalid": []}, ""),
            ({"holds": False, "invalid": []}, ""),
            ({"holds": False, "invalid": ["late"]}, ""),
            ({"holds": True, "invalid": []}, "a worker was lost"),
            (None, ""),
        ]
    ):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        (run / "run.jsonl").touch()
        if report is not None:
            (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
        if trouble:
            (run / "trouble.txt").write_text(trouble + "\n", encoding="utf-8")
    (tmp_path / "no-run").mkdir()
    listed = [(run.name, run.outcome, run.note) for run in list_runs(tmp_path)]
    assert listed == [
        ("run-4", "no report", ""),
        ("run-3", "invalid", "a worker was lost"),
        ("run-2", "invalid", "late"),
        ("run-1", "fail", ""),
        ("run-0", "pass", ""),
    ]


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for path in (folder / "one", tmp_path):
        path.mkdir(parents=True, exist_ok=True)
        (path / "run.jsonl").touch()
    assert find_run(folder, "one") == folder / "one"
    assert find_run(folder, "..") is None
    assert find_run(folder, "../runs/one") is None
    assert find_run(folder, ".") is None


# --- Locust itself, with a crew that makes its records up


class Locust:
    """A real one: `with` starts it and ends it."""

    def __init__(self, runs: Path, *arguments: str, **settings: str) -> None:
        (port,) = free_ports(1)
        environment = {
            **os.environ,
            "LOCUST_MASTER_BIND_PORT": str(port),  # two tests at once are two masters
            "LOCUST_MASTER_NODE_PORT": str(port),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
            "LOADTEST_RUNS": str(runs),
            "LOADTEST_REPLICAS": "none",
            "LOADTEST_MINUTES": "0.06",
            "LOADTEST_USERS": "10",
            "LOADTEST_MIX": EVERYBODY,
            **settings,
        }
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(ROOT / "tests" / "unit" / "fake_locustfile.py"),
            *arguments,
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Locust:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=60)

    def ended(self) -> tuple[int, str]:
        """Its status and what it said."""
        said, _ = self.process.communicate(timeout=120)
        return self.process.returncode, said


def test_a_run_without_a_ui_reports_everybody_and_passes(tmp_path: Path) -> None:
    """Master and two workers: exact people, numbers of their own, every record in the file, a report, status 0."""
    with Locust(tmp_path, "--headless", "--only-summary", "--processes", "2") as locust:
        status, said = locust.ended()
    assert status == 0, said
    (run,) = list_runs(tmp_path)
    assert run.outcome == "pass"
    assert set(run.files) == {*REPORTS, "run.jsonl"}
    events = [decode(line) for line in (tmp_path / run.name / "run.jsonl").read_bytes().splitlines()]
    assert type(events[0]).__name__ == "Run"
    came = [event.user for event in events if isinstance(event, Connected) and event.service == "asr"]
    assert Counter(user.partition("-")[0] for user in came) == split(EVERYBODY, 10)
    assert len(set(came)) == 10
    assert {event.worker for event in events if isinstance(event, Lag)} == {"worker-1", "worker-2"}
    finals = sum(isinstance(event, Heard) for event in events)
    shown = next(line.split() for line in said.splitlines() if line.startswith("ASR") and "final" in line)
    assert int(shown[shown.index("speech") + 1]) == finals


def test_a_crew_that_dies_makes_the_run_invalid(tmp_path: Path) -> None:
    with Locust(tmp_path, "--headless", "--only-summary", FAKE_CREW="dies") as locust:
        status, said = locust.ended()
    assert status == 3, said
    (run,) = list_runs(tmp_path)
    assert run.outcome == "invalid"
    assert "the crew has ended" in run.note


def test_a_run_that_is_told_to_end_still_has_its_records_and_a_report(tmp_path: Path) -> None:
    """As by `docker stop`: workers hand over what they have, and the report says that it is not all."""
    with Locust(tmp_path, "--headless", "--only-summary", "--processes", "2", LOADTEST_MINUTES="5") as locust:
        assert locust.process.stdout is not None
        next(line for line in locust.process.stdout if "(10 total users)" in line)
        locust.process.terminate()
        status, said = locust.ended()
    assert status == 1, said
    (run,) = list_runs(tmp_path)
    assert run.outcome == "invalid"
    assert "it ended after" in run.note
    events = [decode(line) for line in (tmp_path / run.name / "run.jsonl").read_bytes().splitlines()]
    assert len({event.user for event in events if isinstance(event, Connected)}) == 10


def test_a_wrong_setting_ends_it_before_it_begins(tmp_path: Path) -> None:
    with Locust(tmp_path, "--headless", LOADTEST_SHAPE="burst", LOADTEST_PEAK="5") as locust:
        status, said = locust.ended()
    assert status != 0
    assert "the peak must be above" in said
    assert list_runs(tmp_path) == []


def answer_of(url: str, form: Mapping[str, object] | None = None) -> bytes:
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return bytes(answer.read())


def until(condition: Callable[[], Any], locust: Locust, within_s: float = 60) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end and locust.process.poll() is None:
        try:
            if found := condition():
                return found
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    raise AssertionError(locust.process.poll())


def test_the_web_ui_starts_a_run_shows_its_rows_and_offers_its_report(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with Locust(tmp_path, "--web-host", "127.0.0.1", "--web-port", str(port)) as locust:
        until(lambda: answer_of(f"{url}/health"), locust)
        index = answer_of(url).decode()
        assert 'href="./reports"' in index
        form = json.loads(index.partition("window.templateArgs = ")[2].partition("\n")[0].rstrip("; "))
        assert list(form["extra_options"])[:2] == ["shape", "mix"]
        assert form["extra_options"]["shape"]["choices"] == list(SHAPES)
        assert EVERYBODY in form["extra_options"]["mix"]["choices"]
        assert b"There is none yet" in answer_of(f"{url}/reports")

        asked = {"user_count": 4, "spawn_rate": 10, "host": form["host"], "run_time": "4s", "shape": "burst", "peak": 3}
        refused = json.loads(answer_of(f"{url}/swarm", asked))
        assert not refused["success"]
        assert refused["message"] == "a burst from 4 to 3 users: the peak must be above"
        started = json.loads(answer_of(f"{url}/swarm", asked | {"shape": "steady", "mix": "reader=1"}))
        assert started["success"]
        again = json.loads(answer_of(f"{url}/swarm", asked | {"shape": "steady"}))
        assert not again["success"]

        run = until(lambda: [run for run in list_runs(tmp_path) if run.outcome != "no report"], locust)[0]
        shown = json.loads(answer_of(f"{url}/stats/requests"))
        assert {"final after end of speech", "first audio", "connect"} <= {row["name"] for row in shown["stats"]}
        page = answer_of(f"{url}/reports").decode()
        assert run.name in page
        assert b"<html" in answer_of(f"{url}/reports/{run.name}/report.html")
        archive = zipfile.ZipFile(io.BytesIO(answer_of(f"{url}/reports/{run.name}.zip")))
        assert {Path(name).name for name in archive.namelist()} == set(REPORTS)
        assert sorted(zipfile.ZipFile(io.BytesIO(zipped(tmp_path / run.name))).namelist()) == sorted(archive.namelist())
        with pytest.raises(urllib.error.HTTPError, match="404"):
            answer_of(f"{url}/reports/{run.name}/..%2f..%2fsecret")
    events = [decode(line) for line in (tmp_path / run.name / "run.jsonl").read_bytes().splitlines()]
    assert {event.user.partition("-")[0] for event in events if isinstance(event, Connected)} == {"reader"}
