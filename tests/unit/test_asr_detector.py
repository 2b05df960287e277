"""Hops of many streams share the calls of the voice model."""

from __future__ import annotations

import queue
import threading
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from asr import detector as module
from asr.detector import GATHER_CALLS, GATHER_LEAST_S, GATHER_MOST_S, MUCH, Detector
from asr.metrics import AsrMetrics
from serving.audio import Samples

pytestmark = pytest.mark.unit


class Clock:
    """Stands still but for the model's calls; a pause lasts until the test ends it."""

    def __init__(self) -> None:
        self.now = 1.0
        self.pauses: list[float] = []
        self.paused = threading.Event()
        self.go_on = threading.Event()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.pauses.append(seconds)
            self.paused.set()
            assert self.go_on.wait(10)


class CountingVoice:
    """Keeps how many hops each call scored, each of which takes so long."""

    def __init__(self, clock: Clock | None, took_s: float) -> None:
        self.calls: list[int] = []
        self._clock = clock
        self._took_s = took_s

    def new_state(self) -> object:
        return object()

    def step(self, states: list[Any], hops: Samples) -> Samples:
        self.calls.append(len(states))
        if self._clock is not None:
            self._clock.now += self._took_s
        return np.zeros(len(states), np.float32)


class Bench:
    """A detector whose results are waited for."""

    def __init__(self, clock: Clock | None = None, took_s: float = 0.0) -> None:
        self.voice = CountingVoice(clock, took_s)
        self.detector = Detector(
            self.voice, post=lambda deliver, scores: deliver(scores), metrics=AsrMetrics(CollectorRegistry())
        )
        self.detector.start()

    def submit(self, hops: int) -> threading.Event:
        done = threading.Event()
        stream = self.detector.new_stream()
        self.detector.submit(stream, np.zeros((hops, 512), np.float32), lambda _: done.set())
        return done


@pytest.mark.parametrize(
    ("took_s", "gather_s"),
    [(0.0, GATHER_LEAST_S), (0.0005, GATHER_CALLS * 0.0005), (0.002, GATHER_MOST_S)],
    ids=["cheap", "dear", "dearest"],
)
def test_what_comes_soon_after_a_call_shares_the_next(
    monkeypatch: pytest.MonkeyPatch, took_s: float, gather_s: float
) -> None:
    """The first hop is scored at once; those after it wait for each other, the longer the dearer a call is."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    bench = Bench(clock, took_s)
    assert bench.submit(1).wait(10)
    second = bench.submit(1)
    assert clock.paused.wait(10)
    others = [bench.submit(1) for _ in range(4)]
    clock.go_on.set()
    assert all(done.wait(10) for done in (second, *others))
    bench.detector.stop()
    assert bench.voice.calls == [1, 5]
    assert clock.pauses == [pytest.approx(gather_s - took_s)]


def test_a_piece_of_several_hops_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends 100 ms at a time has its scores as soon as one that sends a hop."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    bench = Bench()
    assert bench.submit(3).wait(10)
    bench.detector.stop()
    assert bench.voice.calls == [1, 1, 1]
    assert not clock.pauses


def test_a_stream_that_fails_leaves_the_others_their_scores() -> None:
    """What comes of one call is given to each stream by itself."""
    posted: queue.Queue[Any] = queue.Queue()
    detector = Detector(
        CountingVoice(None, 0.0), post=lambda *call: posted.put(call), metrics=AsrMetrics(CollectorRegistry())
    )
    got: list[int] = []

    def fail(scores: Any) -> None:
        raise RuntimeError("a defect")

    for deliver in (fail, lambda scores: got.append(len(scores))):
        detector.submit(detector.new_stream(), np.zeros((1, 512), np.float32), deliver)
    detector.start()
    callback, *arguments = posted.get(timeout=10)
    detector.stop()
    callback(*arguments)
    assert got == [1]


def test_a_stream_with_much_to_score_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording sent faster than it was spoken is scored as fast as the model can."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    bench = Bench()
    assert bench.submit(MUCH + 1).wait(10)
    bench.detector.stop()
    assert bench.voice.calls == [1] * (MUCH + 1)
    assert not clock.pauses
