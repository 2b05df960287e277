"""When an utterance begins and ends, told from one speech probability a hop; it knows no clock and no audio."""

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
START_HOPS = 3
"""Hops of speech, of the newest `START_WINDOW`, that open an utterance: a click has fewer."""
START_WINDOW = 6


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


class Endpointer:
    """Feeds on probabilities, says when an utterance starts and ends."""

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

    def feed(self, score: float) -> list[SpeechStarted | SpeechEnded]:
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
        if score >= self._threshold - HYSTERESIS:
            self._last_speech = now
        if now - self._last_speech >= self._silence:
            return [self._end(min(self._last_speech + POST_ROLL, now))]
        if now - self._start >= self._longest:
            return self._cut(now)
        return []

    def reset(self, floor: int) -> None:
        """Forget the open utterance; the next begins at sample `floor` or later."""
        self._start = None
        self._scores.clear()
        self._floor = max(self._floor, floor)

    def _first_speech(self) -> int | None:
        """First sample of an utterance whose first hop of speech is among the scores held."""
        for back, score in zip(range(len(self._scores), 0, -1), self._scores, strict=True):
            if score >= self._threshold:
                return max((self._hops - back) * HOP - PRE_ROLL, self._floor)
        return None

    def _end(self, sample: int) -> SpeechEnded:
        self.reset(sample)
        return SpeechEnded(sample)

    def _cut(self, now: int) -> list[SpeechStarted | SpeechEnded]:
        """End an utterance that has grown too long at the quietest hop of its second half, and open the next."""
        second_half = self._scores[len(self._scores) // 2 :]
        quietest = min(range(len(second_half)), key=second_half.__getitem__)
        rest = second_half[quietest:]
        cut = now - len(rest) * HOP + HOP // 2
        ended = self._end(cut)
        if self._last_speech <= cut:
            return [ended]
        self._start, self._scores = cut, rest
        return [ended, SpeechStarted(cut)]
