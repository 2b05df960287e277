"""The recognition client that outlives its connections: whatever breaks, the user sees what an unbroken stream says."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus.errors import ChorusError, ConnectionLost, ContractViolation, Refused, StreamError
from chorus.reconnect import Event, Interrupted, ReconnectingAsrProtocol, Resumed
from chorus.wire import asr as wire
from chorus.wire.common import Configured, Error, Ready
from tests.unit.modelled import END_HOPS, HOP, ModelledServer, hops, of_words

pytestmark = pytest.mark.unit

SETTINGS = {"encoding": "mulaw", "sample_rate": 8000, "language": "en"}
LOST = ConnectionLost(None)
PAUSE = [0] * END_HOPS


class Conversation:
    """A client and the server of its present connection; nothing moves between them but by a step of the test."""

    def __init__(self, **options: Any) -> None:
        self.protocol = ReconnectingAsrProtocol(SETTINGS, jitter=lambda least, most: most, **options)
        self.events: list[Event] = []
        self.connect()

    def connect(self) -> None:
        self.server = ModelledServer(self.protocol.connection_settings())
        self.protocol.connected(0.0)
        self.deliver(1)  # `ready`

    def say(self, *words: int) -> None:
        """Hand over audio: one hop for each word, 0 for silence."""
        self.protocol.hand_over(self.protocol.audio(hops(words)))

    def write(self, frames: int = 10**9) -> None:
        while frames and (frame := self.protocol.next_frame()) is not None:
            self.server.receive(frame)
            frames -= 1

    def deliver(self, messages: int = 10**9) -> None:
        for _ in range(min(messages, len(self.server.outbox))):
            event = self.protocol.receive(self.server.outbox.popleft())
            if event is not None:
                self.events.append(event)

    def go_on(self) -> None:
        """All that has been handed over is written, heard, answered and read."""
        self.write()
        self.server.think()
        self.deliver()

    def lose(self, error: ChorusError = LOST) -> None:
        """What the server has not delivered is gone."""
        self.protocol.retry_in(error, 0.0)
        self.events.append(self.protocol.interrupted(error))
        self.connect()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def heard(self) -> list[tuple[int | None, str, str, bool]]:
        return [(each.utterance, each.text, each.language, each.from_finalize) for each in self.of(wire.Final)]


def both_whole(broken: Conversation, whole: Conversation) -> None:
    """A stream that was interrupted says in the end exactly what one says that was not."""
    assert broken.of(wire.Final) == whole.of(wire.Final)
    assert broken.protocol.finals == [each for each in broken.of(wire.Final) if each.utterance is not None]
    assert [each.settings | {"start_offset_s": 0} for each in broken.of(Configured)] == [
        each.settings for each in whole.of(Configured)
    ]
    assert len(broken.of(Error)) == len(whole.of(Error))
    (told,), (expected,) = broken.of(wire.Done), whole.of(wire.Done)
    assert msgspec.to_builtins(told) == pytest.approx(msgspec.to_builtins(expected), abs=1e-6)
    assert told.audio_seconds == pytest.approx(told.speech_seconds + told.silence_seconds + told.dropped_seconds)
    assert broken.protocol.violations == []


def test_an_unbroken_stream_is_as_any_other() -> None:
    """No event of the client's own, the server's numbers and totals."""
    talk = Conversation()
    for word in (1, 2):
        talk.say(0, word, *PAUSE)
    talk.protocol.hand_over(talk.protocol.close())
    talk.go_on()
    assert talk.heard == [(1, "w1", "en", False), (2, "w2", "en", False)]
    assert isinstance(talk.events[0], Ready)
    assert not talk.of(Interrupted)
    assert not talk.of(Resumed)
    assert talk.protocol.finished
    assert talk.protocol.text == "w1 w2"
    assert talk.protocol.closed(1000) is None


def cut(talk: Conversation, moment: str) -> None:
    """Say two utterances and lose the connection at a moment of the second."""
    protocol = talk.protocol
    talk.say(0, 1, *PAUSE)
    talk.go_on()
    if moment == "before it":
        talk.lose()
    talk.say(0, 0, 2)
    talk.write()
    talk.deliver()
    if moment == "in its middle":
        talk.lose()
    talk.say(3, *PAUSE)
    if moment == "before its end is written":
        talk.lose()
    talk.write()
    if moment == "before its end is told":
        talk.lose()
    talk.deliver()
    if moment == "before its final":
        talk.lose()
    talk.write()
    talk.server.think()
    if moment == "while its final is on the way":
        talk.lose()
    talk.go_on()
    if moment == "after its final":
        talk.lose()
    talk.say(0, 4, 0)
    talk.write()
    protocol.hand_over(protocol.close())
    if moment == "before close is written":
        talk.lose()
    talk.write()
    talk.deliver()
    if moment == "after close":
        talk.lose()
    talk.write()
    talk.server.think()
    talk.deliver(1)
    if moment == "before done":
        talk.lose()
    talk.go_on()


MOMENTS = [
    "before it",
    "in its middle",
    "before its end is written",
    "before its end is told",
    "before its final",
    "while its final is on the way",
    "after its final",
    "before close is written",
    "after close",
    "before done",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_lost_connection_costs_no_word(moment: str) -> None:
    """Whenever it is lost: the same finals, each once, with the same times and numbers, and the same totals."""
    whole, broken = Conversation(), Conversation()
    cut(whole, "never")
    cut(broken, moment)
    both_whole(broken, whole)
    assert len(broken.of(Interrupted)) == len(broken.of(Resumed)) == 1
    assert broken.of(Resumed)[0].lost_seconds == 0
    numbers = [event.utterance for event in broken.events[broken.events.index(broken.of(Resumed)[0]) :][1:-1]]
    assert numbers == sorted(numbers), "after the reconnect they go on from the newest final"


def test_the_audio_goes_on_where_nothing_was_final() -> None:
    """From the newest final's end, with the clock at that time; `Resumed` tells the same time."""
    talk = Conversation()
    talk.say(0, 1, *PAUSE)
    talk.go_on()
    talk.say(0, 2)
    talk.write()
    talk.lose()
    commit = talk.protocol.finals[0].end_time
    assert talk.server.settings["start_offset_s"] == commit == talk.of(Resumed)[0].time
    talk.write()
    assert bytes(talk.server.audio) == hops([0, 1, *PAUSE, 0, 2])[round(commit * 8000) :]


def test_a_finalize_without_an_answer_is_asked_again_in_its_place() -> None:
    """It ends the utterance at the same sample; one that was answered is not asked again."""
    whole, broken = Conversation(), Conversation()
    for talk in (whole, broken):
        talk.say(0, 1)
        talk.protocol.hand_over(talk.protocol.finalize())
        talk.go_on()
        talk.say(2)
        talk.protocol.hand_over(talk.protocol.finalize())
        talk.say(3)
        talk.write()
        if talk is broken:
            talk.lose()
        talk.say(4, *PAUSE)
        talk.protocol.hand_over(talk.protocol.close())
        talk.go_on()
    assert broken.heard == [(1, "w1", "en", True), (2, "w2", "en", True), (3, "w3 w4", "en", False)]
    both_whole(broken, whole)


def test_a_reset_without_an_answer_is_asked_again_in_its_place() -> None:
    """What it dropped stays dropped, and is counted once."""
    whole, broken = Conversation(), Conversation()
    for talk in (whole, broken):
        talk.say(0, 1)
        talk.protocol.hand_over(talk.protocol.reset())
        talk.write()
        if talk is broken:
            talk.lose()
        talk.say(2, *PAUSE)
        talk.go_on()
        if talk is broken:
            talk.lose()
        talk.protocol.hand_over(talk.protocol.close())
        talk.go_on()
    assert broken.heard == [(2, "w2", "en", False)]
    assert [each.utterance for each in broken.of(wire.ResetDone)] == [1]
    assert broken.of(wire.Done)[0].dropped_seconds > 0
    both_whole(broken, whole)


def test_a_reset_does_not_take_the_words_before_it() -> None:
    """It is answered while an earlier utterance waits for its final: that one is heard again, and reset once more."""
    whole, broken = Conversation(), Conversation()
    for talk in (whole, broken):
        talk.say(0, 1, *PAUSE, 2)
        talk.protocol.hand_over(talk.protocol.reset())
        talk.write()
        talk.deliver()
        assert [each.utterance for each in talk.of(wire.ResetDone)] == [2]
        if talk is broken:
            talk.lose()
        talk.say(3, *PAUSE)
        talk.protocol.hand_over(talk.protocol.close())
        talk.go_on()
    assert broken.heard == [(1, "w1", "en", False), (3, "w3", "en", False)]
    both_whole(broken, whole)


def test_settings_are_in_force_where_they_were() -> None:
    """Changed before what is sent again or within it, answered or not; a wrong one is not tried again."""
    whole, broken = Conversation(), Conversation()
    for talk in (whole, broken):
        configure = talk.protocol.configure
        talk.protocol.hand_over(configure(language="de", prompt="x"))
        talk.say(0, 1, *PAUSE)
        talk.protocol.hand_over(configure(language="nonsense"))
        talk.go_on()
        talk.say(0, 2, *PAUSE)
        talk.protocol.hand_over(configure(language="fr"))
        talk.say(3, *PAUSE)
        talk.write()
        talk.deliver()
        talk.protocol.hand_over(configure(language="es"))
        talk.say(4, *PAUSE)
        talk.write()
        if talk is broken:
            talk.lose()
            talk.write()
            talk.lose()
        talk.protocol.hand_over(talk.protocol.close())
        talk.go_on()
    assert [each[1:3] for each in broken.heard] == [("w1", "de"), ("w2", "de"), ("w3", "fr"), ("w4", "es")]
    assert broken.protocol.settings["prompt"] == "x"
    both_whole(broken, whole)


def test_what_is_said_without_a_connection_waits_for_the_next() -> None:
    """Audio and questions, as long as there is room for them."""
    talk = Conversation(resend_bytes=10 * HOP)
    talk.say(1)
    talk.write()
    talk.protocol.interrupted(LOST)
    for word in range(2, 11):
        assert talk.protocol.has_room
        talk.say(word)
    talk.say(11)
    assert not talk.protocol.has_room
    talk.connect()
    talk.write()
    assert talk.protocol.has_room
    assert bytes(talk.server.audio) == hops(range(1, 12))
    talk.say(12)
    assert not talk.protocol.has_room, "with a connection, each frame is written before the next is taken"


def test_audio_that_is_kept_no_more_is_told() -> None:
    """How many seconds, and they count as dropped: no total hides them."""
    talk = Conversation(resend_bytes=10 * HOP)
    for word in range(1, 31):
        talk.say(word)
    talk.write()
    talk.lose()
    (resumed,) = talk.of(Resumed)
    assert resumed.lost_seconds == pytest.approx(20 * HOP / 8000)
    assert resumed.time == pytest.approx(20 * HOP / 8000)
    talk.protocol.hand_over(talk.protocol.close())
    talk.go_on()
    assert talk.heard == [(1, of_words(range(21, 31)), "en", False)]
    done = talk.of(wire.Done)[0]
    assert done.dropped_seconds == pytest.approx(resumed.lost_seconds)
    assert done.audio_seconds == pytest.approx(30 * HOP / 8000)
    talk = Conversation()
    talk.lose()
    assert talk.of(Resumed)[0].lost_seconds == 0


def test_audio_that_the_server_refused_ends_the_stream() -> None:
    """Nobody knows then which byte a time of the server's means: words might be lost or come twice."""
    talk = Conversation()
    talk.protocol.receive(
        msgspec.json.encode(Error(code="unsupported_audio", message="NaN", recoverable=True)).decode()
    )
    with pytest.raises(ConnectionLost):
        talk.lose()


@pytest.mark.parametrize(
    "error",
    [
        *(ConnectionLost(code) for code in (None, 1001, 1011, 1012, 1013)),
        *(StreamError(code, "") for code in ("internal", "overloaded")),
        *(Refused(status, "x", "") for status in (502, 503, 504)),
        ConnectionRefusedError(),
        TimeoutError(),
    ],
    ids=repr,
)
def test_what_another_attempt_may_mend(error: ChorusError | OSError) -> None:
    """A wait, and then it is tried."""
    assert ReconnectingAsrProtocol({}).retry_in(error, 0.0) <= 0.25


@pytest.mark.parametrize(
    "error",
    [
        *(ConnectionLost(code) for code in (1000, 1002, 1008, 1009)),
        *(StreamError(code, "") for code in ("idle_timeout", "too_slow", "too_large")),
        *(Refused(status, "x", "") for status in (400, 401, 403, 404)),
        ContractViolation("x"),
    ],
    ids=repr,
)
def test_what_another_attempt_does_not_mend(error: ChorusError) -> None:
    """It is raised at once."""
    with pytest.raises(type(error)):
        ReconnectingAsrProtocol({}).retry_in(error, 0.0)


def test_a_fatal_error_is_told_as_the_reason() -> None:
    """The user does not get it as an event when the stream goes on, and gets it when it does not."""
    talk = Conversation()
    for code, seen in (("internal", 0), ("too_slow", 1)):
        talk.protocol.receive(talk.server.outbox.popleft()) if talk.server.outbox else None
        talk.server.send(Error(code=code, message="so it is", recoverable=False))
        talk.deliver()
        assert len(talk.of(Error)) == seen
        failure = talk.protocol.closed(1011 if code == "internal" else 1008)
        assert isinstance(failure, StreamError)
        if not seen:
            talk.lose(failure)
    assert talk.of(Interrupted)[0].reason == "internal: so it is"


def test_waits_grow_up_to_a_bound_and_then_patience_ends() -> None:
    """Twice as long each time, never longer than the bound; the last error is raised within the patience."""
    protocol = ReconnectingAsrProtocol({}, patience_s=60, jitter=lambda _, most: most)
    now, waits = 100.0, []
    with pytest.raises(ConnectionRefusedError, match="the last"):
        while True:
            waits.append(protocol.retry_in(ConnectionRefusedError("the last"), now))
            now += waits[-1]
    assert waits == [0.25, 0.5, 1, 2, 4, *[8] * 6]
    assert now <= 160


def test_waits_are_random() -> None:
    """So that the streams of a replica that goes away do not come back in one moment."""
    protocol = ReconnectingAsrProtocol({}, jitter=random.Random(1).uniform)
    assert len({protocol.retry_in(LOST, 0.0) for _ in range(5)}) == 5


def test_retry_after_is_honoured() -> None:
    """At least so long, and not at all where it is longer than the patience."""
    full = Refused(503, "overloaded", "", retry_after=5)
    assert ReconnectingAsrProtocol({}, jitter=lambda least, _: least).retry_in(full, 0.0) == 5
    with pytest.raises(Refused):
        ReconnectingAsrProtocol({}, patience_s=4).retry_in(full, 0.0)


def test_patience_is_for_one_trouble() -> None:
    """A final or a connection that lasted begins it anew; connections that break at once do not."""
    talk = Conversation(patience_s=60)
    protocol = talk.protocol
    assert [protocol.retry_in(LOST, 0.0) for _ in range(3)] == [0.25, 0.5, 1]
    protocol.connected(10.0)
    assert protocol.retry_in(LOST, 11.0) == 2
    protocol.connected(20.0)
    talk.say(1, *PAUSE)
    talk.go_on()
    assert protocol.retry_in(LOST, 21.0) == 0.25, "it got on"
    protocol.connected(30.0)
    assert protocol.retry_in(LOST, 90.0) == 0.25, "it lasted"
    for now in range(91, 140):
        protocol.connected(now)
        protocol.retry_in(LOST, now + 0.5)
    with pytest.raises(ConnectionLost):
        protocol.retry_in(LOST, 151.0)


def test_answered_messages_are_not_kept_for_ever() -> None:
    """A client that asks and changes settings all day holds no more for it."""
    talk = Conversation(resend_bytes=20 * HOP)
    for _ in range(100):
        for frame in (talk.protocol.configure(language="de"), talk.protocol.finalize(), talk.protocol.reset()):
            talk.protocol.hand_over(frame)
        talk.say(0)
        talk.go_on()
    for _ in range(100):
        talk.protocol.hand_over(talk.protocol.configure(language="de"))
        talk.say(0)
        talk.go_on()
    assert len(talk.protocol._messages) < 30
    assert talk.protocol.retry_in(LOST, 0.0)


Step = tuple[str, Any]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.lists(st.booleans(), min_size=1, max_size=12)),
        st.tuples(st.sampled_from(["finalize", "reset"]), st.none()),
        st.tuples(st.just("config"), st.sampled_from(["en", "de", "fr", "nonsense"])),
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("think"), st.none()),
        st.tuples(st.just("deliver"), st.integers(1, 6)),
        st.tuples(st.just("lose"), st.none()),
    ),
    max_size=40,
)


def perform(steps: list[Step], *, losing: bool) -> Conversation:
    """Take the steps, then close and wait for the end."""
    talk, protocol = Conversation(), None
    protocol = talk.protocol
    numbers: Iterator[int] = iter(range(1, 10**9))
    for kind, value in [*steps, ("close", None)]:
        match kind:
            case "say":
                talk.say(*(next(numbers) % 250 + 1 if spoken else 0 for spoken in value))
            case "finalize" | "reset" | "close":
                protocol.hand_over(getattr(protocol, kind)())
            case "config":
                protocol.hand_over(protocol.configure(language=value))
            case "write":
                talk.write(value)
            case "think":
                talk.server.think()
            case "deliver":
                talk.deliver(value)
            case "lose" if losing:
                talk.lose()
    talk.go_on()
    return talk


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_whatever_breaks_the_words_are_those_of_an_unbroken_stream(steps: list[Step]) -> None:
    """Any order of speech, questions, settings and lost connections, with anything on its way at any moment."""
    whole, broken = perform(steps, losing=False), perform(steps, losing=True)
    assert broken.protocol.finished
    both_whole(broken, whole)
    times = [(each.start_time, each.end_time) for each in broken.protocol.finals]
    flat = [time for pair in times for time in pair]
    assert flat == sorted(flat)
    voided: deque[Any] = deque()
    for event in broken.events:
        if isinstance(event, wire.SpeechStart):
            assert event.utterance not in voided, "an utterance begins twice without an interruption between"
            voided.append(event.utterance)
        elif isinstance(event, Interrupted):
            voided.clear()
