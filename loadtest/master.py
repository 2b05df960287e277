"""The master's side: it leads a run from its preparation to its report, and writes down what the workers tell."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import gevent
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import LocalRunner, MasterRunner

from benchmarks import machine
from loadtest.dispatch import Dispatcher, as_dispatcher_class, most_of_a_worker
from loadtest.events import Event, Replica, Run, encode
from loadtest.messages import TO_WORKER
from loadtest.options import BEHAVIOUR, Options, read_options
from loadtest.replicas import Machine, Watcher, describe, direct_urls
from loadtest.rows import FINAL, FIRST_AUDIO
from loadtest.runs import RECORDS, TROUBLE, TROUBLED, new_run
from loadtest.settings import ROOT, Kind, LoadSettings, split
from loadtest.shapes import most, stage_at

log = logging.getLogger(__name__)

WORKERS_WITHIN_S = 30.0
"""A run begins with the workers that are there after so long, if not all that are expected came before."""
FINISHED_WITHIN_S = 40.0
"""Workers' people close their streams in order (20 s), and their last records arrive."""
TOLD_EVERY_S = 10.0
"""A run without a web UI tells so often how it goes."""
NOTHING = (0, 1.0)
"""What Locust is told while nobody is to be there."""
LOCAL = "local"
"""The one worker of a Locust without others."""

Tick = tuple[int, float] | None


@dataclass
class Current:
    """The run that goes on."""

    name: str
    options: Options
    folder: Path
    records: IO[bytes]
    workers: tuple[str, ...]
    """Locust's ids, in the order of their numbers."""
    prepared: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    progress: dict[str, tuple[int, int]] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    """How many each worker has, those who arrived by a rate included."""
    started: float | None = None
    """Monotonic time at which people began to come."""
    ending: bool = False
    trouble: str = ""
    """Why it can't go on; the first reason."""


class Master:
    """One run after the other. `tick` is asked by Locust's shape, `handle` gets what workers tell."""

    def __init__(self, environment: Environment, runs: Path) -> None:
        assert isinstance(environment.runner, MasterRunner | LocalRunner)
        self._environment = environment
        self._runner: MasterRunner | LocalRunner = environment.runner
        self._runs = runs
        self._watcher: Watcher | None = None
        self._told = 0.0
        self.current: Current | None = None

    def tick(self) -> Tick:
        """How many people there are to be now, and how many come in a second; None ends the run."""
        if self.current is None and not self._begin():
            return None
        current = self.current
        assert current is not None
        if current.ending:
            return None
        self._look_after_workers(current)
        if not current.trouble and current.started is None:
            if current.prepared < set(current.workers):
                return NOTHING
            self._start(current)
        elapsed = time.monotonic() - (current.started or 0.0)
        if current.trouble or elapsed >= current.options.outline.seconds:
            self._runner.stop()  # in order; what Locust does by itself at a shape's end cuts its workers off
            return None
        self._tell_progress(current, elapsed)
        stage = stage_at(current.options.table, elapsed)
        return stage.users, stage.rate

    def handle(self, worker: str, told: Mapping[str, Any]) -> None:
        """What a worker tells, by its id."""
        current = self.current
        if current is None or current.name != told["run"] or current.records.closed:
            return  # of a run that is over
        match told["what"]:
            case "records" if current.started is not None:  # before, crews tell only that they are idle
                current.records.writelines(line + b"\n" for line in told["lines"])
                current.people[worker] = told["people"]
                if told["dropped"]:
                    self._trouble(current, f"worker {worker} had to drop {told['dropped']} records")
            case "progress":
                current.progress[worker] = (told["done"], told["total"])
                if time.monotonic() - self._told >= 1 or told["done"] == told["total"]:
                    self._told = time.monotonic()
                    done, total = (sum(each) for each in zip(*current.progress.values(), strict=True))
                    log.info("preparing: %s, %d of %d", told["of"], done, total)
            case "prepared":
                current.prepared.add(worker)
            case "trouble":
                self._trouble(current, f"worker {worker}: {told['why']}")
            case "finished":
                current.finished.add(worker)

    def finish(self) -> None:
        """At Locust's end of a test: collects the last records, and makes the report. Sets the exit status."""
        current = self.current
        if current is None or current.ending:
            return
        current.ending = True
        try:
            if self._watcher is not None:
                self._watcher.stop()
                self._watcher = None
            for worker in current.workers:
                self._order(current, {"what": "finish"}, worker)
            self._wait(lambda: set(current.workers) <= current.finished | self._lost(current), FINISHED_WITHIN_S)
            missing = len(set(current.workers) - current.finished)
            if missing:
                self._trouble(current, f"{missing} of {len(current.workers)} workers did not hand over their records")
            current.records.close()
            self._environment.process_exit_code = self._conclude(current)
        finally:
            self.current = None

    def _begin(self) -> bool:
        options = self._environment.parsed_options
        assert options is not None
        try:
            chosen = read_options(vars(options))
        except ValueError as error:
            log.error("%s", error)
            return self._refused()
        workers = self._workers(options.expect_workers)
        if not workers:
            log.error("there is no worker: docker compose --profile loadtest up -d")
            return self._refused()
        folder = new_run(self._runs, chosen.name)
        current = Current(folder.name, chosen, folder, (folder / RECORDS).open("wb", buffering=2**16), tuple(workers))
        mix, kinds = chosen.people.mix, _kinds(self._environment)
        self._environment.dispatcher_class = as_dispatcher_class(
            lambda: Dispatcher(tuple(kinds), workers, lambda users: _by_class(kinds, split(mix, users)), gevent.sleep)
        )
        self.current = current
        people = most_of_a_worker(_tables(chosen), len(workers))
        block = max(people.values())
        for number, worker in enumerate(workers):
            order = {
                "what": "prepare",
                "changes": _changes(chosen.people),
                "people": people,
                "first": number * block + 1,
                "worker": f"worker-{number + 1}",
            }
            self._order(current, order, worker)
        log.info("run %s: %d workers prepare %s each", current.name, len(workers), people)
        return True

    def _refused(self) -> bool:
        self._environment.process_exit_code = 2
        return False

    def _start(self, current: Current) -> None:
        options, people = current.options, current.options.people
        watched = _watched(people)
        settings: dict[str, str | int | float | bool | None] = {
            "shape": options.outline.shape,
            "spawn_rate": options.outline.rate,
            **{name: str(value) for name, value in people.model_dump(exclude={"references", "rendering"}).items()},
            "workers": len(current.workers),
            "thresholds": " ".join(options.thresholds),
            **{f"stack, {service}": told for service, told in describe(watched).items()},
        }
        is_open = options.outline.shape == "open"
        self._put(
            current,
            Run(
                at=time.time(),
                settings=settings,
                machine=machine.describe(),
                seconds=options.outline.seconds,
                users=None if is_open else most(options.table),
            ),
        )
        put: Callable[[Replica], None] = partial(self._put, current)
        host = _host(people)
        self._watcher = Watcher(put, watched, host and f"http://{host}:8080/nginx_status", Machine())
        self._watcher.start()
        current.started = self._told = time.monotonic()
        if is_open:
            share = people.arrivals_per_minute / len(current.workers)
            for number, worker in enumerate(current.workers):
                order = {"per_minute": share, "turns": people.turns_per_caller, "first": number + 1}
                self._order(current, {"what": "arrive", "step": len(current.workers), **order}, worker)

    def _look_after_workers(self, current: Current) -> None:
        if isinstance(self._runner, MasterRunner):
            current.lost |= set(current.workers) - set(self._runner.clients)
        if lost := self._lost(current):
            self._trouble(current, f"{len(lost)} of {len(current.workers)} workers were lost")

    def _trouble(self, current: Current, why: str) -> None:
        if not current.trouble:
            current.trouble = why
            log.error("the run can't be concluded from: %s", why)

    def _conclude(self, current: Current) -> int:
        if current.trouble:
            (current.folder / TROUBLE).write_text(current.trouble + "\n", encoding="utf-8")
        if current.started is None:
            log.error("run %s ended before anybody came: %s", current.name, current.trouble or "it was stopped")
            return TROUBLED
        command = [sys.executable, "-m", "loadtest.report", str(current.folder / RECORDS), "--out", str(current.folder)]
        done = subprocess.run(
            [*command, "--thresholds", *current.options.thresholds],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in (done.stdout + done.stderr).splitlines():
            log.info("%s", line)
        return TROUBLED if current.trouble else done.returncode

    def _order(self, current: Current, order: Mapping[str, Any], worker: str) -> None:
        try:
            self._runner.send_message(TO_WORKER, {"run": current.name, **order}, worker)
        except RPCError as error:
            log.warning("worker %s can't be told: %s", worker, error)

    def _put(self, current: Current, event: Event) -> None:
        if not current.records.closed:
            current.records.write(encode(event) + b"\n")

    def _workers(self, expected: int) -> list[str]:
        runner = self._runner
        if isinstance(runner, LocalRunner):
            return [LOCAL]
        self._wait(lambda: len(runner.clients.ready) >= expected, WORKERS_WITHIN_S)
        ready = sorted(each.id for each in runner.clients.ready)
        if 0 < len(ready) < expected:
            log.warning("only %d of %d workers are there: the run begins with them", len(ready), expected)
        return ready

    def _lost(self, current: Current) -> set[str]:
        """Workers that went or fell silent; not those that Locust lets go of for a moment at a test's end."""
        missing = self._runner.clients.missing if isinstance(self._runner, MasterRunner) else []
        return current.lost | {each.id for each in missing if each.id in current.workers}

    def _wait(self, condition: Callable[[], bool], within_s: float) -> None:
        end = time.monotonic() + within_s
        while not condition() and time.monotonic() < end:
            gevent.sleep(0.1)

    def _tell_progress(self, current: Current, elapsed: float) -> None:
        if time.monotonic() - self._told < TOLD_EVERY_S:
            return
        self._told = time.monotonic()
        current.records.flush()
        finals, sounds = (self._environment.stats.get(*row) for row in ((FINAL, "ASR"), (FIRST_AUDIO, "TTS")))
        log.info(
            "%4.0f of %.0f s: %d users; %d finals, p95 %.0f ms; %d replies, first audio p95 %.0f ms; %d failures",
            elapsed,
            current.options.outline.seconds,
            sum(current.people.values()),
            finals.num_requests,
            finals.get_response_time_percentile(0.95) or 0,
            sounds.num_requests,
            sounds.get_response_time_percentile(0.95) or 0,
            self._environment.stats.total.num_failures,
        )


def _kinds(environment: Environment) -> dict[str, Kind]:
    """User classes by name, with the kind of person each is."""
    return {each.__name__: each.kind for each in environment.user_classes}  # type: ignore[attr-defined]


def _by_class(kinds: Mapping[str, Kind], people: Mapping[Kind, int]) -> dict[str, int]:
    return {name: people.get(kind, 0) for name, kind in kinds.items()}


def _tables(options: Options) -> list[dict[Kind, int]]:
    """How many of each kind there are, at each number of people that the run passes."""
    mix = options.people.mix
    if options.outline.shape == "open":
        return [split(mix, callers_at_once(options.people))]
    return [split(mix, users) for users in range(1, most(options.table) + 1)]


def callers_at_once(people: LoadSettings) -> int:
    """How many callers there hardly ever are at once, where they arrive by chance and each stays for its turns."""
    mean = people.arrivals_per_minute / 60 * people.turns_per_caller * people.turn_every_s
    return math.ceil(mean + 3 * math.sqrt(mean))


def _changes(people: LoadSettings) -> dict[str, Any]:
    """What a worker's own settings do not know."""
    return {name: getattr(people, name) for name in (*BEHAVIOUR, "mix")}


def _host(people: LoadSettings) -> str | None:
    """Where nginx offers the replicas one by one; None: they are not to be asked."""
    host = os.environ.get("LOADTEST_REPLICAS") or urlsplit(people.asr_url).hostname
    return None if host == "none" else host


def _watched(people: LoadSettings) -> dict[Any, list[str]]:
    host = _host(people)
    return {service: direct_urls(service, host) for service in ("asr", "tts")} if host else {}
