"""A machine of known speed, voices that only cost time, and listeners who hear gaps: the engine without its threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from serving.audio import Samples
from tts.chunks import chunk
from tts.engine import HASTE_GAIN, Engine, ListenerStream, Sentence, Turn
from tts.metrics import TtsMetrics
from tts.pace import FRONT_EXTRA
from tts.voice import Manner, Utterance

FRAMES_PER_CHARACTER = 4
SAMPLE_RATE = 1000
SAMPLES_PER_FRAME = 12


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class CostlyVoice:
    """Four frames of 12 ms a character; what it does takes the time that it is told to."""

    clock: Clock
    front_s: float = 0.00025
    """A character, and fifteen more a call."""
    chunk_s: float = 0.00034
    """A frame seen."""
    sample_rate: int = SAMPLE_RATE
    calls: list[tuple[str, int]] = field(default_factory=list)

    def phonemize(self, text: str) -> list[list[int]]:
        return [[ord(each) for each in text]] if text.strip() else []

    def begin(self, ids: list[int], manner: Manner, *, hasty: bool = False) -> Utterance:
        self.clock.now += (len(ids) + FRONT_EXTRA) * self.front_s / (HASTE_GAIN if hasty else 1)
        self.calls.append(("front", len(ids)))
        return Utterance(round(len(ids) * FRAMES_PER_CHARACTER / manner.speed), {})

    def go_on(self, utterances: list[Utterance], frames: int, *, hasty: bool = False) -> list[Samples]:
        rendered = []
        for each in utterances:
            part = chunk(each.done, frames, each.frames)
            self.clock.now += part.work * self.chunk_s / (HASTE_GAIN if hasty else 1)
            each.done = part.end
            rendered.append(np.zeros((part.end - part.start) * SAMPLES_PER_FRAME, np.float32))
        self.calls.append(("back", frames))
        return rendered


@dataclass(eq=False)
class Listener:
    """Asks for one reply, and plays it from its first sample on."""

    asks: float
    sentences: list[str]
    stream: ListenerStream = field(default_factory=ListenerStream)
    first_sound: float | None = None
    plays_until: float = 0.0
    seconds: float = 0.0
    gaps: list[float] = field(default_factory=list)
    over: bool = False
    refused: float | None = None
    """What wait was foreseen when it was refused."""
    foreseen: float = 0.0

    def hear(self, now: float, outcome: Samples | Exception | None, last: bool) -> None:
        """Take what is delivered."""
        assert not isinstance(outcome, Exception)
        if outcome is None:
            self.over = last
            return
        if self.first_sound is None:
            self.first_sound = self.plays_until = now
        if now > self.plays_until:
            self.gaps.append(now - self.plays_until)
        seconds = len(outcome) / SAMPLE_RATE
        self.plays_until = max(now, self.plays_until) + seconds
        self.seconds += seconds

    @property
    def waited(self) -> float:
        """Seconds until the first sound."""
        assert self.first_sound is not None
        return self.first_sound - self.asks


class World:
    """Lets listeners come and the engine work until nobody wants anything any more."""

    def __init__(
        self,
        max_wait_s: float | None = None,
        ahead_s: float = 10,
        workers: int = 1,
        max_batch: int = 1,
        **costs: Any,
    ) -> None:
        self.clock = Clock()
        self.voice = CostlyVoice(self.clock, **costs)
        self.registry = CollectorRegistry()
        self.engine = Engine(
            ahead_s=ahead_s,
            post=self._post,
            metrics=TtsMetrics(self.registry),
            workers=workers,
            max_batch=max_batch,
            clock=self.clock,
        )
        self.workers = workers
        self.max_wait_s = max_wait_s
        self.busy = 0.0
        self._calls: list[tuple[float, Turn, list[Samples | Exception | None]]] = []
        """Those that are being made: when each is over, and what it gives."""

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        callback(*args)

    def ask(self, listener: Listener) -> None:
        """Queue its sentences, unless it would wait for too long."""
        listener.foreseen = self.engine.wait(listener.stream, self.voice, sum(map(len, listener.sentences)), 1.0)
        if self.max_wait_s is not None and listener.foreseen > self.max_wait_s:
            listener.refused = listener.foreseen
            return
        for number, text in enumerate(listener.sentences, start=1):
            self.submit(listener, text, last=number == len(listener.sentences))

    def submit(self, listener: Listener, text: str, *, last: bool = True, **manner: Any) -> None:
        """Queue one sentence."""
        self.engine.submit(
            listener.stream,
            Sentence(
                text=text,
                voice=self.voice,
                manner=Manner(**manner),
                owner=listener,
                deliver=lambda outcome: listener.hear(self.clock.now, outcome, last),
                queued=self.clock.now,
            ),
        )

    def turn(self) -> bool:
        """Let the engine make one call; whether it had one to make."""
        if not self._begin_call():
            return False
        self._end_call()
        return True

    def run(self, listeners: list[Listener]) -> None:
        """Everybody asks at the time they ask at, seconds from now."""
        begin = self.clock.now
        for listener in listeners:
            listener.asks += begin
        coming = deque(sorted(listeners, key=lambda each: each.asks))
        while coming or self.engine.depth() or self._calls:
            while coming and coming[0].asks <= self.clock.now:
                self.ask(coming.popleft())
            free = len(self._calls) < self.workers
            if free and self._begin_call():
                continue
            times = [over for over, _, _ in self._calls] + [listener.asks for listener in [*coming][:1]]
            if free and (wakes := self.engine._until_somebody_needs_more()) is not None:
                times.append(self.clock.now + wakes)
            self.clock.now = min(times)
            if any(over <= self.clock.now for over, _, _ in self._calls):
                self._end_call()

    def _begin_call(self) -> bool:
        turn = self.engine._next()
        if turn is None:
            return False
        started = self.clock.now
        self.engine._rendering.update(turn.streams)
        outcomes = self.engine._call(turn)
        self._calls.append((self.clock.now, turn, outcomes))
        self.busy += self.clock.now - started
        self.clock.now = started
        return True

    def _end_call(self) -> None:
        call = min(self._calls, key=lambda each: each[0])
        self._calls.remove(call)
        self.clock.now, turn, outcomes = call
        self.engine._finish(turn, outcomes)
