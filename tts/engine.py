"""Who is rendered next: each worker makes one call of the model, for the listener who runs out of audio first.

A stream is one listener: its sentences are rendered and heard one after another. The engine keeps account of
when each listener will have played everything made so far, as if playback began with the first chunk; that
moment is the stream's deadline. A stream that has audio enough ahead is left alone until it has less.

Who hears nothing yet waits for a first sound, in the order of asking. It is made as soon as everybody who listens, and
the newcomer too, can then go on without a gap, by what work has cost so far (`tts/pace.py`, `tts/outlook.py`). Chunks
are as large as that leaves time for, since large ones are cheaper (`tts/chunks.py`).
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from serving.audio import Samples
from serving.worker import Worker
from tts.chunks import FIRST_FRAMES, JOIN_FRAMES, LARGEST_FRAMES, chunk, steady_size, without_crumbs
from tts.metrics import TtsMetrics
from tts.outlook import NEXT_FRAMES, SPARE_S, Job, Jobs, Piece, gather, jobs, lateness, later, together
from tts.pace import Pace
from tts.timeline import SpokenWord, Timeline
from tts.voice import Manner, Utterance

log = logging.getLogger(__name__)

MOST_SENTENCES = 4
"""Sentences of one stream that may wait in the engine; the rest of its text waits with the session."""
LONGEST_CALL_S = 0.12
"""No chunk is to take longer for each of the workers: nothing can interrupt it, and who comes waits for one of them."""
HASTE_GAIN = 1.5
"""How many times as long a call takes that is not made in haste, about: 1.4 to 1.6 on two cores."""
FIRST_SIZES = (FIRST_FRAMES, 2 * FIRST_FRAMES, 4 * FIRST_FRAMES)
"""Frames of a first chunk; the more listeners wait for theirs, the longer each must last."""
LONELY_SIZES = (12, *FIRST_SIZES)
"""The same where nobody else listens or waits: 12 are 0.14 s, of which the next chunk mostly takes a quarter."""
HASTY_SIZES = (8, *LONELY_SIZES)
"""The same in haste, where no other worker needs the cores."""
LATER_SIZES = (LARGEST_FRAMES, 192, NEXT_FRAMES)
"""Frames of a later one; the largest for which everybody has time."""
MOST_SHARE = 0.95
"""Of the machine, for texts of which the end is not in sight: they would never leave the time to catch up."""
IN_NEED_SIZES = (NEXT_FRAMES, 2 * FIRST_FRAMES, FIRST_FRAMES)
"""Frames for a listener who could run dry before a larger chunk is there, as after a first chunk."""
MAY_TAKE = 2.0
"""How many times as long as expected a chunk may take without a gap, if that can be had."""
SENTENCE_CHARACTERS = 120
"""Of a text whose first sound is foreseen: where its first sentence ends is not known yet."""
OUTLOOK_KEPT_S = 0.5
"""What is to be made for a listener is looked at anew so often, though nothing has changed but the time."""
TOLERANCE_S = 0.001
BISECTIONS = 8
"""Of what everything that is known would take, to find when a first sound can be made."""


class Speaker(Protocol):
    """What the engine needs of a voice; `tts.voice` is the real one."""

    sample_rate: int
    """Hz."""

    @property
    def times_words(self) -> bool:
        """Whether it tells how long each phoneme lasts."""

    def phonemize(self, text: str) -> list[list[int]]:
        """Phoneme ids of each part of the text that is spoken in one breath."""

    def timeline(self, text: str) -> Timeline:
        """When the words of a text are heard, given the lengths and the audio of what `phonemize` gives for it."""

    def begin(self, ids: list[int], manner: Manner, *, hasty: bool) -> Utterance:
        """How long they last: one call of the model, with every core where it is made in haste."""

    def go_on(self, utterances: list[Utterance], frames: int, *, hasty: bool) -> list[Samples]:
        """The next frames of each, which must be alike in what is seen before and after: one call of the model."""


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
    timeline: Timeline | None = None
    """Where words are to be delivered, from the first call on."""
    words: list[SpokenWord] = field(default_factory=list)
    """Those to be delivered ahead of the chunk rendered last."""
    runs: deque[list[int]] | None = None
    """Phoneme ids that have not been begun; None before the first call."""
    characters: float = 0.0
    """Of a run, about."""
    utterance: Utterance | None = None
    """The run that is being rendered."""
    cancelled: bool = False

    @property
    def left(self) -> int:
        """Frames that are known and not rendered."""
        return self.utterance.left if self.utterance is not None else 0

    @property
    def unbegun(self) -> float:
        """Characters, about, of which it is not known yet how long they last."""
        return max(1, len(self.text)) if self.runs is None else self.characters * len(self.runs)

    @property
    def steady(self) -> bool:
        """Whether the client wants the same bytes every time: then nothing may depend on who else is served."""
        return self.manner.noise_scale == 0 and self.manner.noise_w_scale == 0


@dataclass(frozen=True)
class Outlook:
    """What is still to be made for a stream, as it was seen."""

    seen: float
    """Monotonic second."""
    first_cost: float
    """Seconds of computing until the next sound; 0 where there is none to come."""
    share: float
    """Of a core, that it needs for a text of which the end is not in sight; else 0."""
    jobs: Jobs
    """Of a silent stream they are due in seconds after its first sound."""


class ListenerStream:
    """One stream's sentences in the engine, and how far its listener's playback reaches."""

    def __init__(self) -> None:
        self.sentences: deque[Sentence] = deque()
        self.plays_until = 0.0
        """Monotonic second at which everything rendered so far has been played."""
        self.outlook: Outlook | None = None
        """None once anything that it depends on has changed."""
        self.first_sound = 0.0
        """When one was foreseen for what was asked for last in silence, monotonic."""
        self.speaks: object = None
        """Owner of what was rendered last."""
        self.spoken = 0.0
        """Seconds of audio rendered for that one."""

    @property
    def silent(self) -> bool:
        """Whether what is next is a first sound: the listener had nothing to play when it was asked for."""
        return self.plays_until <= self.sentences[0].queued


@dataclass(frozen=True)
class Turn:
    """One call of the model."""

    streams: list[ListenerStream]
    """One, or several whose next chunks are alike."""
    sentences: list[Sentence]
    """The first of each."""
    frames: int = 0
    """Of each; 0 for the front of the first one's next run."""
    hasty: bool = False
    """Whether it is made with every core: nobody else needs one."""


class Engine(Worker):
    """Renders the sentences of all streams."""

    def __init__(
        self,
        *,
        ahead_s: float,
        post: Callable[..., Any],
        metrics: TtsMetrics,
        workers: int = 1,
        max_batch: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`post(callback, *args)` runs a callback on the event loop.

        So many `workers` make calls at the same time, each with up to `max_batch` chunks.
        """
        super().__init__("tts engine", workers)
        self._workers = workers
        self._ahead_s = ahead_s
        self._post = post
        self._metrics = metrics
        self._max_batch = max_batch
        self._clock = clock
        self._waiting: dict[ListenerStream, None] = {}
        self._rendering: set[ListenerStream] = set()
        """Those of which a call is being made."""
        self._paces: WeakKeyDictionary[Speaker, Pace] = WeakKeyDictionary()

    def submit(self, stream: ListenerStream, sentence: Sentence) -> None:
        """Queue a sentence behind those of the same stream."""
        with self._changed:
            stream.sentences.append(sentence)
            stream.outlook = None
            self._waiting[stream] = None
            self._changed.notify()

    def cancel(self, stream: ListenerStream, owner: object) -> None:
        """Drop what waits of a request; a chunk being rendered is thrown away.

        The listener drops what was not played yet, and so is as near to silence as if it had never been made: what is
        asked for next is as urgent as a first sound.
        """
        with self._changed:
            for sentence in stream.sentences:
                sentence.cancelled = sentence.cancelled or sentence.owner is owner
            stream.sentences = deque(each for each in stream.sentences if not each.cancelled)
            if stream.speaks is owner:
                played = min(stream.plays_until, self._clock())
                stream.plays_until = max(stream.plays_until - stream.spoken, played)
                stream.speaks, stream.spoken = None, 0.0
            stream.outlook = None
            if not stream.sentences:
                self._waiting.pop(stream, None)
            self._changed.notify()

    def pause(self, stream: ListenerStream, owner: object, seconds: float) -> None:
        """What was rendered last of a request is heard so much later: there is silence before it."""
        with self._changed:
            if stream.speaks is owner:
                stream.plays_until += seconds
                stream.spoken += seconds
                stream.outlook = None

    def forget(self, stream: ListenerStream) -> None:
        """Drop everything of a stream that has ended."""
        with self._changed:
            for sentence in stream.sentences:
                sentence.cancelled = True
            stream.sentences.clear()
            self._waiting.pop(stream, None)
            self._changed.notify()

    def depth(self) -> int:
        """Sentences that wait or are being rendered."""
        with self._changed:
            return sum(len(stream.sentences) for stream in self._waiting)

    def wait(self, stream: ListenerStream, voice: Speaker, characters: int, speed: float) -> float:
        """Seconds, as foreseen, by which a text asked for now would come later than its listener is ready for it."""
        with self._changed:
            if not self._waiting:
                return 0.0  # it takes what it takes; to come later would not help
            now = self._clock()
            first = min(characters, SENTENCE_CHARACTERS)
            newcomer = [self._expected(voice, each, speed) for each in (first, characters - first) if each]
            if not newcomer:
                return 0.0
            if stream.plays_until > now:
                ready = stream.plays_until + sum(piece.seconds for piece in self._pieces(stream))
                due, cost = together(self._known_jobs(now))
                before = float(cost[due <= ready].sum())
                return max(0.0, now + before / self._workers + newcomer[0].first_cost() - ready)
            if stream.sentences:
                return 0.0  # it was accepted to wait for what is asked for already; this only follows it
            span = self._first_sound_after(newcomer, now)
            stream.first_sound = now + span
            return span

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (turn := self._next()) and not self._stopping:
                    self._changed.wait(self._until_somebody_needs_more())
                if self._stopping or turn is None:
                    return
                self._rendering.update(turn.streams)
            self._finish(turn, self._call(turn))

    # Whose turn it is; the lock is held

    def _next(self) -> Turn | None:
        """The next call of the model; None while everybody has enough."""
        now = self._clock()
        listening = [stream for stream in self._waiting if not stream.silent and stream not in self._rendering]
        listening.sort(key=lambda stream: stream.plays_until)
        ahead = [stream for stream in listening if stream.plays_until < now + self._ahead_s]
        waiting = self._waiting_for_first_sound()
        if waiting and (size := self._first_size(waiting, now, alone=not listening)):
            return self._turn(waiting, size)
        if ahead:
            return self._turn(ahead, self._later_size(ahead[0], now))
        return None

    def _waiting_for_first_sound(self) -> list[ListenerStream]:
        """Who waits for one that nobody works on yet, by who asked first."""
        waiting = [stream for stream in self._waiting if stream.silent and stream not in self._rendering]
        return sorted(waiting, key=lambda stream: stream.sentences[0].queued)

    def _known_jobs(self, now: float, *, without: ListenerStream | None = None) -> list[Jobs]:
        """What is to be made for those who listen, or are about to."""
        known: list[Jobs] = []
        for stream in self._waiting:
            if stream is without:
                continue
            if not stream.silent:
                known.append(self._outlook(stream, now).jobs)
            elif stream in self._rendering:
                outlook = self._outlook(stream, now)
                known.append(later(outlook.jobs, now + outlook.first_cost))
        return known

    def _turn(self, by_urgency: list[ListenerStream], size: int) -> Turn:
        """The next call for the first of them, with others whose next chunk is alike where batches are wanted."""
        first = by_urgency[0]
        utterance, hasty = first.sentences[0].utterance, self._hasty(first)
        if utterance is None or not utterance.left:
            return Turn([first], [first.sentences[0]], hasty=hasty)
        if not utterance.divisible:
            frames = utterance.left
        elif first.sentences[0].steady:
            frames = steady_size(utterance.done, utterance.left)
        else:
            frames = without_crumbs(size, utterance.left)
        shape = _shape(first, frames)
        alike = [each for each in by_urgency if _shape(each, frames) == shape][: self._max_batch]
        return Turn(alike, [each.sentences[0] for each in alike], frames, hasty)

    def _hasty(self, stream: ListenerStream) -> bool:
        """Whether its listener is the only one, and needs something at once.

        Else a core stays for what brings the sound there: the network, and whoever plays it.
        """
        if self._workers == 1 or len(self._waiting) > 1:
            return False  # one worker has every core anyhow
        if stream.sentences[0].steady:
            return False  # more threads add up in another order: as good, but not the same bytes
        if stream.silent:
            return True
        until_dry = stream.plays_until - self._clock()
        return until_dry < MAY_TAKE * self._pieces(stream)[0].first_cost() + SPARE_S

    def _first_size(self, waiting: list[ListenerStream], now: float, *, alone: bool) -> int | None:
        """Frames with which the first who waits can begin, so that it and everybody who listens goes on without a gap.

        So many that they sound until the others who wait have had their turn, and another chunk as large is there even
        if it takes longer than expected, where there is time for that. None: later.
        """
        pieces = self._pieces(waiting[0])
        frame_s = pieces[0].pace.frame_s.value
        hasty = self._hasty(waiting[0])
        sizes = HASTY_SIZES if hasty else LONELY_SIZES if alone and len(waiting) == 1 else FIRST_SIZES
        gain = HASTE_GAIN if hasty else 1.0
        others = sum(self._outlook(each, now).first_cost for each in waiting[1:]) / self._workers
        must_last = ((size, max(others, MAY_TAKE * _next_cost(pieces[0], size) / gain)) for size in sizes)
        enough = next((size for size, seconds in must_last if size * frame_s >= seconds + SPARE_S), sizes[-1])
        if alone:
            return enough
        listening = (stream for stream in self._waiting if not stream.silent or stream in self._rendering)
        if sum(self._outlook(each, now).share for each in (waiting[0], *listening)) > MOST_SHARE * self._workers:
            return None
        known = together(self._known_jobs(now))
        for size in sorted((each for each in FIRST_SIZES if each <= enough), reverse=True):
            own = gather(_jobs_from_first_sound(pieces, now, now + pieces[0].first_cost(size), size))
            unavoidable = max(0.0, lateness(own, now, self._workers))  # a short sentence before a long one
            if lateness(together((own, known)), now, self._workers) <= unavoidable:
                return size
        return None

    def _later_size(self, stream: ListenerStream, now: float) -> int:
        """The most frames for which there is time until this listener, or another one, runs out of audio."""
        pieces = self._pieces(stream)
        affordable = int(LONGEST_CALL_S * self._workers / pieces[0].pace.chunk_s.value) - JOIN_FRAMES
        most = max(LATER_SIZES[-1], min(affordable, LATER_SIZES[0]))
        if self._max_batch == 1:  # in equal parts; batches need chunks of equal sizes instead
            left = pieces[0].frames - pieces[0].done
            most = math.ceil(left / math.ceil(left / most))
        known, until_dry = together(self._known_jobs(now, without=stream)), stream.plays_until - now
        for size in (most, *(each for each in LATER_SIZES if each < most)):
            if MAY_TAKE * pieces[0].first_cost(size) > until_dry:
                continue
            own = gather(jobs(pieces, now, stream.plays_until, size))
            if lateness(together((own, known)), now, self._workers) <= 0:
                return size
        for reserve in (MAY_TAKE, 1.0):
            for size in IN_NEED_SIZES:
                if reserve * pieces[0].first_cost(size) <= until_dry:
                    return size
        return NEXT_FRAMES

    def _until_somebody_needs_more(self) -> float | None:
        """Seconds; None where nothing but a change can give work, as to who waits for the time of those who listen."""
        idle = [stream.plays_until for stream in self._waiting if not stream.silent and stream not in self._rendering]
        return max(0.001, min(idle) - self._ahead_s - self._clock()) if idle else None

    # What is to be expected

    def _pace(self, voice: Speaker) -> Pace:
        return self._paces.setdefault(voice, Pace())

    def _outlook(self, stream: ListenerStream, now: float) -> Outlook:
        """What is to be made for a stream."""
        known = stream.outlook
        if known is None or known.seen + OUTLOOK_KEPT_S < now:
            pieces = self._pieces(stream)
            share = 0.0
            if len(stream.sentences) >= MOST_SENTENCES:
                share = sum(piece.full_cost for piece in pieces) / sum(piece.seconds for piece in pieces)
            if stream.silent:
                to_do = gather(_jobs_from_first_sound(pieces, 0.0, 0.0)) if pieces else together(())
            else:
                to_do = gather(jobs(pieces, now, stream.plays_until))
            first_cost = pieces[0].first_cost() if pieces else 0.0
            known = stream.outlook = Outlook(now, first_cost, share, to_do)
        return known

    def _pieces(self, stream: ListenerStream) -> list[Piece]:
        """What is left of a stream's sentences."""
        pieces = []
        for sentence in stream.sentences:
            if sentence.utterance is not None and sentence.utterance.left:
                utterance = sentence.utterance
                pieces.append(Piece(self._pace(sentence.voice), 0, utterance.frames, utterance.done))
            if sentence.unbegun:
                pieces.append(self._expected(sentence.voice, sentence.unbegun, sentence.manner.speed))
        return pieces

    def _expected(self, voice: Speaker, characters: float, speed: float) -> Piece:
        pace = self._pace(voice)
        return Piece(pace, characters, max(1, round(characters * pace.frames.value / speed)))

    def _first_sound_after(self, newcomer: list[Piece], now: float) -> float:
        """Seconds until a newcomer's can be made: the least with which nobody who came before is later than without.

        Those who wait have theirs when it was foreseen, or as soon as can be.
        """
        parts, before = self._known_jobs(now), now
        for stream in self._waiting_for_first_sound():
            outlook = self._outlook(stream, now)
            before = max(stream.first_sound, before + outlook.first_cost / self._workers)
            parts.append(later(outlook.jobs, before))
        known = together(parts)
        unavoidable = max(0.0, lateness(known, now, self._workers))

        def enough(span: float) -> bool:
            own = gather(_jobs_from_first_sound(newcomer, now, now + span))
            return lateness(together((known, own)), now, self._workers) <= unavoidable + TOLERANCE_S

        first = newcomer[0].first_cost()
        least = max(first, before - now + first / self._workers)
        if enough(least):
            return least
        most = least + float(known[1].sum()) / self._workers
        for _ in range(BISECTIONS):
            middle = (least + most) / 2
            least, most = (least, middle) if enough(middle) else (middle, most)
        return most

    # Rendering

    def _call(self, turn: Turn) -> list[Samples | Exception | None]:
        """What the model gives for each sentence: audio, or nothing yet after its front."""
        with self._busy():
            try:
                if turn.frames:
                    return [*self._render(turn)]
                self._begin(turn.sentences[0], hasty=turn.hasty)
                return [None]
            except Exception as error:
                log.exception("a sentence could not be rendered")
                return [error] * len(turn.sentences)

    def _finish(self, turn: Turn, outcomes: list[Samples | Exception | None]) -> None:
        """Hand over what a call gave."""
        with self._changed:
            self._rendering.difference_update(turn.streams)
            for stream in turn.streams:
                stream.outlook = None
            for stream, sentence, outcome in zip(turn.streams, turn.sentences, outcomes, strict=True):
                if not sentence.cancelled:
                    self._hand_over(stream, sentence, outcome)
            self._changed.notify_all()

    def _begin(self, sentence: Sentence, *, hasty: bool) -> None:
        """Run the front of a sentence, or of its next run."""
        started = self._clock()
        if sentence.runs is None:
            self._metrics.queue_wait.observe(started - sentence.queued)
            runs = deque(sentence.voice.phonemize(sentence.text))
            if sentence.deliver_words is not None:
                sentence.timeline = sentence.voice.timeline(sentence.text)
            sentence.characters = len(sentence.text) / max(1, len(runs))
            sentence.runs = runs
        if sentence.runs:
            sentence.utterance = sentence.voice.begin(sentence.runs.popleft(), sentence.manner, hasty=hasty)
            if sentence.timeline is not None and sentence.utterance.lengths is not None:
                sentence.timeline.expect(sentence.utterance.lengths)
            spent, pace = self._clock() - started, self._pace(sentence.voice)
            pace.learn_front(spent * (HASTE_GAIN if hasty else 1), sentence.characters)
            pace.frames.learn(sentence.utterance.frames * sentence.manner.speed, sentence.characters)
            self._metrics.front.observe(spent)

    def _render(self, turn: Turn) -> list[Samples]:
        """Run what follows the front for a chunk of each sentence, and look in it for words."""
        started, first = self._clock(), turn.sentences[0]
        utterances = [cast(Utterance, sentence.utterance) for sentence in turn.sentences]
        work = chunk(utterances[0].done, turn.frames, utterances[0].frames).work
        rendered = first.voice.go_on(utterances, turn.frames, hasty=turn.hasty)
        spent, seconds = self._clock() - started, sum(map(len, rendered)) / first.voice.sample_rate
        pace = self._pace(first.voice)
        pace.chunk_s.learn(spent * (HASTE_GAIN if turn.hasty else 1), work * len(rendered))
        pace.frame_s.learn(seconds, turn.frames * len(rendered))
        self._metrics.rendered_batch(spent, seconds, len(rendered))
        for sentence, samples in zip(turn.sentences, rendered, strict=True):
            if sentence.timeline is not None:
                sentence.words = sentence.timeline.hear(samples)
        return rendered

    def _hand_over(self, stream: ListenerStream, sentence: Sentence, outcome: Samples | Exception | None) -> None:
        if isinstance(outcome, Exception):
            self._end(stream, sentence, outcome)
            return
        if outcome is not None:
            self._account(stream, sentence, len(outcome) / sentence.voice.sample_rate)
            if sentence.words:
                self._post(sentence.deliver_words, sentence.words)
            self._post(sentence.deliver, outcome)
        if not sentence.left and not sentence.unbegun:
            self._end(stream, sentence, None)

    def _end(self, stream: ListenerStream, sentence: Sentence, error: Exception | None) -> None:
        stream.sentences.popleft()
        if not stream.sentences:
            self._waiting.pop(stream, None)
        self._post(sentence.deliver, error)

    def _account(self, stream: ListenerStream, sentence: Sentence, seconds: float) -> None:
        now = self._clock()
        if not stream.silent:
            self._metrics.had_left(stream.plays_until - now)
        stream.plays_until = max(stream.plays_until, now) + seconds
        if stream.speaks is not sentence.owner:
            stream.speaks, stream.spoken = sentence.owner, 0.0
        stream.spoken += seconds


def _shape(stream: ListenerStream, frames: int) -> tuple[object, ...] | None:
    """What must be equal for chunks to go into one call; None where there is none to go."""
    utterance = stream.sentences[0].utterance
    if utterance is None or utterance.left < frames or not utterance.divisible:
        return None
    part = chunk(utterance.done, frames, utterance.frames)
    return stream.sentences[0].voice, part.before, part.after


def _next_cost(piece: Piece, size: int) -> float:
    """Seconds of computing for another chunk as large as the one of so many frames that is to be made first."""
    return piece.cost(piece.done + size, max(size, FIRST_FRAMES))


def _jobs_from_first_sound(pieces: list[Piece], now: float, first_sound: float, size: int = FIRST_FRAMES) -> list[Job]:
    """What is to be made for who is to hear a first sound, of so many frames, then."""
    rest = list(jobs(pieces, now, first_sound, size))[1:]
    return [(first_sound, pieces[0].first_cost(size)), *rest]
