"""The client's side of a synthesis stream, free of I/O.

    protocol = TtsProtocol()
    send(protocol.synthesize("Hello.")); send(protocol.close())
    while not protocol.finished:
        event = protocol.receive(frame)     # Audio for a binary frame, else a message of chorus.wire.tts

Checked are: audio only within a sentence (a container's end may follow the last one), sentences numbered 1, 2, …,
requests one after another and silent after their end, as many seconds as announced (of uncompressed audio), words whose
times run forward within their request, and totals that agree with what was heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from chorus.contract import StreamProtocol
from chorus.wire import tts as wire
from chorus.wire.common import Ready, encode

BYTES_PER_SAMPLE = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
"""Of the encodings whose seconds can be counted without decoding them."""
TOLERANCE_S = 0.001
"""Seconds are rounded by the server."""


@dataclass(frozen=True)
class Audio:
    """A binary frame, and what it belongs to."""

    request_id: str
    sentence: int
    """1, 2, … within the request. Compressed, its last moment may come with the next sentence, or at the end."""
    data: bytes
    sample_rate: int
    """Hz."""
    encoding: str

    @property
    def seconds(self) -> float | None:
        """How long it sounds; None for compressed audio."""
        width = BYTES_PER_SAMPLE.get(self.encoding)
        return None if width is None else len(self.data) / width / self.sample_rate


Event = wire.ServerMessage | Audio


@dataclass
class _Request:
    """What has been heard of one request."""

    sentences: int = 0
    heard: float | None = 0.0
    """Seconds of audio received; None once some of it was compressed."""
    announced: float = 0.0
    """Seconds of the sentences that have ended."""
    told_until: float = 0.0
    """Where the last timed word ends."""

    def hear(self, seconds: float | None) -> None:
        """Count a frame."""
        self.heard = None if self.heard is None or seconds is None else self.heard + seconds


class TtsProtocol(StreamProtocol[Event]):
    """The state of one synthesis stream."""

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__(wire.ServerMessage, strict=strict)
        self._requests: dict[str, _Request] = {}
        """Those that have been heard of and are not over."""
        self._speaking: str | None = None
        """The one whose audio has begun."""
        self._sentence: wire.AudioStart | None = None
        self._sentence_heard = _Request()
        self._container: wire.AudioStart | None = None
        """Of compressed audio: the sentence begun last; until its request is over, more of the container may come."""
        self._ended: set[str] = set()
        self._seconds = 0.0
        self.complete = 0
        """Requests that were spoken to their end."""
        self.cancelled = 0
        self.done: wire.Done | None = None

    @property
    def finished(self) -> bool:
        """Whether `done` has come."""
        return self.done is not None

    def synthesize(self, text: str, request_id: str | None = None, **settings: Any) -> str:
        """The frame that asks for a whole text; settings hold for this request alone."""
        message: dict[str, Any] = {"type": "synthesize", "text": text, **settings}
        if request_id is not None:
            message["request_id"] = request_id
            self._ended.discard(request_id)
        return msgspec.json.encode(message).decode()

    def append(self, text: str, request_id: str | None = None) -> str:
        """The frame that appends a fragment of text to the request, or begins it."""
        if request_id is not None:
            self._ended.discard(request_id)
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

    def receive(self, frame: str | bytes) -> Event:
        """The event of a frame. Raises `ContractViolation`."""
        if isinstance(frame, bytes):
            return self._audio(frame)
        message: wire.ServerMessage = self._message(frame)
        self._check(message)
        return message

    def _audio(self, frame: bytes) -> Audio:
        sentence = self._sentence or self._container
        if sentence is None:
            self._refuse(f"{len(frame)} bytes of audio outside a sentence")
        assert sentence is not None
        audio = Audio(sentence.request_id, sentence.sentence, frame, sentence.sample_rate, sentence.encoding)
        width = BYTES_PER_SAMPLE.get(audio.encoding)
        if width is not None and len(frame) % width:
            self._violated(f"an audio frame of {len(frame)} bytes cuts a sample in two")
        self._requests[sentence.request_id].hear(audio.seconds)
        self._sentence_heard.hear(audio.seconds)
        return audio

    def _check(self, message: wire.ServerMessage) -> None:
        match message:
            case Ready():
                if message.service != "tts":
                    self._violated(f"{message.service} answers on the synthesis path")
            case wire.AudioStart():
                self._on_start(message)
            case wire.AudioEnd():
                self._on_end(message)
            case wire.WordTimestamps():
                self._on_words(message)
            case wire.SynthesisComplete():
                request = self._over(message.request_id)
                self._compare(f"{message.request_id}: sentences", request.announced, message.seconds)
                self._compare(f"{message.request_id}: audio", request.heard, message.seconds)
                self._seconds += message.seconds
                self.complete += 1
            case wire.Cancelled():
                request = self._over(message.request_id)
                self._compare(f"{message.request_id}: audio before cancelled", request.heard, message.seconds_sent)
                self._seconds += message.seconds_sent
                self.cancelled += 1
            case wire.Done():
                self._on_done(message)

    def _known(self, request_id: str) -> _Request:
        if request_id in self._ended:
            self._violated(f"{request_id} goes on after its end")
        return self._requests.setdefault(request_id, _Request())

    def _on_start(self, start: wire.AudioStart) -> None:
        request = self._known(start.request_id)
        if self._speaking not in (None, start.request_id):
            self._violated(f"{start.request_id} is spoken before {self._speaking} is over")
        if self._sentence is not None:
            self._violated(f"sentence {start.sentence} begins within sentence {self._sentence.sentence}")
        if start.sentence != request.sentences + 1:
            self._violated(f"{start.request_id}: sentence {start.sentence} after {request.sentences}")
        request.sentences = start.sentence
        self._speaking = start.request_id
        self._sentence, self._sentence_heard = start, _Request()
        self._container = None if start.encoding in BYTES_PER_SAMPLE else start

    def _on_end(self, end: wire.AudioEnd) -> None:
        sentence, self._sentence = self._sentence, None
        if sentence is None or (sentence.request_id, sentence.sentence) != (end.request_id, end.sentence):
            self._violated(f"{end.request_id}: audio_end of sentence {end.sentence} without its audio_start")
        else:
            named = f"{end.request_id}: audio of sentence {end.sentence}"
            self._compare(named, self._sentence_heard.heard, end.seconds)
        request = self._known(end.request_id)
        request.announced += end.seconds
        if request.told_until > request.announced + TOLERANCE_S:
            self._violated(f"{end.request_id}: a word ends at {request.told_until} s, its audio before")

    def _on_words(self, told: wire.WordTimestamps) -> None:
        request = self._known(told.request_id)
        for word in told.words:
            if not request.told_until <= word.start <= word.end:
                self._violated(f"{told.request_id}: {word.word!r} is timed {word.start} to {word.end} s, out of order")
            request.told_until = word.end

    def _over(self, request_id: str) -> _Request:
        request = self._known(request_id)
        if self._sentence is not None and self._sentence.request_id == request_id:
            self._sentence = None  # cancelled within it
        if self._speaking == request_id:
            self._speaking = self._container = None
        del self._requests[request_id]
        self._ended.add(request_id)
        return request

    def _on_done(self, done: wire.Done) -> None:
        self.done = done
        if self._requests:
            self._violated(f"done before the end of {', '.join(self._requests)}")
        if (done.requests, done.cancelled) != (self.complete + self.cancelled, self.cancelled):
            told = f"{self.complete} complete and {self.cancelled} cancelled"
            self._violated(f"done counts {done.requests} requests, {done.cancelled} cancelled; there were {told}")
        self._compare("all audio", self._seconds, done.audio_seconds)

    def _compare(self, what: str, heard: float | None, told: float) -> None:
        # Each sentence's and request's seconds are rounded to a millionth; a thousand of them stay within this.
        if heard is not None and abs(heard - told) > TOLERANCE_S:
            self._violated(f"{what}: {heard:.6f} s heard, {told} s announced")
