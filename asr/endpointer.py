"""When an utterance begins, pauses and ends, told from one speech probability a hop; it knows no clock and no audio."""

from __future__ import annotations

from dataclasses import dataclass

from asr.engine import SAMPLE_RATE
from asr.vad import HOP

PRE_ROLL = SAMPLE_RATE * 416 // 1000
"""Samples before the first hop of speech that belong to the utterance: a soft onset scores low."""
POST_ROLL = SAMPLE_RATE * 352 // 1000
"""Samples after the last hop of speech that belong to the utterance, where the silence is that long."""
HYSTERESIS = 0.15
"""Speech that has begun goes on down to the threshold less this (Silero's own default)."""
LEAST = 0.01
"""A score below this is silence, however low the threshold: else no utterance would end."""
START_HOPS = 3
"""Hops of speech, of the newest `START_WINDOW`, that open an utterance: a click has fewer."""
START_WINDOW = 6
PAUSE = 6 * HOP
"""Samples of silence after which the utterance is told to pause: it may have ended. 192 ms."""


@dataclass(frozen=True)
class SpeechStarted:
    """An utterance has begun."""

    sample: int
    """Its first sample, counted from the stream's start."""


@dataclass(frozen=True)
class SpeechEnded:
    """The open utterance has ended."""

    sample: int
    """The sample after its last."""
    silence: int
    """Samples heard since its newest hop of speech: what it took to tell."""


@dataclass(frozen=True)
class SpeechPaused:
    """In the open utterance it has been silent for `PAUSE`; either speech goes on or the utterance ends."""

    sample: int
    """The sample after its newest hop of speech."""


@dataclass(frozen=True)
class SpeechWentOn:
    """The open utterance has speech again after it was told to pause."""


Event = SpeechStarted | SpeechPaused | SpeechWentOn | SpeechEnded


class Endpointer:
    """Feeds on probabilities, says when an utterance starts, pauses and ends."""

    def __init__(self, *, threshold: float = 0.5, endpointing_ms: int = 500, max_utterance_s: float = 28.0) -> None:
        self._hops = 0
        """Hops heard since the stream's start."""
        self._scores: list[float] = []
        """Of the newest hops while silent; since the utterance's start while it is open."""
        self._start: int | None = None
        """First sample of the open utterance."""
        self._floor = 0
        """No utterance begins before this sample."""
        self._last_speech = 0
        """The sample after the newest hop of speech."""
        self._paused = False
        self._patience: int | None = None
        """Samples of silence that end the utterance in this pause, where that differs from the setting."""
        self.configure(threshold=threshold, endpointing_ms=endpointing_ms, max_utterance_s=max_utterance_s)

    def configure(self, *, threshold: float, endpointing_ms: int, max_utterance_s: float) -> None:
        """Change the settings; best done between two utterances."""
        self._threshold = threshold
        self._silence = endpointing_ms * SAMPLE_RATE // 1000
        self._longest = int(max_utterance_s * SAMPLE_RATE)

    @property
    def candidate(self) -> int | None:
        """Where an utterance would begin with the speech just heard, which is still too short to open one."""
        if self._start is not None:
            return None
        return self._first_speech()

    def be_patient(self, silence: int) -> None:
        """In this pause, so many samples of silence end the utterance, whatever the setting."""
        if self._paused:
            self._patience = silence

    def feed(self, score: float) -> list[Event]:
        """Take the next hop's speech probability."""
        self._hops += 1
        self._scores.append(score)
        now = self._hops * HOP
        if self._start is None:
            del self._scores[:-START_WINDOW]
            if sum(each >= self._threshold for each in self._scores) < START_HOPS:
                return []
            start = self._first_speech()
            assert start is not None
            self._start, self._last_speech = start, now
            return [SpeechStarted(start)]
        events: list[Event] = []
        if score >= max(self._threshold - HYSTERESIS, LEAST):
            self._last_speech = now
            if self._paused:
                self._paused, self._patience = False, None
                events.append(SpeechWentOn())
        silence = now - self._last_speech
        if silence >= (self._silence if self._patience is None else self._patience):
            return [self._end(min(self._last_speech + POST_ROLL, now), silence)]
        if now - self._start >= self._longest:
            return [*events, *self._cut(now)]
        if silence >= PAUSE and not self._paused:
            self._paused = True
            events.append(SpeechPaused(self._last_speech))
        return events

    def reset(self, floor: int) -> None:
        """Forget the open utterance; the next begins at sample `floor` or later."""
        self._start = None
        self._paused, self._patience = False, None
        self._scores.clear()
        self._floor = max(self._floor, floor)

    def _first_speech(self) -> int | None:
        """First sample of an utterance whose first hop of speech is among the scores held."""
        for back, score in zip(range(len(self._scores), 0, -1), self._scores, strict=True):
            if score >= self._threshold:
                return max((self._hops - back) * HOP - PRE_ROLL, self._floor)
        return None

    def _end(self, sample: int, silence: int) -> SpeechEnded:
        self.reset(sample)
        return SpeechEnded(sample, silence)

    def _cut(self, now: int) -> list[Event]:
        """End an utterance that has grown too long at the quietest hop of its second half, and open the next."""
        second_half = self._scores[len(self._scores) // 2 :]
        quietest = min(range(len(second_half)), key=second_half.__getitem__)
        rest = second_half[quietest:]
        cut = now - len(rest) * HOP + HOP // 2
        ended = self._end(cut, max(0, now - self._last_speech))
        if self._last_speech <= cut:
            return [ended]
        self._start, self._scores = cut, rest
        return [ended, SpeechStarted(cut)]
