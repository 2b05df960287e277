"""Who is transcribed next: finals before partials, each by its deadline, on the engine's one thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asr.engine import Engine, Request, Transcript
from asr.metrics import AsrMetrics
from serving.worker import Worker

log = logging.getLogger(__name__)

Deliver = Callable[[Transcript | Exception], None]


@dataclass(eq=False)
class Job:
    """A request, who waits for it, and until when. Compared by identity."""

    owner: object
    """The utterance. It has at most one partial waiting."""
    request: Request
    deliver: Deliver
    """Called on the event loop."""
    final: bool
    deadline: float
    """Monotonic seconds."""
    queued: float = field(default_factory=time.monotonic)


class Scheduler(Worker):
    """Runs jobs on one thread and hands each result to the event loop.

    The number of waiting jobs is bounded by the streams: each utterance has at most one partial, and a stream
    whose finals lag behind is not read on.
    """

    def __init__(self, engine: Engine, *, max_batch: int, post: Callable[..., Any], metrics: AsrMetrics) -> None:
        """`post(callback, *args)` runs a callback on the event loop (`loop.call_soon_threadsafe`)."""
        super().__init__("asr engine")
        self._engine = engine
        self._max_batch = max_batch
        self._post = post
        self._metrics = metrics
        # A handful to a few hundred jobs: plain lists, searched for the earliest deadline, are quick enough.
        self._finals: list[Job] = []
        self._partials: dict[object, Job] = {}

    def submit(self, job: Job) -> None:
        """Queue a job. A partial takes the place of the one of its utterance that still waits."""
        with self._changed:
            if job.final:
                self._finals.append(job)
            else:
                if job.owner in self._partials:
                    self._metrics.partials_dropped.inc()
                self._partials[job.owner] = job
            self._changed.notify()

    def cancel(self, owner: object, *, partial_only: bool = False) -> None:
        """Forget the utterance's waiting jobs; with `partial_only` its final still comes."""
        with self._changed:
            if self._partials.pop(owner, None) is not None:
                self._metrics.partials_dropped.inc()
            if not partial_only:
                self._finals = [job for job in self._finals if job.owner is not owner]

    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._finals) + len(self._partials)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (batch := self._next_batch()) and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
            self._run(batch)

    def _next_batch(self) -> list[Job]:
        """The most urgent jobs of one kind, at most `max_batch`, taken from what waits; the lock is held."""
        waiting = self._finals or list(self._partials.values())
        batch = sorted(waiting, key=lambda job: job.deadline)[: self._max_batch]
        for job in batch:
            if job.final:
                self._finals.remove(job)
            else:
                del self._partials[job.owner]
        return batch

    def _run(self, batch: list[Job]) -> None:
        kind = "final" if batch[0].final else "partial"
        outcomes: Sequence[Transcript | Exception]
        with self._busy() as started:
            for job in batch:
                self._metrics.queue_wait.labels(kind).observe(started - job.queued)
            try:
                requests = [job.request for job in batch]
                transcripts = self._engine.transcribe(requests)
                audio = sum(len(request.samples) for request in requests)
                self._metrics.decoded(kind, len(batch), audio, time.monotonic() - started, transcripts)
                outcomes = transcripts
            except Exception as error:
                log.exception("the engine failed on a batch of %d", len(batch))
                outcomes = [error] * len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            self._post(job.deliver, outcome)
