"""The client's side of a synthesis stream, free of I/O: calls give frames to send, frames received give events.

It checks what the server promises: `ready` first, audio only within a sentence, as many seconds as announced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from chorus.errors import ContractViolation, ServerError
from chorus.wire import tts as wire
from chorus.wire.common import Close, Error, Ready, encode

BYTES_PER_SAMPLE = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
TOLERANCE_S = 0.001


@dataclass(frozen=True)
class Audio:
    """A binary frame, and what it belongs to."""

    request_id: str
    sentence: int
    data: bytes
    sample_rate: int
    """Hz."""
    encoding: str


Event = wire.ServerMessage | Audio


class TtsProtocol:
    """The state of one synthesis stream."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(wire.ServerMessage)
        self._sentence: wire.AudioStart | None = None
        self._sentence_bytes = 0
        self._ended: set[str] = set()
        self.ready: Ready | None = None
        self.done: wire.Done | None = None
        self.failure: Error | None = None
        """A fatal error that the server told of."""

    def configure(self, **settings: Any) -> str:
        """The frame that changes settings."""
        return msgspec.json.encode({"type": "config", **settings}).decode()

    def synthesize(self, text: str, request_id: str | None = None, **settings: Any) -> str:
        """The frame that asks for a whole text."""
        message: dict[str, Any] = {"type": "synthesize", "text": text, **settings}
        if request_id is not None:
            message["request_id"] = request_id
            self._ended.discard(request_id)
        return msgspec.json.encode(message).decode()

    def append(self, text: str, request_id: str | None = None) -> str:
        """The frame that appends a fragment of text."""
        return encode(wire.Text(text=text, request_id=request_id))

    def flush(self, request_id: str | None = None) -> str:
        """The frame that says that the appended text is whole."""
        return encode(wire.Flush(request_id=request_id))

    def cancel(self, request_id: str | None = None) -> str:
        """The frame that stops a request, or all of them."""
        return encode(wire.Cancel(request_id=request_id))

    def list_voices(self) -> str:
        """The frame that asks for the voices."""
        return encode(wire.ListVoices())

    def close(self) -> str:
        """The frame after which the server speaks the rest, sends `done` and closes."""
        return encode(Close())

    def receive(self, frame: str | bytes) -> Event:
        """The event of a frame. Raises `ContractViolation`, or `ServerError` for a fatal error."""
        if isinstance(frame, bytes):
            return self._audio(frame)
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

    def _audio(self, frame: bytes) -> Audio:
        sentence = self._sentence
        if sentence is None:
            raise ContractViolation(f"{len(frame)} bytes of audio outside a sentence")
        self._sentence_bytes += len(frame)
        return Audio(sentence.request_id, sentence.sentence, frame, sentence.sample_rate, sentence.encoding)

    def _check(self, message: wire.ServerMessage) -> None:
        match message:
            case wire.AudioStart():
                if message.request_id in self._ended:
                    raise ContractViolation(f"audio of {message.request_id} after its end")
                self._sentence, self._sentence_bytes = message, 0
            case wire.AudioEnd():
                self._end_sentence(message)
            case wire.SynthesisComplete() | wire.Cancelled():
                if self._sentence is not None and self._sentence.request_id == message.request_id:
                    self._sentence = None
                self._ended.add(message.request_id)
            case wire.Done():
                self.done = message
            case Error(recoverable=False):
                self.failure = message
                raise ServerError(message.code, message.message)

    def _end_sentence(self, end: wire.AudioEnd) -> None:
        sentence, self._sentence = self._sentence, None
        if sentence is None or (sentence.request_id, sentence.sentence) != (end.request_id, end.sentence):
            raise ContractViolation(f"audio_end of {end.request_id} {end.sentence} without its audio_start")
        width = BYTES_PER_SAMPLE.get(sentence.encoding)
        if width is not None:
            heard = self._sentence_bytes / width / sentence.sample_rate
            if abs(heard - end.seconds) > TOLERANCE_S:
                raise ContractViolation(f"{heard} s of audio, {end.seconds} s announced")
