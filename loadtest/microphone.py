"""A person's recognition stream: a microphone that is always on, what is said into it, and what is made of it.

Frames leave by the metronome, silence included. A connection that is lost is replaced by itself, and what was not final
is sent again (`chorus.reconnect`); meanwhile the person goes on. The stream's clock is the metronome's: second s of the
stream is spoken at `began` + s, however late anything is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from chorus.errors import ChorusError, ContractViolation
from chorus.reconnect import ReconnectingAsrProtocol, Resumed
from chorus.wire import asr as wire
from chorus.wire.common import Error, Ready
from loadtest import events
from loadtest.clips import BETWEEN_S, COVERS_S, normalised
from loadtest.isolation import word_errors
from loadtest.line import Line
from loadtest.metronome import FRAME_S
from loadtest.scene import Scene
from loadtest.utterances import SILENCE, Utterance

PAUSE_FRAMES = 60
"""Silence between two utterances, at least: a final's time tells which of them it is of."""
REMEMBERED = 128
"""Newest utterances, by whose time a final is known, however late: a stream is given up (`line.MOST_UNSENT`) before it
is so far behind. What was forgotten would be taken for somebody else's words."""
AHEAD_BYTES = 256 * 1024
"""Of audio that is sent again, so much is written at once; the rest waits until that was taken."""


@dataclass(eq=False)
class Saying:
    """An utterance that a person says. Times of the stream are seconds on its own clock."""

    utterance: Utterance
    due: float
    """When it was to be said (`time.monotonic`)."""
    ended: asyncio.Future[float]
    """When its speech ended, known once it begins (`time.monotonic`)."""
    final: asyncio.Future[bool]
    """Done when it has its final (True), or is lost or given up (False)."""
    start: float = 0.0
    """Of its first sample, in the stream."""
    began: float = 0.0
    """When the stream's clock was 0 (`time.monotonic`)."""
    finals: list[wire.Final] = field(default_factory=list)
    partial_at: float | None = None
    """When the first partial came."""

    @property
    def speech_start(self) -> float:
        """In the stream."""
        return self.start + self.utterance.speech_start

    @property
    def speech_end(self) -> float:
        """In the stream: the true end of speech."""
        return self.start + self.utterance.speech_end


class Microphone(Line):
    """The stream."""

    service = "asr"
    path = wire.PATH

    def __init__(self, scene: Scene, name: str, choice: random.Random) -> None:
        super().__init__(scene, name, choice)
        self._protocol: ReconnectingAsrProtocol
        self._began = 0.0
        self._frames = 0
        """Spoken so far, in this stream."""
        self._waiting: deque[Saying] = deque()
        """Not begun."""
        self._saying: Saying | None = None
        self._next = 0
        """Frame of it."""
        self._pause = 0
        """Frames of silence before anything is said."""
        self._said: deque[Saying] = deque(maxlen=REMEMBERED)
        """In order, the one being said among them."""

    # What the person does

    def say(self, utterance: Utterance, due: float) -> Saying | None:
        """Say that next; None where there is no stream to say it to."""
        if not self.opened.is_set() or self._closing:
            return None
        loop = asyncio.get_running_loop()
        saying = Saying(utterance, due, loop.create_future(), loop.create_future())
        self._waiting.append(saying)
        return saying

    def close(self) -> None:
        """As `Line.close`: the speech so far still gets its words."""
        self._closing = True
        if self.opened.is_set():
            self._scene.metronome.leave(self._tick)
            self._protocol.hand_over(self._protocol.close())
            self._pump()

    def look(self, now: float) -> None:
        """As `Line.look`; utterances without a final are lost after a time."""
        super().look(now)
        for saying in [each for each in self._said if not each.final.done() and each is not self._saying]:
            if now > self._began + saying.speech_end + self._scene.settings.final_within_s:
                self._over(saying, None)

    # The stream

    def _begin(self) -> None:
        self._protocol = ReconnectingAsrProtocol({"language": "en"}, strict=False)
        self._violations = 0
        self._frames, self._next, self._pause, self._saying = 0, 0, PAUSE_FRAMES, None
        self._said.clear()
        self._waiting.clear()

    def _settings(self) -> dict[str, Any]:
        return self._protocol.connection_settings()

    def _url(self) -> str:
        return self._scene.settings.asr_url

    async def _live(self) -> None:
        self._began = time.monotonic()  # of the first tick, once it comes
        self._scene.metronome.join(self._tick)
        try:
            while (failure := await self._until_ended()) is not None:
                try:
                    await self._reconnect(failure)
                except (ChorusError, OSError) as error:
                    self.fail(f"given up: {error}")
                    break
        finally:
            self._scene.metronome.leave(self._tick)
            spoken_until = self._frames * FRAME_S
            for saying in (*self._said, *self._waiting):
                # What was said to its end and heard by nobody is lost; what the person itself broke off is not.
                unheard = saying in self._said and saying.speech_end <= spoken_until and not self._hung_up
                self._over(saying, None, told=unheard)

    async def _reconnect(self, failure: ChorusError) -> None:
        """Raises the last failure, when trying on does not help."""
        delay = self._protocol.retry_in(failure, time.monotonic())
        self._protocol.interrupted(failure)
        while True:
            await asyncio.sleep(delay)
            try:
                await self._attempt(again=True)
            except (ChorusError, OSError) as error:
                delay = self._protocol.retry_in(error, time.monotonic())
            else:
                self._pump()
                return

    def _receive(self, at: float, frame: str | bytes) -> None:
        try:
            event = self._protocol.receive(frame)
        except ContractViolation:
            event = None  # it is among the violations
        self._tell_violations()
        match event:
            case Ready():
                self._protocol.connected(at)
                self._on_greeted(event)
            case Resumed():
                self._protocol.connected(at)
                if event.lost_seconds:
                    self.fail(f"{event.lost_seconds} s of audio were no longer kept at the reconnect")
                self._on_greeted(event.ready)
            case wire.Partial():
                self._on_partial(at, event)
            case wire.Final():
                self._on_final(at, event)
            case Error() if event.recoverable:
                self.fail(f"{event.code}: {event.message}")

    def _tick(self, due: float) -> None:
        """The next 20 ms have been spoken, at `due`."""
        if not self._frames:
            self._began = due - FRAME_S
        frame = self._next_frame()
        self._frames += 1
        if self._socket is not None and self._protocol.idle:
            self._protocol.hand_over(frame[0])
            self._protocol.next_frame()  # the very same: its frame has been prepared
            self._socket.write(frame[1])
        else:
            # Without a connection it waits. Patience ends (60 s) long before the bound on kept audio is reached.
            self._protocol.hand_over(frame[0])
            self._pump()

    def _next_frame(self) -> tuple[bytes, bytes]:
        saying = self._saying
        if saying is None:
            if self._pause:
                self._pause -= 1
                return SILENCE
            if not self._waiting:
                return SILENCE
            saying = self._saying = self._waiting.popleft()
            saying.start, saying.began = self._frames * FRAME_S, self._began
            if len(self._said) == REMEMBERED:
                self._over(self._said[0], None)  # so many later ones were said meanwhile: it is lost
            self._said.append(saying)
            self._scene.isolation.says(self._name, saying.utterance.words)
            if not saying.ended.done():
                saying.ended.set_result(self._began + saying.speech_end)
        frame = saying.utterance.frames[self._next]
        self._next += 1
        if self._next == len(saying.utterance.frames):
            self._saying, self._next, self._pause = None, 0, PAUSE_FRAMES
        return frame

    def _pump(self) -> None:
        """Write what waits, as far as the server takes it."""
        socket = self._socket
        while socket is not None and socket.unsent < AHEAD_BYTES:
            frame = self._protocol.next_frame()
            if frame is None:
                return
            socket.send(frame)

    # What is heard

    def _on_partial(self, at: float, partial: wire.Partial) -> None:
        if not partial.text:
            return
        for saying in self._said:
            if (
                saying.partial_at is None
                and saying.speech_start < partial.end_time
                and (partial.start_time < saying.speech_end)
            ):
                saying.partial_at = at

    def _on_final(self, at: float, final: wire.Final) -> None:
        saying = self._told_of(final)
        if saying is None or (saying.final.done() and final.start_time > saying.speech_end):
            self._on_loose(final)
        elif saying.final.done():  # it was lost, or has more words than were waited for
            self._tell_breach(saying.utterance.words, normalised(final.text).split())
        else:
            saying.finals.append(final)
            if final.end_time >= saying.speech_end - COVERS_S:
                self._over(saying, at)

    def _told_of(self, final: wire.Final) -> Saying | None:
        """The utterance that a final tells of."""
        begun = [each for each in self._said if each.start - BETWEEN_S <= final.start_time]
        return begun[-1] if begun else None

    def _on_loose(self, final: wire.Final) -> None:
        """Words where nothing was said."""
        heard = normalised(final.text).split()
        if heard and not self._tell_breach([], heard):
            self.fail(f"words where nothing was said: {final.text.strip()!r}, of {final.start_time} s")

    def _over(self, saying: Saying, at: float | None, *, told: bool = True) -> None:
        """An utterance has its final, which came at that time, or never will have one."""
        if saying.final.done():
            return
        saying.final.set_result(at is not None)
        if not saying.ended.done():
            saying.ended.cancel()
        spoken = saying.utterance.words
        heard = normalised(" ".join(final.text for final in saying.finals)).split()
        self._tell_breach(spoken, heard)
        if not told or (self._closing and at is not None):
            return  # `close` hastens a final, whose latency would flatter the service
        self._tell(
            events.Heard,
            spoken=" ".join(spoken),
            heard=" ".join(heard),
            words=len(spoken),
            errors=word_errors(spoken, heard),
            seconds=saying.utterance.speech_s,
            final_s=None if at is None else at - saying.began - saying.speech_end,
            partial_s=None if saying.partial_at is None else saying.partial_at - saying.began - saying.speech_start,
            turn_due=self._scene.epoch(saying.due),
        )

    def _tell_breach(self, spoken: Any, heard: list[str]) -> bool:
        """Whether words are somebody else's; then that is told."""
        library = self._scene.library
        owner = self._scene.isolation.whose(self._name, spoken, heard, library.said if library is not None else ())
        if owner is None:
            return False
        self._tell(
            events.Breach,
            whose=owner.name,
            other_connection_id=owner.connection_id,
            heard=" ".join(heard),
            what=f"heard {' '.join(heard)!r}, which {owner.name or 'one of another worker'} said; "
            f"own: {' '.join(spoken)!r}",
        )
        return True
