"""Who is rendered next: one chunk at a time, for the listener who runs out of audio first.

A stream is one listener: its sentences are rendered and heard one after another. The engine keeps account of
when each listener will have played everything made so far, as if playback began with the first chunk; that
moment is the stream's deadline. A stream that has audio enough ahead is left alone until it has less.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving.audio import Samples
from serving.worker import Worker
from tts.metrics import TtsMetrics
from tts.timeline import OnLengths, SpokenWord, Timeline
from tts.voice import Manner

log = logging.getLogger(__name__)

MOST_SENTENCES = 4
"""Sentences of one stream that may wait in the engine; the rest of its text waits with the session."""


class Speaker(Protocol):
    """What the engine needs of a voice; `tts.voice` is the real one."""

    sample_rate: int
    """Hz."""

    def phonemize(self, text: str) -> list[list[int]]:
        """Phoneme ids of each part of the text that is spoken in one breath."""

    def timeline(self, text: str) -> Timeline:
        """When the words of a text are heard, given the lengths and the audio of what `phonemize` gives for it."""

    def render(self, ids: list[int], manner: Manner, on_lengths: OnLengths | None = None) -> Iterator[Samples]:
        """Audio, chunk by chunk; each `next` is one call of the model. `on_lengths` is called before the first."""


@dataclass(eq=False)
class Sentence:
    """What is rendered, and who gets it."""

    text: str
    voice: Speaker
    manner: Manner
    owner: object
    """The request; by it sentences are cancelled."""
    deliver: Callable[[Samples | Exception | None], None]
    """Called on the event loop with each chunk, then with None at the end; an exception ends it too."""
    queued: float = field(default_factory=time.monotonic)
    deliver_words: Callable[[list[SpokenWord]], None] | None = None
    """Called on the event loop with the words that begin in the next chunk, and what follows them in one breath."""
    chunks: Iterator[Samples] | None = None
    cancelled: bool = False


class ListenerStream:
    """One stream's sentences in the engine, and how far its listener's playback reaches."""

    def __init__(self) -> None:
        self.sentences: deque[Sentence] = deque()
        self.plays_until = 0.0
        """Monotonic second at which everything rendered so far has been played."""

    def deadline(self) -> float:
        """When the listener needs the next chunk: at once for the first, later while there is audio to play."""
        return max(self.plays_until, self.sentences[0].queued)


class Engine(Worker):
    """Renders the sentences of all streams on one thread."""

    def __init__(
        self,
        *,
        ahead_s: float,
        post: Callable[..., Any],
        metrics: TtsMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`post(callback, *args)` runs a callback on the event loop."""
        super().__init__("tts engine")
        self._ahead_s = ahead_s
        self._post = post
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[ListenerStream, None] = {}

    def submit(self, stream: ListenerStream, sentence: Sentence) -> None:
        """Queue a sentence behind those of the same stream."""
        with self._changed:
            stream.sentences.append(sentence)
            self._waiting[stream] = None
            self._changed.notify()

    def cancel(self, stream: ListenerStream, owner: object, seconds: float = 0.0) -> None:
        """Drop what waits of a request; a chunk being rendered is thrown away.

        `seconds` of its audio were rendered. The listener drops what was not played yet, and so is as near to
        silence as if it had never been made: what is asked for next is as urgent as a first sound.
        """
        with self._changed:
            for sentence in stream.sentences:
                sentence.cancelled = sentence.cancelled or sentence.owner is owner
            stream.sentences = deque(each for each in stream.sentences if not each.cancelled)
            played = min(stream.plays_until, self._clock())
            stream.plays_until = max(stream.plays_until - seconds, played)
            if not stream.sentences:
                self._waiting.pop(stream, None)

    def forget(self, stream: ListenerStream) -> None:
        """Drop everything of a stream that has ended."""
        with self._changed:
            for sentence in stream.sentences:
                sentence.cancelled = True
            stream.sentences.clear()
            self._waiting.pop(stream, None)

    def depth(self) -> int:
        """Sentences that wait or are being rendered."""
        with self._changed:
            return sum(len(stream.sentences) for stream in self._waiting)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (turn := self._next()) and not self._stopping:
                    self._changed.wait(self._until_somebody_needs_more())
                if self._stopping or turn is None:
                    return
            self._render_chunk(*turn)

    def _next(self) -> tuple[ListenerStream, Sentence] | None:
        """The stream with the earliest deadline that has not enough ahead, and its sentence; the lock is held."""
        horizon = self._clock() + self._ahead_s
        waiting = [stream for stream in self._waiting if stream.plays_until < horizon]
        if not waiting:
            return None
        first = min(waiting, key=ListenerStream.deadline)
        return first, first.sentences[0]

    def _until_somebody_needs_more(self) -> float | None:
        if not self._waiting:
            return None
        soonest = min(stream.plays_until for stream in self._waiting)
        return max(0.001, soonest - self._ahead_s - self._clock())

    def _render_chunk(self, stream: ListenerStream, sentence: Sentence) -> None:
        outcome: Samples | Exception | None
        with self._busy() as started:
            try:
                if sentence.chunks is None:
                    self._metrics.queue_wait.observe(started - sentence.queued)
                    sentence.chunks = self._chunks(sentence)
                outcome = next(sentence.chunks, None)
            except Exception as error:
                log.exception("a sentence could not be rendered")
                outcome = error
        self._metrics.chunk.observe(time.monotonic() - started)
        with self._changed:
            if sentence.cancelled:
                return
            if outcome is None or isinstance(outcome, Exception):
                stream.sentences.popleft()
                if not stream.sentences:
                    self._waiting.pop(stream, None)
            else:
                self._account(stream, sentence, len(outcome) / sentence.voice.sample_rate)
            self._post(sentence.deliver, outcome)

    def _account(self, stream: ListenerStream, sentence: Sentence, seconds: float) -> None:
        now = self._clock()
        if stream.plays_until > sentence.queued:  # else it was silent before it asked, and waits for a first sound
            self._metrics.slack.observe(stream.plays_until - now)
        self._metrics.rendered.inc(seconds)
        stream.plays_until = max(stream.plays_until, now) + seconds

    def _chunks(self, sentence: Sentence) -> Iterator[Samples]:
        voice, deliver_words = sentence.voice, sentence.deliver_words
        timeline = None if deliver_words is None else voice.timeline(sentence.text)
        for ids in voice.phonemize(sentence.text):
            for chunk in voice.render(ids, sentence.manner, timeline.expect if timeline else None):
                if timeline and (words := timeline.hear(chunk)):
                    self._post(deliver_words, words)
                yield chunk
