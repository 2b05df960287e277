"""The synthesis protocol of one stream, free of I/O.

A request holds its text until the engine has room for another sentence of it; its chunks come back, are
encoded as the client asked, and go out between `audio_start` and `audio_end`. Requests are spoken in the order in
which they were accepted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import numpy as np

from chorus.wire import tts as wire
from chorus.wire.common import Close, CloseCode, Configured, Ready
from chorus.wire.settings import SettingsError, as_dict, merge
from serving.audio import Samples
from serving.connection import Connection
from serving.errors import BadConfig, BadMessage, Internal, Overloaded, TooLarge
from serving.messages import read_message, read_object
from tts.encoders import Encoded, new_encoder
from tts.engine import MOST_SENTENCES, Engine, ListenerStream, Sentence
from tts.metrics import TtsMetrics
from tts.request_audio import RequestAudio
from tts.sentences import SentenceSplitter
from tts.settings import TtsSettings
from tts.voice import Manner
from tts.voices import Voices

RETRY_MS = 1000
SPOKEN_MS_PER_CHAR = 65
"""About how long a character is spoken, for telling when there will be room for more text."""
SYNTHESIZE_FIELDS = frozenset(("type", "text", "request_id"))


@dataclass(eq=False)
class SpokenSentence:
    """A sentence that is in the engine or on its way out."""

    text: str
    number: int = 0
    """1, 2, … within the request; 0 before its first chunk."""
    started: bool = False
    seconds: float = 0.0


@dataclass(eq=False)
class SpeechRequest:
    """One request from its first text to its end; also the owner of its audio frames."""

    id: str
    settings: wire.Settings
    """With voice, sample rate and speaker resolved."""
    accepted: float
    """Monotonic seconds."""
    audio: RequestAudio
    text: SentenceSplitter = field(default_factory=SentenceSplitter)
    whole: bool = False
    """Whether no more text can come."""
    in_engine: int = 0
    sentences: int = 0
    seconds: float = 0.0
    """Audio queued for the client."""
    first_audio: float | None = None
    """Seconds from acceptance to the first audio queued."""
    finishing: bool = False
    """Whether all of it has been encoded, and the encoder been asked for what it holds."""
    over: bool = False


class TtsSession:
    """Turns one client's texts into audio."""

    def __init__(
        self,
        connection: Connection,
        settings: wire.Settings,
        *,
        service_settings: TtsSettings,
        instance: str,
        check: Callable[[wire.Settings], None],
        voices: Voices,
        engine: Engine,
        metrics: TtsMetrics,
    ) -> None:
        """`check` raises `StreamError` for settings that this replica can't serve."""
        self._connection = connection
        self._settings = settings
        self._service_settings = service_settings
        self._instance = instance
        self._check = check
        self._voices = voices
        self._engine = engine
        self._metrics = metrics
        self._stream = ListenerStream()
        self._requests: dict[str, SpeechRequest] = {}
        """Open requests by id, in the order in which they are spoken."""
        self._appending: SpeechRequest | None = None
        """The request that `text` fragments go to."""
        self._numbers = itertools.count(1)
        self._accepted = 0
        self._cancelled = 0
        self._seconds = 0.0
        self._closing = False
        self._draining = False
        self._released = False

    # What the connection calls

    def start(self) -> None:
        """Send `ready`."""
        self._connection.send(
            Ready(
                connection_id=self._connection.id,
                instance=self._instance,
                service="tts",
                voice=self._voices.resolve(self._settings).voice or "",
                settings=as_dict(self._voices.resolve(self._settings)),
            )
        )

    def receive_text(self, text: str) -> None:
        """Take a message of the client. Raises `StreamError`."""
        raw = read_object(text, wire.CLIENT_TYPES)
        if self._closing and raw["type"] != "cancel":
            raise BadMessage(f"{raw['type']} after close is not taken")
        overrides: dict[str, Any] = {}
        if raw["type"] == "synthesize":
            overrides = {key: value for key, value in raw.items() if key not in SYNTHESIZE_FIELDS}
            raw = {key: value for key, value in raw.items() if key in SYNTHESIZE_FIELDS}
        message = read_message(raw, wire.ClientMessage)
        if isinstance(message, dict):
            self._configure(message)
        elif isinstance(message, wire.Synthesize):
            self._synthesize(message, overrides)
        elif isinstance(message, wire.Text):
            self._append(message)
        elif isinstance(message, wire.Flush):
            self._flush(message.request_id)
        elif isinstance(message, wire.Cancel):
            self._cancel(message.request_id)
        elif isinstance(message, wire.ListVoices):
            self._connection.send(wire.VoiceList(voices=self._voices.listing()))
        elif isinstance(message, Close):
            self._closing = True
            self._end_text()
            self._go_on()

    def receive_audio(self, data: bytes) -> None:
        """This service takes no audio. Raises `BadMessage`."""
        raise BadMessage(f"a binary frame of {len(data)} bytes: synthesis takes JSON text messages only")

    def drain(self) -> None:
        """Speak what was accepted, then close with 1012."""
        self._draining = True
        self._go_on()

    def hurry(self) -> None:
        """Take the text that is still being appended for whole; close with 1012 once it is spoken."""
        self._draining = True
        self._end_text()
        self._go_on()

    def released(self) -> None:
        """Cancel everything of this stream."""
        self._released = True
        self._engine.forget(self._stream)
        for request in self._requests.values():
            request.audio.drop()
            self._metrics.requests.labels("abandoned").inc()
        self._requests.clear()

    def totals(self) -> dict[str, Any]:
        """What the stream did."""
        return {key: value for key, value in msgspec.to_builtins(self._totals()).items() if key != "type"}

    # Messages

    def _configure(self, changes: dict[str, Any]) -> None:
        self._settings = self._merged(changes)
        self._connection.send(Configured(settings=as_dict(self._voices.resolve(self._settings))))

    def _merged(self, changes: dict[str, Any], request_id: str | None = None) -> wire.Settings:
        try:
            settings = merge(self._settings, changes)
        except SettingsError as error:
            raise BadConfig(str(error), request_id=request_id) from None
        self._check(settings)
        return settings

    def _synthesize(self, message: wire.Synthesize, overrides: dict[str, Any]) -> None:
        request = self._accept(message.request_id, self._merged(overrides, message.request_id), message.text)
        request.whole = True
        request.text.finish()
        self._go_on()

    def _append(self, message: wire.Text) -> None:
        request = self._appending
        if request is None or (message.request_id is not None and message.request_id != request.id):
            request = self._accept(message.request_id, self._settings, message.text)
            self._end_text()
            self._appending = request
        else:
            self._add_text(request, message.text)
        self._go_on()

    def _accept(self, request_id: str | None, settings: wire.Settings, text: str) -> SpeechRequest:
        if request_id is None:
            request_id = next(each for n in self._numbers if (each := f"request-{n}") not in self._requests)
        elif request_id in self._requests:
            raise BadMessage(f"request_id {request_id!r} is still open", request_id=request_id)
        if self._draining:
            raise Overloaded("this replica is going away; reconnect", request_id=request_id, retry_after_ms=RETRY_MS)
        if len(self._requests) >= self._service_settings.max_pending_requests:
            raise Overloaded(
                f"{len(self._requests)} requests of this stream are open",
                request_id=request_id,
                retry_after_ms=RETRY_MS,
            )
        settings = self._voices.resolve(settings)
        voice_rate = self._voices.get(settings.voice).sample_rate
        audio = RequestAudio(new_encoder(settings, voice_rate, self._accepted + 1))
        request = SpeechRequest(request_id, settings, time.monotonic(), audio)
        self._add_text(request, text)  # or not: then there is no such request
        self._requests[request_id] = request
        self._accepted += 1
        return request

    def _add_text(self, request: SpeechRequest, text: str) -> None:
        most = self._service_settings.max_text_chars
        if len(text) > most:
            raise TooLarge(
                f"at most {most} characters may wait to be spoken; these are {len(text)}", request_id=request.id
            )
        waiting = sum(each.text.waiting() for each in self._requests.values())
        if (excess := waiting + len(text) - most) > 0:
            raise Overloaded(
                f"{waiting} characters of this stream wait to be spoken; at most {most} may",
                request_id=request.id,
                retry_after_ms=max(RETRY_MS, excess * SPOKEN_MS_PER_CHAR),
            )
        request.text.feed(text)
        self._metrics.characters.inc(len(text))

    def _flush(self, request_id: str | None) -> None:
        request = self._appending
        if request is None or (request_id is not None and request_id != request.id):
            named = "no request takes text" if request_id is None else f"no request {request_id!r} takes text"
            raise BadMessage(named, request_id=request_id)
        self._end_text()
        self._go_on()

    def _end_text(self) -> None:
        if self._appending is not None:
            self._appending.whole = True
            self._appending.text.finish()
            self._appending = None

    def _cancel(self, request_id: str | None) -> None:
        if request_id is not None and request_id not in self._requests:
            raise BadMessage(f"no request {request_id!r} is open", request_id=request_id)
        for each in [request_id] if request_id is not None else list(self._requests):
            request = self._requests.pop(each)
            request.over = True
            request.audio.drop()
            if request is self._appending:
                self._appending = None
            taken_back = self._connection.take_back_audio(request)
            self._engine.cancel(self._stream, request, request.seconds)
            self._seconds -= taken_back
            self._cancelled += 1
            self._metrics.requests.labels("cancelled").inc()
            sent = round(max(0.0, request.seconds - taken_back), 6)
            self._connection.send(wire.Cancelled(request_id=each, seconds_sent=sent))
        self._go_on()

    # Text to the engine, audio from it

    def _go_on(self) -> None:
        """Give the engine what it has room for, complete what is complete, and end the stream when it is due."""
        for request in list(self._requests.values()):
            while request.in_engine < MOST_SENTENCES and (text := request.text.next()) is not None:
                self._speak(request, text)
            if request.in_engine or not request.whole:
                break  # the next request is not spoken before this one is over
            if request.sentences:
                self._finish(request)
                break
            self._complete(request)
        if not self._requests and not self._connection.closing:
            if self._closing:
                self._connection.send(self._totals())
                self._connection.close(CloseCode.DONE)
            elif self._draining:
                self._connection.close(CloseCode.GOING_AWAY, "this replica is going away; reconnect")

    def _speak(self, request: SpeechRequest, text: str) -> None:
        settings = request.settings
        voice = self._voices.get(cast(str, settings.voice))
        spoken = SpokenSentence(text)
        manner = Manner(settings.speed, cast(int, settings.speaker), settings.noise_scale, settings.noise_w_scale)
        request.in_engine += 1
        self._engine.submit(
            self._stream,
            Sentence(
                text=text,
                voice=voice,
                manner=manner,
                owner=request,
                deliver=lambda outcome: self._on_chunk(request, spoken, outcome),
            ),
        )

    def _on_chunk(self, request: SpeechRequest, spoken: SpokenSentence, outcome: Samples | Exception | None) -> None:
        if self._released or request.over:
            return
        if isinstance(outcome, Exception):
            self._connection.fail(Internal("synthesis failed", request_id=request.id))
            return
        if outcome is not None and not spoken.number:
            request.sentences += 1
            spoken.number = request.sentences
            outcome = self._after_pause(request, outcome)
        last = outcome is None
        request.audio.encode(outcome, lambda encoded: self._on_encoded(request, spoken, encoded, last))

    def _after_pause(self, request: SpeechRequest, samples: Samples) -> Samples:
        """A sentence's first samples, with the pause that the client wants between two sentences in front."""
        if request.sentences == 1 or not request.settings.sentence_silence_ms:
            return samples
        rate = self._voices.get(request.settings.voice).sample_rate
        return np.concatenate([np.zeros(request.settings.sentence_silence_ms * rate // 1000, np.float32), samples])

    def _on_encoded(
        self, request: SpeechRequest, spoken: SpokenSentence, encoded: Encoded | Exception, last: bool
    ) -> None:
        if isinstance(encoded, Exception):
            self._connection.fail(Internal("the audio could not be encoded", request_id=request.id))
            return
        if spoken.number and not spoken.started:
            self._start_sentence(request, spoken)
        spoken.seconds += encoded.seconds
        self._send_audio(request, encoded)
        if not last:
            return
        request.in_engine -= 1
        if spoken.started:
            self._connection.send(
                wire.AudioEnd(request_id=request.id, sentence=spoken.number, seconds=round(spoken.seconds, 6))
            )
        self._go_on()

    def _start_sentence(self, request: SpeechRequest, spoken: SpokenSentence) -> None:
        spoken.started = True
        self._connection.send(
            wire.AudioStart(
                request_id=request.id,
                sentence=spoken.number,
                text=spoken.text,
                sample_rate=cast(int, request.settings.sample_rate),
                encoding=request.settings.encoding,
            )
        )

    def _send_audio(self, request: SpeechRequest, encoded: Encoded) -> None:
        if encoded.pieces and request.first_audio is None:
            request.first_audio = time.monotonic() - request.accepted
            self._metrics.first_audio.observe(request.first_audio)
        for piece in encoded.pieces:
            request.seconds += piece.seconds
            self._seconds += piece.seconds
            self._metrics.audio.inc(piece.seconds)
            self._connection.send_audio(piece.data, owner=request, seconds=piece.seconds)

    def _finish(self, request: SpeechRequest) -> None:
        """All of it is encoded: ask for what the encoder holds, once."""
        if not request.finishing:
            request.finishing = True
            request.audio.finish(lambda encoded: self._on_finished(request, encoded))

    def _on_finished(self, request: SpeechRequest, encoded: Encoded | Exception) -> None:
        if isinstance(encoded, Exception):
            self._connection.fail(Internal("the audio could not be encoded", request_id=request.id))
            return
        self._send_audio(request, encoded)
        self._complete(request)
        self._go_on()

    def _complete(self, request: SpeechRequest) -> None:
        del self._requests[request.id]
        request.over = True
        self._metrics.requests.labels("complete").inc()
        first = request.first_audio
        self._connection.send(
            wire.SynthesisComplete(
                request_id=request.id,
                seconds=round(request.seconds, 6),
                ttfa_ms=None if first is None else round(first * 1000),
            )
        )

    def _totals(self) -> wire.Done:
        return wire.Done(
            requests=self._accepted, cancelled=self._cancelled, audio_seconds=round(max(0.0, self._seconds), 6)
        )
