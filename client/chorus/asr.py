"""The client's side of a recognition stream, free of I/O.

    protocol = AsrProtocol()
    send(protocol.audio(samples)); send(protocol.close())
    while not protocol.finished:
        event = protocol.receive(frame)

Checked are: the order of an utterance's messages, utterances numbered 1, 2, …, finals in that order, a stable
prefix that stays, times that do not run backwards, and totals that agree with what was sent and heard.
"""

from __future__ import annotations

import math
from collections import deque

from chorus.contract import StreamProtocol
from chorus.resend import DEFAULT_BYTES, ResendBuffer
from chorus.wire import asr as wire
from chorus.wire.common import Error, Ready, encode

Event = wire.ServerMessage
BYTES_PER_SAMPLE = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
TOLERANCE_S = 0.001
"""Times and totals are rounded by the server."""
TOTALS_TOLERANCE_S = 0.05
"""Of speech against the finals' times: rate conversion may put the last one's end some samples after the audio's."""


class AsrProtocol(StreamProtocol[Event]):
    """The state of one recognition stream."""

    def __init__(self, *, strict: bool = True, resend_bytes: int = DEFAULT_BYTES) -> None:
        """`resend_bytes` bounds the audio kept for a reconnect."""
        super().__init__(wire.ServerMessage, strict=strict)
        self._sent = ResendBuffer(resend_bytes)
        self._resets: deque[int] = deque()
        """How much had been sent at each `reset` that is not answered."""
        self._finalizes: deque[int] = deque()
        """The same of `finalize`."""
        self.audio_refused = False
        """Whether the server did not take some of what was sent: where its clock stands is then not known."""
        self._open: int | None = None
        """The utterance being spoken."""
        self._due: deque[int] = deque()
        """Utterances that have ended and wait for their finals."""
        self._started = 0
        self._stable = ""
        self._stable_due: dict[int, str] = {}
        self._reset_to = 0
        """Bytes before this position were dropped on request."""
        self._reset_after = 0
        """Utterances that had begun at that request."""
        self._dropped_seconds = 0.0
        self.finals: list[wire.Final] = []
        """Of utterances, in order; the empty answers to `finalize` are not among them."""
        self.dropped = 0
        """Utterances that `reset` dropped."""
        self.done: wire.Done | None = None

    @property
    def finished(self) -> bool:
        """Whether `done` has come."""
        return self.done is not None

    @property
    def text(self) -> str:
        """Everything that is final so far."""
        return " ".join(final.text.strip() for final in self.finals if final.text)

    @property
    def missing_finals(self) -> int:
        """Utterances that have begun, were not dropped, and have no final."""
        return self._started - len(self.finals) - self.dropped

    @property
    def commit_point(self) -> float:
        """Seconds on the stream's clock up to which every word is final: the newest final's end."""
        return self.finals[-1].end_time if self.finals else float(self.settings.get("start_offset_s", 0.0))

    @property
    def settled(self) -> int:
        """So many utterances, from the first on, have their finals or were dropped."""
        pending = self._due[0] if self._due else self._open
        return self._started if pending is None else pending - 1

    @property
    def resume_point(self) -> float:
        """Seconds on the stream's clock from which a reconnect must send the audio again.

        That is the commit point, or where the newest `reset` was asked if no words from before it are still due.
        """
        return self._time(self._resume_position())

    @property
    def resend_position(self) -> int:
        """The byte of the audio sent before which nothing would be sent again."""
        return max(self._resume_position(), self._sent.start)

    def audio(self, data: bytes) -> bytes:
        """The frame for some audio, cut anywhere; it is counted, and kept for a reconnect."""
        self._sent.append(data)
        return data

    def finalize(self) -> str:
        """The frame that ends the current utterance now; answered by one final with `from_finalize`."""
        self._finalizes.append(self._sent.end)
        return encode(wire.Finalize())

    def reset(self) -> str:
        """The frame that drops the current utterance; answered by `reset_done`."""
        self._resets.append(self._sent.end)
        return encode(wire.Reset())

    def to_resend(self) -> tuple[float, list[bytes]]:
        """For a reconnect: the new stream's `start_offset_s`, and the audio to send it first.

        That is everything after `resume_point`. Where the bound on kept audio was hit, the offset is later than
        that, and what lies between is lost.
        """
        begin, frames = self._sent.after(self._resume_position())
        cut = -begin % self._format()[0]  # a frame that was forgotten may have ended within a sample
        while frames and cut >= len(frames[0]):
            begin, cut = begin + len(frames[0]), cut - len(frames.pop(0))
        if frames and cut:
            frames[0] = frames[0][cut:]
            begin += cut
        return self._time(begin), frames

    def receive(self, frame: str | bytes) -> Event:
        """The event of a frame. Raises `ContractViolation`."""
        if isinstance(frame, bytes):
            self._refuse("a binary frame on a recognition stream")
        message: Event = self._message(str(frame))
        self._check(message)
        return message

    def _check(self, message: Event) -> None:
        match message:
            case Ready():
                if message.service != "asr":
                    self._violated(f"{message.service} answers on the recognition path")
            case wire.SpeechStart():
                self._on_start(message)
            case wire.Partial():
                self._on_partial(message)
            case wire.SpeechEnd():
                if message.utterance != self._open:
                    self._violated(f"speech_end of utterance {message.utterance}; open is {self._open}")
                self._open = None
                self._due.append(message.utterance)
                self._stable_due[message.utterance] = self._stable
            case wire.Final():
                self._on_final(message)
            case wire.ResetDone():
                self._on_reset(message)
            case wire.Done():
                self._on_done(message)
            case Error(code="unsupported_audio"):
                self.audio_refused = True  # some of what was sent does not count

    def _on_start(self, start: wire.SpeechStart) -> None:
        if start.utterance != self._started + 1:
            self._violated(f"utterance {start.utterance} after {self._started}")
        if self._open is not None:
            self._violated(f"utterance {start.utterance} begins within {self._open}")
        if start.time < self.commit_point - TOLERANCE_S:
            self._violated(f"utterance {start.utterance} begins before the end of the newest final")
        self._started = start.utterance
        self._open, self._stable = start.utterance, ""

    def _on_partial(self, partial: wire.Partial) -> None:
        if partial.utterance != self._open:
            self._violated(f"partial of utterance {partial.utterance}; open is {self._open}")
        if not partial.text.startswith(partial.stable_text):
            self._violated(f"{partial.stable_text!r} is no prefix of {partial.text!r}")
        if not partial.stable_text.startswith(self._stable):
            self._violated(f"utterance {partial.utterance}: {self._stable!r} was stable, now {partial.stable_text!r}")
        self._stable = partial.stable_text

    def _on_final(self, final: wire.Final) -> None:
        if final.end_time < final.start_time:
            self._violated(f"final {final.utterance} ends before it begins")
        if not 0 <= final.confidence <= 1:
            self._violated(f"final {final.utterance} has confidence {final.confidence}")
        asked = self._finalizes.popleft() if final.from_finalize and self._finalizes else None
        if final.utterance is None:
            if final.text or not final.from_finalize:
                self._violated("a final without an utterance must be the empty answer to finalize")
            elif asked and final.end_time > self._time(asked) + TOTALS_TOLERANCE_S:
                # Whoever took it for a commit point would lose the speech between the two.
                self._violated(f"finalize at {self._time(asked)} s answered as of {final.end_time} s")
            return
        if not self._due or final.utterance != self._due[0]:
            self._violated(f"final {final.utterance}; due are {list(self._due)}")
        if final.utterance in self._due:
            self._due.remove(final.utterance)
        if final.end_time < self.commit_point - TOLERANCE_S:
            self._violated(f"final {final.utterance} ends before the one before it")
        stable = self._stable_due.pop(final.utterance, "")
        if not final.text.startswith(stable):
            self._violated(f"utterance {final.utterance}: {stable!r} was stable, the final is {final.text!r}")
        self.finals.append(final)
        self._sent.forget_before(self._position(final.end_time))

    def _on_reset(self, reset: wire.ResetDone) -> None:
        if reset.utterance != self._open:
            self._violated(f"reset_done of utterance {reset.utterance}; open is {self._open}")
        self.dropped += self._open is not None
        self._open = None
        self._dropped_seconds += reset.dropped_seconds
        if self._resets:
            self._reset_to, self._reset_after = self._resets.popleft(), self._started

    def _on_done(self, done: wire.Done) -> None:
        self.done = done
        parts = done.speech_seconds + done.silence_seconds + done.dropped_seconds
        if abs(parts - done.audio_seconds) > TOLERANCE_S:
            self._violated(f"{parts:.3f} s of parts for {done.audio_seconds} s of audio")
        if done.utterances != self._started:
            self._violated(f"done counts {done.utterances} utterances, {self._started} have begun")
        if self.missing_finals:
            self._violated(f"{self.missing_finals} utterances have no final")
        if self._finalizes or self._resets:
            self._violated(f"{len(self._finalizes)} finalize and {len(self._resets)} reset were not answered")
        frame_bytes, rate = self._format()
        sent = self._sent.end // frame_bytes / rate
        if self._sent.end and not self.audio_refused and abs(done.audio_seconds - sent) > TOLERANCE_S:
            self._violated(f"done counts {done.audio_seconds} s of audio, {sent:.3f} s were sent")
        if abs(done.dropped_seconds - self._dropped_seconds) > TOTALS_TOLERANCE_S:
            self._violated(f"{done.dropped_seconds} s dropped in all, {self._dropped_seconds:.3f} s told before")
        speech = math.fsum(final.end_time - final.start_time for final in self.finals)
        if abs(done.speech_seconds - speech) > TOTALS_TOLERANCE_S:
            self._violated(f"{done.speech_seconds} s of speech in all, the finals span {speech:.3f} s")

    def _resume_position(self) -> int:
        commit = self._position(self.commit_point)
        words_due_before_reset = self._due and self._due[0] <= self._reset_after
        return commit if words_due_before_reset else max(commit, self._reset_to)

    def _format(self) -> tuple[int, int]:
        """Bytes of one sample of all channels, and samples a second, of the audio sent."""
        width = BYTES_PER_SAMPLE[self.settings.get("encoding", "pcm_s16le")]
        return width * int(self.settings.get("channels", 1)), int(self.settings.get("sample_rate", 16000))

    def _time(self, position: int) -> float:
        """Where a byte lies on the stream's clock, seconds."""
        frame_bytes, rate = self._format()
        return round(float(self.settings.get("start_offset_s", 0.0)) + position / frame_bytes / rate, 6)

    def _position(self, time: float) -> int:
        """The byte at which a time of the stream lies, at a sample's beginning."""
        frame_bytes, rate = self._format()
        # Times come rounded; a thousandth of a sample makes 0.1 s * 16000 the 1600 that was meant.
        samples = (time - float(self.settings.get("start_offset_s", 0.0))) * rate
        return max(0, math.floor(samples + 1e-3)) * frame_bytes
