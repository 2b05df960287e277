"""The client's side of a recognition stream, free of I/O: calls give frames to send, frames received give events.

It checks what the server promises: `ready` first, finals in order, a stable prefix that stays, totals that add
up. The same object serves asyncio, threads and gevent; `chorus.aio` and `chorus.sync` are two drivers of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chorus.errors import ContractViolation, ServerError
from chorus.wire import asr as wire
from chorus.wire.common import Close, Error, Ready, encode

Event = wire.ServerMessage
TOLERANCE_S = 0.001


class AsrProtocol:
    """The state of one recognition stream."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(wire.ServerMessage)
        self._stable: dict[int, str] = {}
        self._started = 0
        self.ready: Ready | None = None
        self.finals: list[wire.Final] = []
        """Of utterances, in order; the empty answers to `finalize` are not among them."""
        self.done: wire.Done | None = None
        self.failure: Error | None = None
        """A fatal error that the server told of."""

    @property
    def commit_point(self) -> float:
        """Seconds up to which everything is final: where a client that reconnects resends its audio from."""
        return self.finals[-1].end_time if self.finals else 0.0

    @property
    def text(self) -> str:
        """Everything that is final so far."""
        return " ".join(final.text for final in self.finals if final.text)

    def configure(self, **settings: Any) -> str:
        """The frame that changes settings."""
        return msgspec.json.encode({"type": "config", **settings}).decode()

    def finalize(self) -> str:
        """The frame that ends the current utterance now."""
        return encode(wire.Finalize())

    def reset(self) -> str:
        """The frame that drops the current utterance."""
        return encode(wire.Reset())

    def close(self) -> str:
        """The frame after which the server delivers the rest, sends `done` and closes."""
        return encode(Close())

    def receive(self, frame: str | bytes) -> Event:
        """The event of a frame. Raises `ContractViolation`, or `ServerError` for a fatal error."""
        if isinstance(frame, bytes):
            raise ContractViolation("a binary frame on a recognition stream")
        try:
            message: wire.ServerMessage = self._decoder.decode(frame)
        except msgspec.MsgspecError as error:
            raise ContractViolation(f"{error}: {frame[:200]}") from None
        if self.ready is None:
            if not isinstance(message, Ready):
                raise ContractViolation(f"{type(message).__name__} before ready")
            self.ready = message
            return message
        self._check(message)
        return message

    def _check(self, message: Event) -> None:
        match message:
            case wire.SpeechStart():
                if message.utterance != self._started + 1:
                    raise ContractViolation(f"utterance {message.utterance} after {self._started}")
                self._started = message.utterance
            case wire.Partial():
                self._check_stable(message.utterance, message.text)
                if not message.text.startswith(message.stable_text):
                    raise ContractViolation(f"{message.stable_text!r} is no prefix of {message.text!r}")
                if not message.stable_text.startswith(self._stable.get(message.utterance, "")):
                    raise ContractViolation(f"the stable text of utterance {message.utterance} shrank")
                self._stable[message.utterance] = message.stable_text
            case wire.Final(utterance=int(number)):
                if self.finals and number <= (self.finals[-1].utterance or 0):
                    raise ContractViolation(f"final {number} after final {self.finals[-1].utterance}")
                if message.end_time < self.commit_point - TOLERANCE_S:
                    raise ContractViolation(f"final {number} ends before the one before it")
                self._check_stable(number, message.text)
                self._stable.pop(number, None)
                self.finals.append(message)
            case wire.Done():
                parts = message.speech_seconds + message.silence_seconds + message.dropped_seconds
                if abs(parts - message.audio_seconds) > TOLERANCE_S:
                    raise ContractViolation(f"{parts} s of parts for {message.audio_seconds} s of audio")
                self.done = message
            case Error(recoverable=False):
                self.failure = message
                raise ServerError(message.code, message.message)

    def _check_stable(self, utterance: int, text: str) -> None:
        promised = self._stable.get(utterance, "")
        if not text.startswith(promised):
            raise ContractViolation(f"utterance {utterance}: {promised!r} was stable, now {text!r}")
