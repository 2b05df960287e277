"""The recognition protocol of one stream, free of I/O.

Audio goes to the detector hop by hop; its probabilities come back in order and move the endpointer, which opens
and closes utterances; an open one asks the scheduler for partials, a closed one for its final. Whatever the
client asks about the audio it has sent (`finalize`, `reset`, `close`) waits until that audio has been scored.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import numpy as np

from asr.admission import Admission
from asr.agreement import StablePrefix, keep_promise
from asr.audio_buffer import AudioBuffer
from asr.detector import Detector, Probabilities
from asr.endpointer import PAUSE, Endpointer, SpeechEnded, SpeechPaused, SpeechStarted, SpeechWentOn
from asr.engine import SAMPLE_RATE, Context, Options, Request, Transcript
from asr.mel import MelCache
from asr.metrics import AsrMetrics
from asr.scheduler import Job, Kind, Scheduler
from asr.settings import AsrSettings
from asr.turn import patience
from asr.vad import HOP
from asr.words import retimed
from chorus.wire import asr as wire
from chorus.wire.common import Close, CloseCode, Configured, Ready
from chorus.wire.settings import SettingsError, as_dict, merge
from serving.audio import Decoder, Samples, UnsoundSamples
from serving.connection import Connection
from serving.errors import BadConfig, Internal, UnsupportedAudio
from serving.messages import read_message, read_object

KEEP_BEFORE_S = 2.0
"""Audio before the detector's position that an utterance may still reach back to."""
UNSCORED_S = 5.0
"""Audio that may wait for the detector before the stream is read no further."""
CONTEXT_GAP_S = 1.0
"""A longer pause before an utterance, and it is heard by itself: what came before tells less, and costs as much."""
CONTEXT_S = 15.0
"""An utterance and its context together are at most so long: that bounds the cost of a final."""


@dataclass(eq=False)
class Speculation:
    """A final asked for at a pause, so that it is there when the pause turns out to be the end."""

    job: Job
    end: int
    """Where its audio ends."""
    transcript: Transcript | None = None
    """Once it has come."""


@dataclass(eq=False)
class Utterance:
    """One utterance from its first sample to its final; also the owner of its jobs."""

    number: int
    start: int
    """Samples since the stream's start, as all positions here."""
    settings: wire.Settings
    stable: StablePrefix = field(default_factory=StablePrefix)
    features: MelCache = field(default_factory=MelCache)
    before: Utterance | None = None
    """The one that ended shortly before this one began; forgotten once this one has ended."""
    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    """All of it once it has ended, as long as it may be another's context."""
    pause: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    """What lay between the one before and this one."""
    end: int | None = None
    """None while it is open."""
    partial_at: int = 0
    """Where the audio of the newest partial asked for ended."""
    speculation: Speculation | None = None
    """Of the pause that it is in."""
    shown_to: int = 0
    """Where the audio of the newest partial sent ended."""
    silence: int = 0
    """Samples heard between its speech and the decision that it has ended."""
    from_finalize: bool = False
    decided: float = 0.0
    """Monotonic seconds of the decision that it has ended."""
    transcript: Transcript | None = None


@dataclass(frozen=True)
class EmptyFinalize:
    """A `finalize` with no speech pending; answered in its turn, as of where it was asked."""

    sample: int
    asked: float
    """Monotonic seconds."""


class AsrSession:
    """Turns one client's messages into utterances and their words."""

    def __init__(
        self,
        connection: Connection,
        settings: wire.Settings,
        *,
        service_settings: AsrSettings,
        instance: str,
        check: Callable[[wire.Settings], None],
        detector: Detector,
        scheduler: Scheduler,
        admission: Admission,
        metrics: AsrMetrics,
    ) -> None:
        """`check` raises `BadConfig` for settings that this replica can't serve."""
        self._connection = connection
        self._settings = settings
        self._service_settings = service_settings
        self._instance = instance
        self._check = check
        self._detector = detector
        self._scheduler = scheduler
        self._admission = admission
        self._metrics = metrics

        self._decoder: Decoder | None = None
        self._audio = AudioBuffer()
        self._stream = detector.new_stream()
        self._endpointer = Endpointer()
        self._apply_endpointing()
        self._submitted = 0
        """Samples given to the detector: whole hops."""
        self._scored = 0
        """Samples whose probability has come back."""
        self._waiting: deque[tuple[int, int, Callable[[int], None]]] = deque()
        """What the client asked for: the scored samples from which it can be done, and where its audio then ended."""

        self._open: Utterance | None = None
        self._ended: deque[Utterance | EmptyFinalize] = deque()
        """Utterances whose finals are due, in order, and every `finalize` that found no speech."""
        self._utterances = 0
        self._committed = 0
        """Where the audio of the newest ended or dropped utterance ends: the next can't begin before."""
        self._newest: Utterance | None = None
        """The utterance that ended last, unless audio was dropped since."""
        self._speech = 0
        self._dropped = 0
        self._closing = False
        self._draining = False
        self._done = False
        """Whether it has been said."""
        self._released = False

    # What the connection calls

    def start(self) -> None:
        """Send `ready`."""
        self._admission.opened(self)
        self._connection.send(
            Ready(
                connection_id=self._connection.id,
                instance=self._instance,
                service="asr",
                model=self._service_settings.model,
                settings=as_dict(self._settings),
            )
        )

    def receive_text(self, text: str) -> None:
        """Take a message of the client. Raises `StreamError`."""
        message = read_message(read_object(text, wire.CLIENT_TYPES), wire.ClientMessage)
        if isinstance(message, dict):
            self._configure(message)
        elif isinstance(message, wire.Finalize):
            self._flush_decoder()
            self._when_scored(self._finalize)
        elif isinstance(message, wire.Reset):
            self._when_scored(self._reset)
        elif isinstance(message, Close) and not self._closing:
            self._closing = True
            self._flush_decoder()
            self._when_scored(self._end_stream)

    def receive_audio(self, data: bytes) -> None:
        """Take an audio frame, cut anywhere. Raises `StreamError`."""
        if self._closing:
            raise UnsupportedAudio("audio after close is not taken")
        if self._decoder is None:
            settings = self._settings
            self._decoder = Decoder(settings.encoding, settings.sample_rate, settings.channels, SAMPLE_RATE)
        try:
            samples = self._decoder.feed(data)
        except UnsoundSamples as error:
            raise UnsupportedAudio(f"{error}; the frame was dropped") from None
        self._hear(samples)

    def owes(self) -> bool:
        """Whether finals, or answers to what was asked, are still to come."""
        return bool(self._ended or self._waiting)

    def drain(self) -> None:
        """Finish the utterance that is open, if any, then close with 1012."""
        self._draining = True
        self._when_scored(lambda _: self._end_if_drained())

    def hurry(self) -> None:
        """End the open utterance here, deliver its final, then close with 1012."""
        self._draining = True
        self._flush_decoder()
        self._when_scored(self._end_open_utterance)
        self._when_scored(lambda _: self._end_if_drained())

    def cut(self) -> None:
        """Close with 1012: whatever has no final is resent elsewhere."""
        self._go_away()

    def released(self) -> None:
        """Cancel everything of this stream."""
        self._released = True
        self._admission.closed(self)
        self._detector.forget(self._stream)
        for utterance in (self._open, *self._ended):
            if isinstance(utterance, Utterance):
                self._scheduler.cancel(utterance)

    def totals(self) -> dict[str, Any]:
        """What the stream did."""
        return {key: value for key, value in msgspec.to_builtins(self._totals()).items() if key != "type"}

    # Settings

    def _configure(self, changes: dict[str, Any]) -> None:
        try:
            settings = merge(self._settings, changes)
        except SettingsError as error:
            raise BadConfig(str(error)) from None
        if self._decoder is not None:
            for key in wire.FIXED_BY_FIRST_AUDIO:
                if getattr(settings, key) != getattr(self._settings, key):
                    raise BadConfig(f"{key} can't be changed once audio has been received")
        self._check(settings)
        self._settings = settings
        if self._open is None:
            self._apply_endpointing()
        self._connection.send(Configured(settings=as_dict(settings)))

    def _apply_endpointing(self) -> None:
        self._endpointer.configure(
            threshold=self._settings.vad_threshold,
            endpointing_ms=self._settings.endpointing_ms,
            max_utterance_s=self._settings.max_utterance_s,
        )

    # Audio on its way to the detector and back

    def _hear(self, samples: Samples) -> None:
        self._audio.append(samples)
        self._metrics.audio.inc(len(samples) / SAMPLE_RATE)
        end = self._submitted + (self._audio.end - self._submitted) // HOP * HOP
        if end > self._submitted:
            # For each hop of each stream: a copy would give the interpreter's lock away, and wait to have it again.
            hops = self._audio.look_at(self._submitted, end).reshape(-1, HOP)
            self._submitted = end
            self._detector.submit(self._stream, hops, self._on_scores)
        self._pace()

    def _flush_decoder(self) -> None:
        """Bring in what the rate conversion still holds, so that what was sent is wholly here."""
        if self._decoder is not None:
            self._hear(self._decoder.flush())

    def _when_scored(self, action: Callable[[int], None]) -> None:
        """Do it once all audio received so far has been scored; `action` is given where that audio ends."""
        self._waiting.append((self._submitted, self._audio.end, action))
        self._do_what_waits()

    def _do_what_waits(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._scored:
            _, here, action = self._waiting.popleft()
            action(here)

    def _on_scores(self, scores: Probabilities | Exception) -> None:
        if self._released:
            return
        if isinstance(scores, Exception):
            self._connection.fail(Internal("voice detection failed; resend from the end of the last final"))
            return
        for score in scores.tolist():
            self._scored += HOP
            for event in self._endpointer.feed(score):
                match event:
                    case SpeechStarted():
                        self._start_utterance(event.sample)
                    case SpeechPaused():
                        self._speculate()
                    case SpeechWentOn() if self._open is not None:
                        self._forget_speculation(self._open)
                    case SpeechEnded():
                        self._end_utterance(event)
        self._ask_for_partial()
        keep = self._open.start if self._open else self._scored - int(KEEP_BEFORE_S * SAMPLE_RATE)
        self._audio.forget_before(keep)
        self._do_what_waits()
        self._pace()

    def _pace(self) -> None:
        """Stop reading the client while too much of its audio waits for the detector or the engine."""
        due = sum(_length(utterance) for utterance in self._ended if isinstance(utterance, Utterance))
        unscored = self._submitted - self._scored
        behind = due > self._service_settings.backlog_s * SAMPLE_RATE or unscored > UNSCORED_S * SAMPLE_RATE
        self._connection.read_on(not behind)

    # Utterances

    def _start_utterance(self, start: int) -> None:
        if self._draining:
            return  # not accepted: the client resends it elsewhere
        self._utterances += 1
        start = max(start, self._committed)
        self._open = Utterance(self._utterances, start, self._settings, partial_at=start)
        self._remember_before(self._open)
        self._connection.send(wire.SpeechStart(utterance=self._utterances, time=self._time(start)))

    def _remember_before(self, utterance: Utterance) -> None:
        """Keep what the utterance may be heard in the context of, while its audio is still here."""
        before = self._newest
        if before is None or before.end is None:
            return
        if any(getattr(before.settings, key) != getattr(utterance.settings, key) for key in ("language", "task")):
            return
        if before.end >= self._audio.start and utterance.start - before.end <= CONTEXT_GAP_S * SAMPLE_RATE:
            utterance.before = before
            utterance.pause = self._audio.read(before.end, utterance.start)

    def _context(self, utterance: Utterance, samples: Samples) -> Context | None:
        """Of a final; None where nothing was said shortly before, or its words are not known yet."""
        before = utterance.before
        if before is None or before.transcript is None or not before.transcript.text:
            return None
        heard = np.concatenate((before.samples, utterance.pause))
        if len(heard) + len(samples) > CONTEXT_S * SAMPLE_RATE:
            return None
        return Context(heard, before.transcript.text)

    def _end_utterance(self, event: SpeechEnded) -> None:
        utterance = self._open
        if utterance is None:
            return
        self._open = None
        utterance.silence = event.silence
        self._close_utterance(utterance, min(event.sample, self._audio.end))

    def _close_utterance(self, utterance: Utterance, end: int, *, from_finalize: bool = False) -> None:
        utterance.end = self._committed = end
        utterance.from_finalize = from_finalize
        utterance.decided = time.monotonic()
        self._speech += end - utterance.start
        self._metrics.speech.inc((end - utterance.start) / SAMPLE_RATE)
        self._connection.send(wire.SpeechEnd(utterance=utterance.number, time=self._time(end)))
        self._apply_endpointing()
        utterance.samples = self._audio.read(utterance.start, end)
        self._newest = utterance
        self._ended.append(utterance)
        self._scheduler.cancel(utterance, Kind.PARTIAL)
        speculation = utterance.speculation
        if speculation is None or speculation.end > end:
            self._forget_speculation(utterance)
            self._ask_for_final(utterance)
        elif speculation.transcript is None:
            self._metrics.speculations.labels("used").inc()
            self._scheduler.promote(speculation.job, utterance.decided)
        else:
            self._metrics.speculations.labels("used").inc()
            self._on_final(utterance, speculation.transcript)
        utterance.before = None

    def _finalize(self, here: int) -> None:
        if not self._open_what_is_pending():
            self._ended.append(EmptyFinalize(here, time.monotonic()))
            self._send_finals()
        else:
            self._end_open_utterance(here, from_finalize=True)

    def _open_what_is_pending(self) -> bool:
        """Whether there is an open utterance; speech too short to have opened one opens it now."""
        if self._open is None and (start := self._endpointer.candidate) is not None:
            self._start_utterance(start)
        return self._open is not None

    def _end_open_utterance(self, here: int, *, from_finalize: bool = False) -> None:
        if self._open_what_is_pending():
            utterance, self._open = cast(Utterance, self._open), None
            self._endpointer.reset(here)
            self._close_utterance(utterance, here, from_finalize=from_finalize)

    def _reset(self, here: int) -> None:
        utterance, self._open = self._open, None
        self._newest = None
        dropped = 0
        if utterance is not None:
            self._forget_speculation(utterance)
            self._scheduler.cancel(utterance)
            self._committed = here
            dropped = self._committed - utterance.start
            self._dropped += dropped
            self._metrics.utterances.labels("dropped").inc()
        self._endpointer.reset(here)
        self._apply_endpointing()
        self._connection.send(
            wire.ResetDone(
                utterance=utterance.number if utterance else None,
                dropped_seconds=round(dropped / SAMPLE_RATE, 6),
            )
        )

    # Requests to the engine, and its answers

    def _request(self, utterance: Utterance, samples: Samples, *, final: bool) -> Request:
        settings = utterance.settings
        options = Options(
            language=settings.language,
            prompt=settings.prompt,
            hotwords=settings.hotwords,
            task=settings.task,
            words=settings.word_timestamps,
        )
        context = self._context(utterance, samples) if final else None
        return Request(samples, final, options, utterance.features, context)

    def _ask_for_final(self, utterance: Utterance) -> None:
        self._scheduler.submit(
            Job(
                owner=utterance,
                request=self._request(utterance, utterance.samples, final=True),
                deliver=lambda outcome: self._on_final(utterance, outcome),
                kind=Kind.FINAL,
                deadline=utterance.decided,
            )
        )

    def _speculate(self) -> None:
        """The utterance pauses: ask for its final, since most pauses are its end."""
        utterance, end = self._open, self._scored
        if utterance is None:
            return
        wait_s = utterance.settings.endpointing_ms / 1000 - PAUSE / SAMPLE_RATE
        if wait_s <= 0:
            return  # it ends before a speculation could be of use
        utterance.partial_at = end
        self._scheduler.cancel(utterance, Kind.PARTIAL)  # it would tell less
        samples = self._audio.read(utterance.start, end)
        job = Job(
            owner=utterance,
            request=self._request(utterance, samples, final=True),
            deliver=lambda outcome: self._on_speculation(utterance, end, outcome),
            kind=Kind.SPECULATION,
            deadline=time.monotonic() + wait_s,
        )
        utterance.speculation = Speculation(job, end)
        self._scheduler.submit(job)

    def _forget_speculation(self, utterance: Utterance) -> None:
        """There is more to hear than it has heard. If it runs, what it finds will do as a partial."""
        if utterance.speculation is not None:
            self._metrics.speculations.labels("vain").inc()
            self._scheduler.cancel(utterance, Kind.SPECULATION)
            if utterance.speculation.transcript is not None:
                self._metrics.encoder_in_vain.inc(utterance.speculation.transcript.encoder_s)
            utterance.speculation = None

    def _on_speculation(self, utterance: Utterance, end: int, outcome: Transcript | Exception) -> None:
        """The final of a pause at which the utterance's audio ended there."""
        speculation = utterance.speculation
        current = speculation is not None and speculation.end == end
        if not current and isinstance(outcome, Transcript):
            self._metrics.encoder_in_vain.inc(outcome.encoder_s)
        if utterance.end is not None:
            if current:
                self._on_final(utterance, outcome)
        elif isinstance(outcome, Exception):
            utterance.speculation = None if current else utterance.speculation  # the final will tell
        else:
            if speculation is not None and current:
                speculation.transcript = outcome
                if utterance is self._open and utterance.settings.endpointing == "adaptive":
                    silence = utterance.settings.endpointing_ms * patience(outcome) / 1000
                    self._endpointer.be_patient(int(silence * SAMPLE_RATE))
            self._on_partial(utterance, end, outcome)

    def _ask_for_partial(self) -> None:
        utterance = self._open
        if utterance is None or utterance.speculation is not None or not utterance.settings.interim_results:
            return
        interval = self._service_settings.resolved_partial_interval_ms * SAMPLE_RATE // 1000
        end = self._scored
        if end - utterance.partial_at < interval:
            return
        utterance.partial_at = end
        samples = self._audio.read(utterance.start, end)
        self._scheduler.submit(
            Job(
                owner=utterance,
                request=self._request(utterance, samples, final=False),
                deliver=lambda outcome: self._on_partial(utterance, end, outcome),
                kind=Kind.PARTIAL,
                deadline=time.monotonic() + self._service_settings.resolved_partial_interval_ms / 1000,
            )
        )

    def _on_partial(self, utterance: Utterance, end: int, outcome: Transcript | Exception) -> None:
        if self._released or utterance is not self._open or isinstance(outcome, Exception):
            return  # too late to be of use; the final tells the words, or the engine's failure
        if not outcome.text or not utterance.settings.interim_results or end < utterance.shown_to:
            return
        utterance.shown_to = end
        text = utterance.stable.update(outcome.text, end / SAMPLE_RATE, outcome.alternatives)
        self._metrics.partials.inc()
        self._connection.send(
            wire.Partial(
                utterance=utterance.number,
                text=text,
                stable_text=utterance.stable.text,
                start_time=self._time(utterance.start),
                end_time=self._time(end),
            )
        )

    def _on_final(self, utterance: Utterance, outcome: Transcript | Exception) -> None:
        if self._released:
            return
        if isinstance(outcome, Exception):
            self._connection.fail(Internal("recognition failed; resend from the end of the last final"))
            return
        # What led here is of no more use, and the speculation's job would keep the utterance as this keeps the job.
        utterance.speculation, utterance.features = None, MelCache()
        text, words = keep_promise(utterance.stable.text, outcome.text), outcome.words
        if utterance.settings.word_timestamps and text != outcome.text:
            words = retimed(text, words, len(utterance.samples) / SAMPLE_RATE)
        utterance.transcript = replace(outcome, text=text, words=words)
        self._send_finals()
        self._pace()

    def _send_finals(self) -> None:
        """Send what is due from the front: finals go out in the order of their utterances."""
        while self._ended:
            first = self._ended[0]
            if isinstance(first, EmptyFinalize):
                self._send_empty_final(first)
            elif first.transcript is not None:
                self._send_final(first, first.transcript)
            else:
                return
            self._ended.popleft()
        if self._draining:
            self._end_if_drained()
        elif self._closing and not self._waiting:
            self._send_done()

    def _send_final(self, utterance: Utterance, transcript: Transcript) -> None:
        end = cast(int, utterance.end)
        latency = time.monotonic() - utterance.decided
        self._metrics.final_latency.observe(latency)
        self._admission.observe(self, latency, _length(utterance) / SAMPLE_RATE)
        self._metrics.speech_to_final.observe(latency + utterance.silence / SAMPLE_RATE)
        self._metrics.utterances.labels("words" if transcript.text else "empty").inc()
        self._connection.send(
            wire.Final(
                utterance=utterance.number,
                text=transcript.text,
                start_time=self._time(utterance.start),
                end_time=self._time(end),
                confidence=round(transcript.confidence, 4),
                language=transcript.language,
                words=self._words(utterance, transcript) if utterance.settings.word_timestamps else msgspec.UNSET,
                latency_ms=round(latency * 1000),
                from_finalize=utterance.from_finalize,
            )
        )

    def _words(self, utterance: Utterance, transcript: Transcript) -> list[wire.Word]:
        """The words on the stream's clock. They were heard with more silence than their utterance ends with."""
        start, end = self._time(utterance.start), self._time(cast(int, utterance.end))
        return [
            wire.Word(
                word=word.text,
                start=min(round(start + word.start, 4), end),
                end=min(round(start + word.end, 4), end),
                confidence=round(word.confidence, 4),
            )
            for word in transcript.words
        ]

    def _send_empty_final(self, finalize: EmptyFinalize) -> None:
        here = self._time(finalize.sample)
        self._connection.send(
            wire.Final(
                utterance=None,
                text="",
                start_time=here,
                end_time=here,
                confidence=0.0,
                language=self._settings.language or "",
                words=[] if self._settings.word_timestamps else msgspec.UNSET,
                latency_ms=round((time.monotonic() - finalize.asked) * 1000),
                from_finalize=True,
            )
        )

    # The end of the stream

    def _end_stream(self, here: int) -> None:
        self._end_open_utterance(here)
        if not self._ended:
            self._send_done()

    def _send_done(self) -> None:
        if self._done:
            return
        self._done = True
        self._connection.send(self._totals())
        self._connection.close(CloseCode.DONE)

    def _end_if_drained(self) -> None:
        if self._draining and self._open is None and not self._ended and not self._waiting:
            if self._closing:
                self._send_done()
            else:
                self._go_away()

    def _go_away(self) -> None:
        self._connection.close(CloseCode.GOING_AWAY, "this replica is going away; reconnect")

    def _totals(self) -> wire.Done:
        """Silence is what is neither speech nor dropped, so that the three add up to the audio received."""
        audio = round(self._decoder.seconds_received, 6) if self._decoder else 0.0
        dropped = min(round(self._dropped / SAMPLE_RATE, 6), audio)
        speech = min(round(self._speech / SAMPLE_RATE, 6), round(audio - dropped, 6))
        return wire.Done(
            audio_seconds=audio,
            speech_seconds=speech,
            silence_seconds=round(audio - speech - dropped, 6),
            dropped_seconds=dropped,
            utterances=self._utterances,
        )

    def _time(self, sample: int) -> float:
        return round(sample / SAMPLE_RATE + self._settings.start_offset_s, 4)


def _length(utterance: Utterance) -> int:
    return 0 if utterance.end is None else utterance.end - utterance.start
