"""A recognition stream that outlives its connections, free of I/O.

    protocol = ReconnectingAsrProtocol({"language": "en"})
    loop:
        connect with protocol.connection_settings(), give `receive` every frame, write every `next_frame()`
        the connection ended: failure = protocol.closed(code, reason); none: the stream is over
        wait protocol.retry_in(failure, now), tell protocol.interrupted(failure)

Each connection has an `AsrProtocol`, which checks the contract and keeps what is not final. When it is lost, that
audio goes out again first on the next one, with what was asked at its place in it: `finalize` and `reset` without an
answer, changed settings, `close`. The user sees one stream: times and numbers of utterances go on, and no final
comes twice. What was said of an utterance without a final is void after `Interrupted`, and said anew after `Resumed`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from chorus.asr import AsrProtocol
from chorus.asr import Event as WireEvent
from chorus.errors import ChorusError, ConnectionLost, Refused, StreamError
from chorus.resend import DEFAULT_BYTES
from chorus.wire import asr as wire
from chorus.wire.common import Close, CloseCode, Configured, Error, Ready, encode

PATIENCE_S = 60.0
"""Default of how long a stream may be without a connection that serves before its client gives up."""
FIRST_DELAY_S = 0.25
"""Longest wait before the first attempt; the longest of each later one is twice as long."""
LONGEST_DELAY_S = 8.0
"""Beyond this it grows no more."""
SENT_AGAIN = ("config", "finalize", "reset", "close")
"""Types of messages that a reconnect must not forget."""
RETRIED_CLOSE_CODES = (None, CloseCode.CLIENT_GONE, CloseCode.INTERNAL, CloseCode.GOING_AWAY, CloseCode.OVERLOADED)
"""None is a connection without a close frame."""
RETRIED_ERRORS = ("internal", "overloaded")
RETRIED_STATUSES = (502, 503, 504)
"""Of a refused handshake: full or draining, or a proxy whose replica has just gone."""


class Interrupted(msgspec.Struct, tag="interrupted", tag_field="type", kw_only=True):
    """Client: the connection was lost, another will be tried. A partial that is being shown is void."""

    reason: str


class Resumed(msgspec.Struct, tag="resumed", tag_field="type", kw_only=True):
    """Client: the stream goes on over another connection."""

    time: float
    """Seconds on the stream's clock from which everything is heard anew: nothing later was final."""
    lost_seconds: float
    """Audio before `time` that was in no final and no longer kept; 0 unless more was due than `resend_bytes`."""
    ready: Ready


Event = WireEvent | Interrupted | Resumed
Numbered = TypeVar("Numbered", bound=wire.SpeechStart | wire.Partial | wire.SpeechEnd | wire.Final | wire.ResetDone)


@dataclass(eq=False)
class _Message:
    """A text frame of the user, from when it is given to when nothing of it would have to be sent again."""

    frame: str
    type: str
    settings: dict[str, Any]
    """Of a `config`."""
    position: int = 0
    """Bytes of audio written before it over this connection."""
    waiting: bool = False
    """Whether it was written over this connection, and its answer is to come."""
    effect: Configured | wire.ResetDone | None = None
    """What it did: a `config`'s holds over every connection, a `reset`'s over the one that told it."""


class ReconnectingAsrProtocol:
    """The state of one recognition stream over any number of connections."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        strict: bool = True,
        patience_s: float = PATIENCE_S,
        resend_bytes: int = DEFAULT_BYTES,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`settings` are those of the first connection; `resend_bytes` bounds the audio kept for the next."""
        self._settings = dict(settings)
        self._strict = strict
        self._resend_bytes = resend_bytes
        self._retries = _Retries(patience_s, jitter)
        self._connection = self._new_connection(float(settings.get("start_offset_s") or 0))
        self._connections = 0
        """How many have been ready."""
        self._outgoing: deque[bytes | _Message] = deque()
        """What is to be written over the present connection, or the next."""
        self._unwritten = 0
        """Bytes of audio in it."""
        self._recovering = False
        """From the loss of a connection until the next has been sent everything that waited."""
        self._written = 0
        """Bytes of audio written over this connection."""
        self._messages: list[_Message] = []
        """Those written over this connection that might have to be sent again."""
        self._dropped = 0.0
        """Seconds that `reset` dropped over this connection, of audio that is kept no more."""
        self._changed: dict[str, Any] = {}
        """Settings changed before the audio that is still kept."""
        self._restoring = False
        """Whether they are still to be told to this connection, before anything else."""
        self._numbers = 0
        """Utterances settled before this connection, whose own begin at 1."""
        self._before = wire.Done(
            audio_seconds=0.0, speech_seconds=0.0, silence_seconds=0.0, dropped_seconds=0.0, utterances=0
        )
        """Totals of the connections before this one, as far as they count."""
        self._lost_seconds = 0.0
        """Not told yet."""
        self._violations: list[str] = []
        self.ready: Ready | None = None
        """Of the newest connection."""
        self.finals: list[wire.Final] = []
        """As in `AsrProtocol`, of all connections."""
        self.done: wire.Done | None = None
        """Totals of the whole stream: audio that was lost counts as dropped, audio that was sent again counts once."""

    # What the user asks for: the same frames as `AsrProtocol` makes

    def audio(self, data: bytes) -> bytes:
        """The frame for some audio, cut anywhere."""
        return data

    def finalize(self) -> str:
        """The frame that ends the current utterance now; answered by one final with `from_finalize`."""
        return encode(wire.Finalize())

    def reset(self) -> str:
        """The frame that drops the current utterance; answered by `reset_done`.

        Where utterances before it are without finals when the connection is lost, it is answered once more.
        """
        return encode(wire.Reset())

    def configure(self, **settings: Any) -> str:
        """The frame that changes settings; answered by `configured`."""
        return self._connection.configure(**settings)

    def close(self) -> str:
        """The frame after which the server delivers the rest, sends `done` and closes."""
        return encode(Close())

    # What is known

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
        return self._connection.missing_finals

    @property
    def settings(self) -> dict[str, Any]:
        """All settings in force, as the server last told them."""
        return self._connection.settings

    @property
    def violations(self) -> list[str]:
        """Every promise that the server broke, over any connection."""
        return self._violations + self._connection.violations

    # What a driver does

    def connection_settings(self) -> dict[str, Any]:
        """The settings to open the next connection with."""
        return self._settings | ({"start_offset_s": self._connection.commit_point} if self._connections else {})

    def hand_over(self, frame: str | bytes) -> None:
        """Take a frame of the user, to be written in its turn."""
        if isinstance(frame, bytes):
            self._unwritten += len(frame)
            self._outgoing.append(frame)
        else:
            content = msgspec.json.decode(frame, type=dict[str, Any])
            self._outgoing.append(_Message(frame, content.pop("type", ""), content))

    @property
    def has_room(self) -> bool:
        """Whether the user may hand over more; without a connection that is until `resend_bytes` wait."""
        return not self._outgoing or (self._recovering and self._unwritten <= self._resend_bytes)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not (self._outgoing or self._restoring)

    def next_frame(self) -> str | bytes | None:
        """The frame to write now; None while there is none. It counts as written over this connection."""
        if self._restoring:
            self._restoring = False
            frame = self._connection.configure(**self._changed)
            return self._written_message(_Message(frame, "config", dict(self._changed), effect=Configured(settings={})))
        if not self._outgoing:
            self._recovering = False
            return None
        item = self._outgoing.popleft()
        self._recovering = self._recovering and bool(self._outgoing)
        if isinstance(item, _Message):
            return self._written_message(item)
        self._unwritten -= len(item)
        self._written += len(item)
        return self._connection.audio(item)

    def _written_message(self, message: _Message) -> str:
        message.position, message.waiting = self._written, True
        if message.type in SENT_AGAIN:
            self._messages.append(message)
        if message.type == "finalize":
            return self._connection.finalize()
        if message.type == "reset":
            return self._connection.reset()
        return message.frame

    def receive(self, frame: str | bytes) -> Event | None:
        """The event of a frame; None for what tells the user nothing. Raises `ContractViolation`."""
        event = self._connection.receive(frame)
        match event:
            case Ready():
                return self._on_ready(event)
            case Configured() | Error(code="bad_config"):
                return self._on_config_answer(event)
            case wire.SpeechStart() | wire.Partial() | wire.SpeechEnd():
                return self._numbered(event)
            case wire.Final():
                return self._on_final(event)
            case wire.ResetDone():
                if (asked := self._answered("reset")) is not None:
                    asked.effect = event
                self._settle()
                return self._numbered(event)
            case wire.Done():
                self.done = _sum(self._before, event)
                return self.done
            case Error(recoverable=False) if event.code in RETRIED_ERRORS:
                return None  # it is told as the reason of the interruption, or raised
        return event

    def closed(self, code: int | None, reason: str = "") -> ChorusError | None:
        """What the end of the connection means; None for the stream's own. `code` is None without a close frame."""
        return self._connection.closed(code, reason)

    def retry_in(self, error: ChorusError | OSError, now: float) -> float:
        """Seconds to wait before the next attempt, after a lost connection or a failed attempt. Raises `error`.

        It is raised where another attempt can't help, where patience is at its end, and where the server has
        refused some of the audio, so that what to send again is not known. `now` is in monotonic seconds.
        """
        if self._connection.audio_refused:
            raise error
        return self._retries.wait(error, now)

    def connected(self, now: float) -> None:
        """The connection is ready, at `now` in monotonic seconds."""
        self._retries.connected(now)

    def interrupted(self, error: ChorusError | OSError) -> Interrupted:
        """Give up the connection, and put what has to be sent again before what waits."""
        old = self._connection
        offset, frames = old.to_resend()
        begin = self._written - sum(map(len, frames))
        for message in self._messages:
            message.waiting = False
        self._settle(begin)
        lost = max(0.0, round(offset - old.resume_point, 6))
        self._lost_seconds += lost
        self._before = _sum(self._before, self._totals(old, offset, lost))
        self._numbers += old.settled
        self._violations += old.violations
        self._resend(begin, frames)
        self._connection = self._new_connection(offset)
        self._written, self._dropped, self._messages = 0, 0.0, []
        self._restoring = bool(self._changed)
        self._recovering = True
        return Interrupted(reason=str(error))

    def _new_connection(self, offset: float) -> AsrProtocol:
        connection = AsrProtocol(strict=self._strict, resend_bytes=self._resend_bytes)
        connection.settings = {"start_offset_s": offset}  # until `ready` tells all of them
        return connection

    def _totals(self, old: AsrProtocol, offset: float, lost: float) -> wire.Done:
        """What counts of a connection that was lost: its audio up to what is sent again."""
        audio = offset - float(old.settings.get("start_offset_s", 0.0))
        dropped = min(audio, self._dropped + lost)
        speech = min(audio - dropped, sum(final.end_time - final.start_time for final in old.finals))
        return wire.Done(
            audio_seconds=audio,
            speech_seconds=speech,
            silence_seconds=audio - speech - dropped,
            dropped_seconds=dropped,
            utterances=old.settled,
        )

    def _settle(self, begin: int | None = None) -> None:
        """Forget the messages that have done their work before the byte from which audio would be sent again."""
        if begin is None:
            begin = self._connection.resend_position
        for message in [each for each in self._messages if each.position <= begin and not each.waiting]:
            if isinstance(message.effect, Configured):
                self._changed |= message.settings
                self._changed.pop("start_offset_s", None)  # the next connection has its own
                self._messages.remove(message)
            elif isinstance(message.effect, wire.ResetDone):
                self._dropped += message.effect.dropped_seconds
                self._messages.remove(message)

    def _resend(self, begin: int, frames: list[bytes]) -> None:
        """Put the audio, and the messages at their places in it, before what waits."""
        again: list[bytes | _Message] = []
        messages = deque(self._messages)
        for message in messages:
            if message.type == "reset":
                message.effect = None
        position = begin
        for frame in frames:
            while messages and messages[0].position <= position:
                again.append(messages.popleft())
            again.append(frame)
            position += len(frame)
        self._outgoing.extendleft(reversed([*again, *messages]))
        self._unwritten += sum(map(len, frames))

    def _on_ready(self, ready: Ready) -> Event:
        self.ready = ready
        self._connections += 1
        if self._connections == 1:
            return ready
        lost, self._lost_seconds = self._lost_seconds, 0.0
        return Resumed(time=self._connection.commit_point, lost_seconds=lost, ready=ready)

    def _on_config_answer(self, answer: Configured | Error) -> Event | None:
        asked = self._answered("config")
        if asked is None:
            return answer
        if isinstance(answer, Error):
            self._messages.remove(asked)  # it has changed nothing
            return answer
        told, asked.effect = asked.effect is not None, answer
        self._settle()
        return None if told else answer

    def _on_final(self, final: wire.Final) -> wire.Final:
        if final.from_finalize and (asked := self._answered("finalize")) is not None:
            self._messages.remove(asked)
        if final.utterance is None:
            return final
        final = self._numbered(final)
        self.finals.append(final)
        self._settle()
        self._retries.renew()
        return final

    def _answered(self, kind: str) -> _Message | None:
        """The oldest message of a kind that waits, and waits no more; None where the server was not asked."""
        message = next((each for each in self._messages if each.type == kind and each.waiting), None)
        if message is not None:
            message.waiting = False
        return message

    def _numbered(self, event: Numbered) -> Numbered:
        if event.utterance is None:
            return event
        return msgspec.structs.replace(event, utterance=event.utterance + self._numbers)


@dataclass
class _Retries:
    """When to try again, and when to give up."""

    patience_s: float
    jitter: Callable[[float, float], float]
    attempts: int = 0
    since: float | None = None
    """When the trouble began, monotonic seconds."""
    connected_at: float | None = None
    """When the present connection was ready."""

    def wait(self, error: ChorusError | OSError, now: float) -> float:
        """Seconds to wait. Raises `error`."""
        if not _worth_another(error):
            raise error
        if self.connected_at is not None and now - self.connected_at >= self.patience_s:
            self.renew()
        self.connected_at = None
        self.since = now if self.since is None else self.since
        # Each waits a random time: the many streams of a replica that goes away do not all return at once.
        delay = self.jitter(0.0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self.attempts))
        delay += (error.retry_after or 0.0) if isinstance(error, Refused) else 0.0
        if now + delay > self.since + self.patience_s:
            raise error
        self.attempts += 1
        return delay

    def connected(self, now: float) -> None:
        """A connection alone does not end the trouble: it may break each time at the same audio."""
        self.connected_at = now

    def renew(self) -> None:
        """The stream got on: the next trouble is another."""
        self.attempts, self.since = 0, None


def _worth_another(error: ChorusError | OSError) -> bool:
    match error:
        case Refused():
            return error.status in RETRIED_STATUSES
        case StreamError():
            return error.code in RETRIED_ERRORS
        case ConnectionLost():
            return error.close_code in RETRIED_CLOSE_CODES
    return isinstance(error, OSError)


def _sum(one: wire.Done, other: wire.Done) -> wire.Done:
    """Both totals together, with silence as what is neither speech nor dropped, whatever rounding does."""
    audio = round(one.audio_seconds + other.audio_seconds, 6)
    dropped = round(one.dropped_seconds + other.dropped_seconds, 6)
    speech = round(one.speech_seconds + other.speech_seconds, 6)
    return wire.Done(
        audio_seconds=audio,
        speech_seconds=speech,
        silence_seconds=round(audio - speech - dropped, 6),
        dropped_seconds=dropped,
        utterances=one.utterances + other.utterances,
    )
