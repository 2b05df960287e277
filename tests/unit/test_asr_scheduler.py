"""Who is transcribed next, with an engine that answers when the test lets it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from asr import scheduler as scheduling
from asr.engine import Context, Options, Request, Transcript
from asr.metrics import AsrMetrics
from asr.scheduler import Job, Kind, Load, Scheduler

pytestmark = pytest.mark.unit

SILENCE = np.zeros(16000, np.float32)


@dataclass
class Gate:
    """An engine whose calls wait to be let through, one by one."""

    languages: frozenset[str] = frozenset(("en",))
    tasks: frozenset[str] = frozenset(("transcribe",))
    batches: list[list[Request]] = field(default_factory=list)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        self.batches.append(requests)
        self.came.release()
        assert self.go.acquire(timeout=10)
        return [Transcript(request.options.prompt, 0.9, "en") for request in requests]


class Bench:
    """A scheduler on real threads; a job's name is its prompt."""

    def __init__(self, workers: int = 1, max_batch: int = 1) -> None:
        self.engine = Gate()
        self.metrics = AsrMetrics(CollectorRegistry())
        self.delivered: list[str] = []
        self.scheduler = Scheduler(
            self.engine,
            workers=workers,
            max_batch=max_batch,
            post=lambda deliver, outcome: deliver(outcome),
            metrics=self.metrics,
        )
        self.scheduler.start()

    def job(self, name: str, kind: Kind, deadline: float, owner: object = None, context: bool = False) -> Job:
        before = Context(SILENCE, "before") if context else None
        request = Request(SILENCE, kind is not Kind.PARTIAL, Options(None, prompt=name), context=before)
        return Job(owner or name, request, lambda _: self.delivered.append(name), kind, deadline)

    def submit(self, name: str, kind: Kind, deadline: float = 0.0, owner: object = None) -> Job:
        job = self.job(name, kind, deadline, owner)
        self.scheduler.submit(job)
        return job

    def running(self) -> list[str]:
        """Wait for the next call of the engine; the names in it."""
        assert self.engine.came.acquire(timeout=10)
        return [request.options.prompt for request in self.engine.batches[-1]]

    def let_through(self, calls: int = 1) -> None:
        for _ in range(calls):
            self.engine.go.release()

    def order(self, calls: int) -> list[str]:
        """The names of the next calls, each let through."""
        names = []
        for _ in range(calls):
            names += self.running()
            self.let_through()
        return names


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load never counts."""
    monkeypatch.setattr(Load, "share", lambda _: 0.0)


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    """Those that a test makes are stopped after it."""
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.let_through(100)
        bench.scheduler.stop()


@pytest.mark.usefixtures("idle")
def test_finals_go_first_then_speculations_then_partials_each_by_deadline(benches: list[Bench]) -> None:
    """Whatever the order in which they came."""
    bench = Bench()
    benches.append(bench)
    bench.submit("first", Kind.FINAL)
    assert bench.running() == ["first"]
    for name, kind, deadline in (
        ("partial late", Kind.PARTIAL, 9.0),
        ("partial early", Kind.PARTIAL, 1.0),
        ("guess late", Kind.SPECULATION, 8.0),
        ("guess early", Kind.SPECULATION, 2.0),
        ("final late", Kind.FINAL, 7.0),
        ("final early", Kind.FINAL, 3.0),
    ):
        bench.submit(name, kind, deadline)
    assert bench.scheduler.depth() == 6
    bench.let_through()
    expected = ["final early", "final late", "guess early", "guess late", "partial early", "partial late"]
    assert bench.order(6) == expected


@pytest.mark.usefixtures("idle")
def test_a_newer_partial_takes_the_place_of_the_one_that_waits(benches: list[Bench]) -> None:
    """And the one given up is counted."""
    bench = Bench()
    benches.append(bench)
    bench.submit("busy", Kind.FINAL)
    bench.running()
    utterance = object()
    bench.submit("old", Kind.PARTIAL, owner=utterance)
    bench.submit("new", Kind.PARTIAL, owner=utterance)
    bench.let_through()
    assert bench.order(1) == ["new"]
    assert bench.scheduler.depth() == 0
    assert bench.metrics.partials_dropped._value.get() == 1


@pytest.mark.usefixtures("idle")
def test_a_promoted_speculation_is_a_final(benches: list[Bench]) -> None:
    """It overtakes speculations with earlier deadlines; promoting one that runs changes nothing."""
    bench = Bench()
    benches.append(bench)
    runs = bench.submit("runs", Kind.SPECULATION)
    bench.running()
    bench.submit("early", Kind.SPECULATION, 1.0)
    late = bench.submit("late", Kind.SPECULATION, 9.0)
    bench.scheduler.promote(runs, 0.0)
    bench.scheduler.promote(late, 9.0)
    assert bench.scheduler.oldest_wait_s() > 0
    bench.let_through()
    assert bench.order(2) == ["late", "early"]
    assert bench.delivered[0] == "runs"


@pytest.mark.usefixtures("idle")
def test_cancel_forgets_what_waits_of_one_utterance(benches: list[Bench]) -> None:
    """Of a kind, or all of it; others stay."""
    bench = Bench()
    benches.append(bench)
    bench.submit("busy", Kind.FINAL)
    bench.running()
    one, other = object(), object()
    for owner in (one, other):
        for kind in Kind:
            bench.submit(f"{kind} {'one' if owner is one else 'other'}", kind, owner=owner)
    bench.scheduler.cancel(one, Kind.SPECULATION)
    assert bench.scheduler.depth() == 5
    bench.scheduler.cancel(one)
    assert bench.scheduler.depth() == 3
    bench.let_through()
    assert bench.order(3) == ["final other", "speculation other", "partial other"]


@pytest.mark.usefixtures("idle")
def test_one_thread_is_kept_from_partials(benches: list[Bench]) -> None:
    """Two partials don't run at once on two threads, so a final that comes then starts at once."""
    bench = Bench(workers=2)
    benches.append(bench)
    bench.submit("partial", Kind.PARTIAL)
    assert bench.running() == ["partial"]
    bench.submit("another", Kind.PARTIAL)
    bench.submit("final", Kind.FINAL)
    assert bench.running() == ["final"]
    assert bench.scheduler.depth() == 1
    bench.let_through(2)
    assert bench.running() == ["another"]


@pytest.mark.usefixtures("idle")
def test_what_waits_is_shared_among_idle_threads_before_it_is_batched(benches: list[Bench]) -> None:
    """Batches form when more waits than there are threads."""
    bench = Bench(workers=1, max_batch=2)
    benches.append(bench)
    bench.submit("busy", Kind.FINAL)
    bench.running()
    for number in range(3):
        bench.submit(f"{number}", Kind.FINAL, float(number))
    bench.let_through()
    assert bench.running() == ["0", "1"]
    bench.let_through()
    assert bench.running() == ["2"]


def test_a_busy_engine_first_drops_second_decodings_then_partials_then_speculations(
    benches: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finals run at any load, and what waited runs once the load has sunk."""
    share = 0.0
    monkeypatch.setattr(Load, "share", lambda _: share)
    monkeypatch.setattr(Load, "seconds_until", lambda *_: 0.01)
    bench = Bench()
    benches.append(bench)

    share = scheduling.CARE.share + 0.01
    bench.scheduler.submit(bench.job("final", Kind.FINAL, 0.0, context=True))
    bench.running()
    assert bench.engine.batches[-1][0].context is None
    assert not bench.engine.batches[-1][0].look_again
    bench.let_through()

    share = scheduling.PARTIALS.share + 0.01
    bench.submit("partial", Kind.PARTIAL)
    bench.submit("guess", Kind.SPECULATION)
    assert bench.order(1) == ["guess"]

    share = scheduling.SPECULATIONS.share + 0.01
    bench.submit("late guess", Kind.SPECULATION)
    bench.submit("final again", Kind.FINAL)
    assert bench.order(1) == ["final again"]
    assert bench.scheduler.depth() == 2

    share = 0.0
    assert bench.order(2) == ["late guess", "partial"]
    bench.scheduler.submit(bench.job("heard in context", Kind.FINAL, 0.0, context=True))
    bench.running()
    assert bench.engine.batches[-1][0].context is not None
    assert bench.engine.batches[-1][0].look_again


def test_the_load_is_the_share_of_the_threads_time_and_fades(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of half the time on one of two threads comes to a quarter."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    load = Load(threads=2)
    for _ in range(200):
        now += 0.2
        load.add(0.1)
    assert load.share() == pytest.approx(0.25, rel=0.05)
    limit = scheduling.Limit(share=0.1, wait_s=10)
    assert not load.leaves_room(limit)
    now += load.seconds_until(limit) + 1e-6
    assert load.leaves_room(limit)
    assert load.share() == pytest.approx(0.1)
    assert load.seconds_until(limit) == 0


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("call_s", [0.05, 0.7])
def test_the_longer_calls_take_and_the_fewer_threads_the_sooner_there_is_no_room(
    threads: int, call_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes would wait for as long as the limit says, by the formula for one thread."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    load, limit = Load(threads), scheduling.Limit(share=0.9, wait_s=0.1)
    assert load.leaves_room(limit)
    while load.leaves_room(limit):
        now += call_s / threads * 0.98
        load.add(call_s)
    now += load.seconds_until(limit)
    share = load.share()
    assert call_s * share / (1 - share) / threads == pytest.approx(0.1)
    assert (share < 0.6) == (call_s / threads > 0.1)
