"""A recognition server reduced to its contract, without I/O: it hears numbered words in bytes.

A hop is `HOP` bytes of one value: 0 is silence, any other a word. An utterance runs from its first word to
`END_HOPS` hops of silence; finals wait until the test lets the server think.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chorus.wire import asr as wire
from chorus.wire.common import Configured, Error, Ready, encode
from chorus.wire.settings import as_dict

HOP = 80
"""Bytes; 10 ms of G.711."""
END_HOPS = 5
PRE_HOPS, POST_HOPS = 3, 2
RATE = 8000


def hops(words: Iterable[int]) -> bytes:
    """The audio of words."""
    return b"".join(bytes([word]) * HOP for word in words)


def of_words(words: Iterable[int]) -> str:
    """The text of words."""
    return " ".join(f"w{word}" for word in words)


@dataclass
class _Utterance:
    number: int
    start: int
    """Hops since the stream's first, as all positions here."""
    language: str
    words: list[int] = field(default_factory=list)
    last: int = 0
    """After its newest word."""
    end: int = 0
    from_finalize: bool = False


class ModelledServer:
    """One connection."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` may be a query string's."""
        self.settings = as_dict(msgspec.convert(dict(settings), wire.Settings, strict=False))
        self.outbox: deque[str] = deque()
        """What is on its way to the client."""
        self.audio = bytearray()
        self._heard = 0
        self._open: _Utterance | None = None
        self._due: list[_Utterance | int] = []
        """Utterances that have ended, and where each `finalize` without speech was asked."""
        self._count = self._speech = self._dropped = self._committed = 0
        self._closing = self._done = False
        self.send(Ready(connection_id="c", instance="i", service="asr", model="m", settings=self.settings))

    def send(self, message: msgspec.Struct) -> None:
        """Put a message on its way."""
        self.outbox.append(encode(message))

    def receive(self, frame: str | bytes) -> None:
        """Take a frame."""
        if isinstance(frame, bytes):
            self.audio += frame
            while len(self.audio) >= (self._heard + 1) * HOP:
                self._hear(self.audio[self._heard * HOP])
            return
        message = msgspec.json.decode(frame)
        match message.pop("type"):
            case "config":
                self._configure(message)
            case "finalize":
                if self._open is None:
                    self._due.append(self._heard)
                else:
                    self._end(self._heard, from_finalize=True)
            case "reset":
                self._reset()
            case "close":
                self._closing = True
                if self._open is not None:
                    self._end(self._heard)

    def think(self) -> None:
        """Send the finals that are due, and `done` where nothing else is to come."""
        for due in self._due:
            self.send(self._empty_final(due) if isinstance(due, int) else self._final(due))
        self._due.clear()
        if self._closing and not self._done:
            self._done = True
            seconds = [each * HOP / RATE for each in (self._heard, self._speech, self._dropped)]
            self.send(
                wire.Done(
                    audio_seconds=seconds[0],
                    speech_seconds=seconds[1],
                    silence_seconds=seconds[0] - seconds[1] - seconds[2],
                    dropped_seconds=seconds[2],
                    utterances=self._count,
                )
            )

    def _configure(self, changes: dict[str, Any]) -> None:
        if changes.get("language") == "nonsense":
            self.send(Error(code="bad_config", message="language: unknown", recoverable=True))
            return
        self.settings = self.settings | changes
        self.send(Configured(settings=self.settings))

    def _hear(self, word: int) -> None:
        self._heard += 1
        if word and self._open is None:
            self._count += 1
            start = max(self._heard - 1 - PRE_HOPS, self._committed)
            self._open = _Utterance(self._count, start, self.settings["language"] or "en")
            self.send(wire.SpeechStart(utterance=self._count, time=self._time(start)))
        utterance = self._open
        if utterance is None:
            return
        if word:
            utterance.words.append(word)
            utterance.last = self._heard
            start, end = self._time(utterance.start), self._time(self._heard)
            text = of_words(utterance.words)
            partial = wire.Partial(
                utterance=utterance.number, text=text, stable_text=text, start_time=start, end_time=end
            )
            self.send(partial)
        elif self._heard - utterance.last >= END_HOPS:
            self._end(utterance.last + POST_HOPS)

    def _end(self, end: int, *, from_finalize: bool = False) -> None:
        utterance, self._open = self._open, None
        assert utterance is not None
        utterance.end, utterance.from_finalize = end, from_finalize
        self._committed = end
        self._speech += end - utterance.start
        self._due.append(utterance)
        self.send(wire.SpeechEnd(utterance=utterance.number, time=self._time(end)))

    def _reset(self) -> None:
        utterance, self._open = self._open, None
        dropped = 0 if utterance is None else self._heard - utterance.start
        self._dropped += dropped
        self._committed = self._committed if utterance is None else self._heard
        number = None if utterance is None else utterance.number
        self.send(wire.ResetDone(utterance=number, dropped_seconds=dropped * HOP / RATE))

    def _final(self, utterance: _Utterance) -> wire.Final:
        return wire.Final(
            utterance=utterance.number,
            text=of_words(utterance.words),
            start_time=self._time(utterance.start),
            end_time=self._time(utterance.end),
            confidence=0.9,
            language=utterance.language,
            latency_ms=5,
            from_finalize=utterance.from_finalize,
        )

    def _empty_final(self, hop: int) -> wire.Final:
        return wire.Final(
            utterance=None,
            text="",
            start_time=self._time(hop),
            end_time=self._time(hop),
            confidence=0.0,
            language="",
            latency_ms=5,
            from_finalize=True,
        )

    def _time(self, hop: int) -> float:
        return round(hop * HOP / RATE + float(self.settings["start_offset_s"]), 4)
