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
from serving.errors import BadConfig, BadMessage, Internal, Overloaded, StreamError, TooLarge
from serving.messages import read_message, read_object
from tts.encoders import Encoded, new_encoder
from tts.engine import MOST_SENTENCES, Engine, ListenerStream, Sentence, Speaker
from tts.metrics import TtsMetrics
from tts.request_audio import RequestAudio
from tts.sentences import SentenceSplitter
from tts.settings import TtsSettings
from tts.timeline import SpokenWord
from tts.voice import Manner
from tts.voice_pool import VoiceUse
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
    words: list[SpokenWord] = field(default_factory=list)
    """To be told before the next chunk."""
    begins: int = 0
    """Samples of the request before it."""


@dataclass(eq=False)
class SpeechRequest:
    """One request from its first text to its end; also the owner of its audio frames."""

    id: str
    settings: wire.Settings
    """With voice, sample rate and speaker resolved."""
    voice: VoiceUse
    """Held until the request is over."""
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
    samples: int = 0
    """Of the voice, pauses included."""
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
        self._serials = itertools.count(1)
        """Of containers; a request that is no more counted among the accepted must not give its own to another."""
        self._accepted = 0
        self._cancelled = 0
        self._seconds = 0.0
        self._closing = False
        self._draining = False
        self._hurried = False
        """Whether the sentence that is spoken now is the last."""
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

    def owes(self) -> bool:
        """Whether there is something to speak: not where a text is open of which all that is whole has been spoken."""
        return any(request.whole or request.in_engine for request in self._requests.values())

    def drain(self) -> None:
        """Speak what was accepted, then close with 1012."""
        self._draining = True
        self._go_on()

    def hurry(self) -> None:
        """Take the text that is still being appended for whole; speak to the end of one sentence, then close with 1012.

        What is not spoken by then is `cancelled`.
        """
        self._draining = self._hurried = True
        self._end_text()
        self._go_on()

    def cut(self) -> None:
        """Cancel what is not spoken yet, then close with 1012."""
        self._draining = True
        self._stop(list(self._requests.values()), take_back=False)

    def released(self) -> None:
        """Cancel everything of this stream."""
        self._released = True
        self._engine.forget(self._stream)
        for request in list(self._requests.values()):
            self._end(request, "abandoned")

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
            self._check(settings)
        except SettingsError as error:
            raise BadConfig(str(error), request_id=request_id) from None
        except StreamError as error:
            error.request_id = request_id
            raise
        return settings

    def _synthesize(self, message: wire.Synthesize, overrides: dict[str, Any]) -> None:
        request = self._accept(message.request_id, self._merged(overrides, message.request_id), message.text)
        request.whole = True
        request.text.finish()
        self._go_on()

    def _append(self, message: wire.Text) -> None:
        request = self._appending
        if request is None or (message.request_id is not None and message.request_id != request.id):
            # Looked at again: its voice may have gone, or have other speakers, since the settings were taken.
            request = self._accept(message.request_id, self._merged({}, message.request_id), message.text)
            self._end_text()
            self._appending = request
        else:
            self._check_room(message.text, request.id)
            self._add_text(request, message.text)
        self._go_on()

    def _accept(self, request_id: str | None, settings: wire.Settings, text: str) -> SpeechRequest:
        try:
            return self._admit(request_id, settings, text)
        except Overloaded:
            self._metrics.requests.labels("overloaded").inc()
            raise

    def _admit(self, request_id: str | None, settings: wire.Settings, text: str) -> SpeechRequest:
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
        self._check_room(text, request_id)
        try:
            settings = self._voices.resolve(settings)
            voice = self._voices.use(settings.voice, lambda error: self._on_voice(request, error))
        except StreamError as error:
            error.request_id = request_id
            raise
        if (refusal := _untimed(settings, voice)) is not None:
            voice.release()
            refusal.request_id = request_id
            raise refusal
        if (wait := self._foreseen_wait(settings, voice, text)) > (most := self._service_settings.max_wait_s):
            voice.release()
            raise Overloaded(
                f"its first audio would come after {wait:.1f} s; at most {most:g} s are allowed",
                request_id=request_id,
                retry_after_ms=max(RETRY_MS, round(1000 * (wait - most))),
            )
        audio = RequestAudio(new_encoder(settings, voice.card.sample_rate, next(self._serials)))
        request = SpeechRequest(request_id, settings, voice, time.monotonic(), audio)
        self._add_text(request, text)
        self._requests[request_id] = request
        self._accepted += 1
        return request

    def _on_voice(self, request: SpeechRequest, error: StreamError | None) -> None:
        """Its voice is loaded, or can't be: then the request is taken for one that was never accepted."""
        error = error or _untimed(request.settings, request.voice)
        if error is not None:
            self._end(request, "failed")
            self._accepted -= 1
            error.request_id = request.id
            self._connection.fail(error)
        self._go_on()

    def _foreseen_wait(self, settings: wire.Settings, voice: VoiceUse, text: str) -> float:
        """Seconds by which the first audio of such a request would be late; 0 while its voice is being loaded."""
        if voice.speaker is None:
            return 0.0
        return self._engine.wait(self._stream, voice.speaker, len(text), settings.speed)

    def _check_room(self, text: str, request_id: str) -> None:
        """Raise `TooLarge` or `Overloaded` for text that finds no room."""
        most = self._service_settings.max_text_chars
        if len(text) > most:
            raise TooLarge(
                f"at most {most} characters may wait to be spoken; these are {len(text)}", request_id=request_id
            )
        waiting = sum(each.text.waiting() for each in self._requests.values())
        if (excess := waiting + len(text) - most) > 0:
            raise Overloaded(
                f"{waiting} characters of this stream wait to be spoken; at most {most} may",
                request_id=request_id,
                retry_after_ms=max(RETRY_MS, excess * SPOKEN_MS_PER_CHAR),
            )

    def _add_text(self, request: SpeechRequest, text: str) -> None:
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
        requests = self._requests.values() if request_id is None else [self._requests[request_id]]
        self._stop(list(requests), take_back=True)

    def _stop(self, requests: list[SpeechRequest], *, take_back: bool) -> None:
        """Cancel requests; without `take_back` the client still gets the audio that waits for its socket."""
        for request in requests:
            self._end(request, "cancelled")
            taken_back = self._connection.take_back(request) if take_back else 0.0
            self._engine.cancel(self._stream, request)
            self._seconds -= taken_back
            self._cancelled += 1
            sent = round(max(0.0, request.seconds - taken_back), 6)
            self._connection.send(wire.Cancelled(request_id=request.id, seconds_sent=sent))
        self._go_on()

    # Text to the engine, audio from it

    def _go_on(self) -> None:
        """Give the engine what it has room for, complete what is complete, and end the stream when it is due."""
        for request in list(self._requests.values()):
            if request.voice.speaker is None:
                break  # it is being loaded
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
        voice = cast(Speaker, request.voice.speaker)
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
                deliver_words=spoken.words.extend if settings.word_timestamps else None,
            ),
        )

    def _on_chunk(self, request: SpeechRequest, spoken: SpokenSentence, outcome: Samples | Exception | None) -> None:
        if self._released or request.over:
            return
        if isinstance(outcome, Exception):
            self._connection.fail(Internal("synthesis failed", request_id=request.id))
            return
        if outcome is not None:
            if not spoken.number:
                outcome = self._after_pause(request, spoken, outcome)
            request.samples += len(outcome)
        last = outcome is None
        request.audio.encode(outcome, lambda encoded: self._on_encoded(request, spoken, encoded, last))

    def _after_pause(self, request: SpeechRequest, spoken: SpokenSentence, samples: Samples) -> Samples:
        """A sentence's first samples, with the pause that the client wants between two sentences in front."""
        request.sentences += 1
        spoken.number = request.sentences
        pause = (
            request.settings.sentence_silence_ms * request.voice.card.sample_rate // 1000 if spoken.number > 1 else 0
        )
        spoken.begins = request.samples + pause
        if not pause:
            return samples
        self._engine.pause(self._stream, request, pause / request.voice.card.sample_rate)
        return np.concatenate([np.zeros(pause, np.float32), samples])

    def _on_encoded(
        self, request: SpeechRequest, spoken: SpokenSentence, encoded: Encoded | Exception, last: bool
    ) -> None:
        if isinstance(encoded, Exception):
            self._connection.fail(Internal("the audio could not be encoded", request_id=request.id))
            return
        if spoken.number and not spoken.started:
            self._start_sentence(request, spoken)
        if spoken.words:
            self._send_words(request, spoken)
        spoken.seconds += encoded.seconds
        self._send_audio(request, encoded)
        if not last:
            return
        request.in_engine -= 1
        if spoken.started:
            self._connection.send(
                wire.AudioEnd(request_id=request.id, sentence=spoken.number, seconds=round(spoken.seconds, 6)),
                owner=request,
            )
        self._go_on()
        if self._hurried and spoken.started:
            self._stop([each for each in self._requests.values() if not each.finishing], take_back=False)

    def _start_sentence(self, request: SpeechRequest, spoken: SpokenSentence) -> None:
        spoken.started = True
        self._connection.send(
            wire.AudioStart(
                request_id=request.id,
                sentence=spoken.number,
                text=spoken.text,
                sample_rate=cast(int, request.settings.sample_rate),
                encoding=request.settings.encoding,
            ),
            owner=request,
        )

    def _send_words(self, request: SpeechRequest, spoken: SpokenSentence) -> None:
        rate = request.voice.card.sample_rate
        words = [
            wire.TimedWord(
                word=each.word,
                start=round((spoken.begins + each.start) / rate, 6),
                end=round((spoken.begins + each.end) / rate, 6),
            )
            for each in spoken.words
        ]
        spoken.words.clear()
        self._connection.send(wire.WordTimestamps(request_id=request.id, words=words), owner=request)

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

    def _end(self, request: SpeechRequest, outcome: str) -> None:
        """It is over, whichever way."""
        del self._requests[request.id]
        request.over = True
        request.audio.drop()
        request.voice.release()
        if request is self._appending:
            self._appending = None
        self._metrics.requests.labels(outcome).inc()

    def _complete(self, request: SpeechRequest) -> None:
        self._end(request, "complete")
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


def _untimed(settings: wire.Settings, voice: VoiceUse) -> BadConfig | None:
    """Why a request for words' times can't be served, which only a loaded voice tells."""
    if not settings.word_timestamps or voice.speaker is None or voice.speaker.times_words:
        return None
    return BadConfig(f"word_timestamps: {voice.card.id} does not tell how long its sounds are; leave it false")
