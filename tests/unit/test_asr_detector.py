"""Hops of many streams share the calls of the voice model."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from asr import detector as module
from asr.detector import GATHER_S, MUCH, Detector
from asr.metrics import AsrMetrics
from serving.audio import Samples

pytestmark = pytest.mark.unit


class Clock:
    """Stands still; a pause lasts until the test ends it."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.paused = threading.Event()
        self.go_on = threading.Event()

    def monotonic(self) -> float:
        return 1.0

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.pauses.append(seconds)
            self.paused.set()
            assert self.go_on.wait(10)


class CountingVoice:
    """Keeps how many hops each call scored."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def new_state(self) -> object:
        return object()

    def step(self, states: list[Any], hops: Samples) -> Samples:
        self.calls.append(len(states))
        return np.zeros(len(states), np.float32)


class Bench:
    """A detector whose results are waited for."""

    def __init__(self) -> None:
        self.voice = CountingVoice()
        self.detector = Detector(
            self.voice, post=lambda deliver, scores: deliver(scores), metrics=AsrMetrics(CollectorRegistry())
        )
        self.detector.start()

    def submit(self, hops: int) -> threading.Event:
        done = threading.Event()
        stream = self.detector.new_stream()
        self.detector.submit(stream, np.zeros((hops, 512), np.float32), lambda _: done.set())
        return done


def test_what_comes_soon_after_a_call_shares_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hop is scored at once; those after it wait for each other for a moment."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    bench = Bench()
    assert bench.submit(1).wait(10)
    second = bench.submit(1)
    assert clock.paused.wait(10)
    others = [bench.submit(1) for _ in range(4)]
    clock.go_on.set()
    assert all(done.wait(10) for done in (second, *others))
    bench.detector.stop()
    assert bench.voice.calls == [1, 5]
    assert clock.pauses == [pytest.approx(GATHER_S)]


def test_a_stream_with_much_to_score_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording sent faster than it was spoken is scored as fast as the model can."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    bench = Bench()
    assert bench.submit(MUCH + 1).wait(10)
    bench.detector.stop()
    assert bench.voice.calls == [1] * (MUCH + 1)
    assert not clock.pauses
