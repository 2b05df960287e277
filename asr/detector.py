"""Voice activity of all streams, on one thread: hops that wait at the same time are scored in one call."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from asr.metrics import AsrMetrics
from serving.audio import Samples
from serving.worker import Worker

log = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float32]

Deliver = Callable[[Probabilities | Exception], None]

GATHER_LEAST_S = 0.004
GATHER_MOST_S = 0.010
"""Bounds of the time from one call of the model to the next, so that a call scores what has come of many streams: a hop
costs a third in a call for sixteen of what it costs alone."""
GATHER_CALLS = 15
"""Between those bounds, so many times as long as the newest call took: where calls are dear, because there are many
streams or the machine is busy, they are fewer."""
MUCH = 8
"""Hops, or pieces of audio, of one stream that wait at once: more than live speech brings, so it need not pace."""


class VoiceModel(Protocol):
    """What the detector needs of a voice activity model; `asr.vad` is the real one."""

    def new_state(self) -> Any:
        """The state of a stream that has heard nothing yet."""

    def step(self, states: list[Any], hops: Samples) -> Probabilities:
        """Speech probability of one hop of each stream, (n, 512) samples; the states go on by one hop."""


@dataclass(eq=False)
class _Task:
    hops: Samples
    """(n, 512)"""
    deliver: Deliver
    received: float
    scores: list[float] = field(default_factory=list)


class DetectorStream:
    """One stream's place in the detector: its model state and the hops that wait for it, in order."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.tasks: deque[_Task] = deque()


class Detector(Worker):
    """Scores hops of many streams; a stream with much to score takes turns with the others."""

    def __init__(self, model: VoiceModel, *, post: Callable[..., Any], metrics: AsrMetrics) -> None:
        """`post(callback, *args)` runs a callback on the event loop."""
        super().__init__("asr detector")
        self._model = model
        self._post = post
        self._metrics = metrics
        self._waiting: dict[DetectorStream, None] = {}
        self._next_call = 0.0
        """Monotonic seconds before which the model is not called, unless a stream is behind or in the midst of its
        audio."""

    def new_stream(self) -> DetectorStream:
        """A place for a new stream."""
        return DetectorStream(self._model.new_state())

    def submit(self, stream: DetectorStream, hops: Samples, deliver: Deliver) -> None:
        """Score (n, 512) samples; `deliver` gets n probabilities on the event loop, in order of submission."""
        with self._changed:
            stream.tasks.append(_Task(hops, deliver, time.monotonic()))
            self._waiting[stream] = None
            self._changed.notify()

    def forget(self, stream: DetectorStream) -> None:
        """Drop what waits of a stream that has ended."""
        with self._changed:
            stream.tasks.clear()
            self._waiting.pop(stream, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                hurry = any(
                    s.tasks[0].scores or len(s.tasks) > MUCH or len(s.tasks[0].hops) > MUCH for s in self._waiting
                )
            if not hurry:
                time.sleep(max(0.0, self._next_call - time.monotonic()))
            with self._changed:
                turn = [(stream, stream.tasks[0]) for stream in self._waiting]
            if turn:
                called = time.monotonic()
                self._score(turn)
                took = time.monotonic() - called
                self._next_call = called + min(max(GATHER_CALLS * took, GATHER_LEAST_S), GATHER_MOST_S)

    def _score(self, turn: list[tuple[DetectorStream, _Task]]) -> None:
        hops = np.stack([task.hops[len(task.scores)] for _, task in turn])
        error: Exception | None = None
        with self._busy():
            try:
                scores = self._model.step([stream.state for stream, _ in turn], hops).tolist()
            except Exception as failure:
                log.exception("voice detection failed on %d streams", len(turn))
                scores, error = [0.0] * len(turn), failure
        now = time.monotonic()
        scored: list[tuple[Deliver, Probabilities | Exception]] = []
        with self._changed:
            for (stream, task), score in zip(turn, scores, strict=True):
                task.scores.append(score)
                done = error is not None or len(task.scores) == len(task.hops)
                if not done or not stream.tasks or stream.tasks[0] is not task:
                    continue  # more hops to score, or the stream was forgotten meanwhile
                stream.tasks.popleft()
                if not stream.tasks:
                    self._waiting.pop(stream, None)
                self._metrics.vad_delay.observe(now - task.received)
                scored.append((task.deliver, error or np.asarray(task.scores, np.float32)))
        if scored:
            self._post(_deliver, scored)


def _deliver(scored: list[tuple[Deliver, Probabilities | Exception]]) -> None:
    """Give each stream its own, on the event loop: it wakes up once a call, not once a stream."""
    for deliver, probabilities in scored:
        try:
            deliver(probabilities)
        except Exception:
            log.exception("a stream could not take its scores")
