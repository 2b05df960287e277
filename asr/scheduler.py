"""Who is transcribed next, on the engine's threads: finals, then speculations, then partials, each by its deadline.

A speculation is a final that is asked for before the utterance is known to have ended; it becomes a final if it has.
Waiting grows without bound as the engine's threads come near to being always busy, and the sooner, the longer a call
takes and the fewer threads there are. So what is not owed to anybody gives way before that: the more the threads are
busy, first what finals are decoded twice for, then partials, then speculations. Finals run whatever the load.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from asr.engine import Engine, Request, Transcript
from asr.metrics import AsrMetrics
from serving.worker import Worker

log = logging.getLogger(__name__)

Deliver = Callable[[Transcript | Exception], None]


@dataclass(frozen=True)
class Limit:
    """How busy the engine's threads may be for what is not owed to anybody."""

    share: float
    """Of their time, whatever calls take; and"""
    wait_s: float
    """so long a final may have to wait for a thread, in the mean."""


CARE = Limit(0.5, 0.06)
"""Beyond it finals are heard without the utterance before them, and once, however unsure the words are."""
PARTIALS = Limit(0.6, 0.12)
"""Beyond it partials wait."""
SPECULATIONS = Limit(0.8, 0.25)
"""Beyond it speculations wait."""
LOAD_OVER_S = 4.0
"""Time constant of the mean share that is compared with those."""
CALL_FORGETS = 0.1
"""What the newest call counts for in the mean of what calls take."""


class Kind(StrEnum):
    """What a job is for."""

    FINAL = "final"
    SPECULATION = "speculation"
    PARTIAL = "partial"


@dataclass(eq=False)
class Job:
    """A request, who waits for it, and until when. Compared by identity."""

    owner: object
    """The utterance. It has at most one partial and one other job waiting."""
    request: Request
    deliver: Deliver
    """Called on the event loop."""
    kind: Kind
    deadline: float
    """Monotonic seconds."""
    queued: float = field(default_factory=time.monotonic)


class Load:
    """How busy so many threads have been lately: the mean share of their time, the newest counted most."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._share = 0.0
        self._at = time.monotonic()
        self._call_s = 0.0
        """What a call takes, in the mean."""

    def add(self, seconds: float) -> None:
        """Count a call that one thread has just ended."""
        self._share = self.share() + seconds / (LOAD_OVER_S * self._threads)
        self._at = time.monotonic()
        self._call_s += CALL_FORGETS * (seconds - self._call_s) if self._call_s else seconds

    def share(self) -> float:
        """Of the threads' time, now; above 1 for a moment after a long call."""
        return self._share * math.exp((self._at - time.monotonic()) / LOAD_OVER_S)

    def leaves_room(self, limit: Limit) -> bool:
        """Whether the threads are less busy than that."""
        return self.share() < self._most(limit)

    def seconds_until(self, limit: Limit) -> float:
        """When they will leave room, if nothing is added."""
        now, most = self.share(), self._most(limit)
        return LOAD_OVER_S * math.log(now / most) if now > most else 0.0

    def _most(self, limit: Limit) -> float:
        """The share with which the limit is reached.

        Where threads are busy for a share of their time, who comes waits for call · share / (threads · (1 - share)): of
        one thread the mean for calls of random length (M/M/1), of several a bound that is near where they are busy.
        """
        room = self._threads * limit.wait_s
        return min(limit.share, room / (room + self._call_s))


class Scheduler(Worker):
    """Runs jobs on the engine's threads and hands each result to the event loop.

    The number of waiting jobs is bounded by the streams: each utterance has at most two, and a stream whose finals
    lag behind is not read on.
    """

    def __init__(
        self, engine: Engine, *, workers: int, max_batch: int, post: Callable[..., Any], metrics: AsrMetrics
    ) -> None:
        """`post(callback, *args)` runs a callback on the event loop (`loop.call_soon_threadsafe`)."""
        super().__init__("asr engine", workers)
        self._engine = engine
        self._workers = workers
        self._max_batch = max_batch
        self._post = post
        self._metrics = metrics
        # A handful to a few hundred jobs: plain lists, searched for the earliest deadline, are quick enough.
        self._finals: list[Job] = []
        self._speculations: dict[object, Job] = {}
        self._partials: dict[object, Job] = {}
        self._idle = 0
        """Threads that look for work."""
        self._load = Load(workers)
        self._spent_s = 0.0
        """Seconds of the threads in finals and speculations."""
        self._partials_running = 0
        self._partials_at_once = max(1, workers - 1)
        """Of several threads one is kept for finals, which would otherwise wait for the partials to end."""

    def submit(self, job: Job) -> None:
        """Queue a job. A partial or speculation takes the place of the one of its utterance that still waits."""
        with self._changed:
            if job.kind is Kind.FINAL:
                self._finals.append(job)
            elif job.kind is Kind.SPECULATION:
                self._speculations[job.owner] = job
            else:
                if job.owner in self._partials:
                    self._metrics.partials_dropped.inc()
                self._partials[job.owner] = job
            self._changed.notify()

    def promote(self, job: Job, deadline: float) -> None:
        """Make a final of a speculation, if it still waits; one that runs or has run is delivered as it is."""
        with self._changed:
            if self._speculations.get(job.owner) is job:
                del self._speculations[job.owner]
                job.kind, job.deadline = Kind.FINAL, deadline
                self._finals.append(job)
                self._changed.notify()

    def cancel(self, owner: object, kind: Kind | None = None) -> None:
        """Forget the utterance's waiting jobs: those of a kind, or all."""
        with self._changed:
            if kind in (None, Kind.PARTIAL) and self._partials.pop(owner, None) is not None:
                self._metrics.partials_dropped.inc()
            if kind in (None, Kind.SPECULATION):
                self._speculations.pop(owner, None)
            if kind in (None, Kind.FINAL):
                self._finals = [job for job in self._finals if job.owner is not owner]

    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._finals) + len(self._speculations) + len(self._partials)

    def spent_s(self) -> float:
        """Seconds of all threads' time that finals and speculations have taken so far."""
        return self._spent_s / self._workers

    def oldest_wait_s(self) -> float:
        """How long the final that waits longest has waited."""
        with self._changed:
            oldest = min((job.deadline for job in self._finals), default=None)
        return 0.0 if oldest is None else max(0.0, time.monotonic() - oldest)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not (batch := self._next_batch()) and not self._stopping:
                    self._changed.wait(self._until_worth_a_look())
                self._idle -= 1
                if self._stopping:
                    return
            self._run(batch)

    def _next_batch(self) -> list[Job]:
        """The most urgent jobs of one kind, taken from what waits; the lock is held."""
        if self._finals:
            batch = self._most_urgent(self._finals)
            self._finals = [job for job in self._finals if job not in batch]
        elif self._speculations and self._load.leaves_room(SPECULATIONS):
            batch = self._most_urgent(self._speculations.values())
            for job in batch:
                del self._speculations[job.owner]
        elif self._partials and self._partial_may_run():
            batch = self._most_urgent(self._partials.values())
            for job in batch:
                del self._partials[job.owner]
            self._partials_running += 1
        else:
            batch = []
        return batch

    def _most_urgent(self, jobs: Collection[Job]) -> list[Job]:
        """By deadline; as many as come to each idle thread, so that none of them stays idle while others batch."""
        fair = -(-len(jobs) // max(1, self._idle))
        return sorted(jobs, key=lambda job: job.deadline)[: min(fair, self._max_batch)]

    def _partial_may_run(self) -> bool:
        return self._partials_running < self._partials_at_once and self._load.leaves_room(PARTIALS)

    def _until_worth_a_look(self) -> float | None:
        """Seconds until what waits may run because the load has sunk; None where only an event can change that."""
        waits = []
        if self._speculations:
            waits.append(self._load.seconds_until(SPECULATIONS))
        if self._partials and self._partials_running < self._partials_at_once:
            waits.append(self._load.seconds_until(PARTIALS))
        return min(waits) + 0.001 if waits else None

    def _run(self, batch: list[Job]) -> None:
        kind = batch[0].kind
        outcomes: Sequence[Transcript | Exception]
        with self._busy() as started:
            for job in batch:
                self._metrics.queue_wait.labels(kind).observe(started - job.queued)
            try:
                requests = [job.request for job in batch]
                if not self._load.leaves_room(CARE):
                    requests = [replace(request, context=None, look_again=False) for request in requests]
                transcripts = self._engine.transcribe(requests)
                audio = sum(len(request.samples) for request in requests)
                self._metrics.decoded(kind, len(batch), audio, time.monotonic() - started, transcripts)
                outcomes = transcripts
            except Exception as error:
                log.exception("the engine failed on a batch of %d", len(batch))
                outcomes = [error] * len(batch)
        with self._changed:
            self._load.add(time.monotonic() - started)
            if kind is not Kind.PARTIAL:
                self._spent_s += time.monotonic() - started
            else:
                self._partials_running -= 1
                self._changed.notify()
        for job, outcome in zip(batch, outcomes, strict=True):
            self._post(job.deliver, outcome)
