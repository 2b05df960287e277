"""A person's synthesis stream: what it asks to be spoken, what it hears, and whether that is its own.

Each request is named by its person, so that a sentence of somebody else's shows by its name, and all audio is compared
with a rendering made before the run, so that samples of somebody else's show whatever they are named.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from chorus.errors import ContractViolation
from chorus.tts import Audio, TtsProtocol
from chorus.wire import tts as wire
from chorus.wire.common import Error, Ready
from loadtest import events
from loadtest.figures import gaps
from loadtest.isolation import Owner
from loadtest.line import Line
from loadtest.references import STILL, same
from loadtest.scene import Scene

Outcome = Literal["complete", "cancelled", "cut", "overloaded"]


@dataclass(eq=False)
class Reply:
    """A text that a person asks for. Times are of `time.monotonic`."""

    text: str
    due: float
    """When it was to be asked for."""
    asked: float
    """When it was: later than `due` where the one before took too long."""
    request_id: str
    first: asyncio.Future[bool]
    """Done with the first audio (True), or when it is known that there will be none."""
    over: asyncio.Future[Outcome]
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    """When each piece of audio came, and how many seconds it sounds."""
    audio: bytearray = field(default_factory=bytearray)
    cancelled: bool = False
    """Whether the person has asked for that."""

    @property
    def seconds(self) -> float:
        """How long all that came sounds."""
        return sum(seconds for _, seconds in self.arrivals)

    @property
    def played_at(self) -> float:
        """When a player has played all of it, gaps included."""
        if not self.arrivals:
            return self.due
        return self.arrivals[0][0] + self.seconds + sum(gaps(self.arrivals))


class Player(Line):
    """The stream."""

    service = "tts"
    path = wire.PATH

    def __init__(
        self, scene: Scene, name: str, choice: random.Random, number: tuple[str, int], bytes_per_s: float | None = None
    ) -> None:
        """`number` is the person's kind and number, by which its texts were rendered; `bytes_per_s` slows reading."""
        super().__init__(scene, name, choice, bytes_per_s)
        self._number = number
        self._protocol: TtsProtocol = TtsProtocol(strict=False)
        self._asked = 0
        self._replies: dict[str, Reply] = {}
        """Those that are not over."""
        self._crossed: set[str] = set()
        """Replies that were complete when their cancelling was on its way: it is answered by an error."""
        self._strangers: set[str] = set()
        """Requests of others that have been told."""
        self._judging: set[asyncio.Task[None]] = set()

    # What the person does

    def ask(self, text: str, due: float) -> Reply:
        """Ask for a text now; without a connection, as soon as there is one."""
        self._asked += 1
        loop = asyncio.get_running_loop()
        request_id = f"{self._name}.{self._asked}"
        reply = Reply(text, due, time.monotonic(), request_id, loop.create_future(), loop.create_future())
        self._replies[reply.request_id] = reply
        self._request(reply)
        return reply

    def cancel(self, reply: Reply) -> None:
        """Barge in; nothing happens where it is over."""
        if reply.over.done() or reply.cancelled:
            return
        reply.cancelled = True
        if self._socket is not None:
            self._send(self._protocol.cancel(reply.request_id))
        else:
            self._over(reply, "cancelled")

    def close(self) -> None:
        """As `Line.close`; what is being spoken is spoken to its end, and a slow reader reads it at once."""
        self._closing = True
        if self._socket is not None:
            self._socket.read_fast()
        self._send(self._protocol.close())

    def look(self, now: float) -> None:
        """As `Line.look`; a reply that is not complete in time has failed."""
        super().look(now)
        for reply in list(self._replies.values()):
            # A slow reader's reply takes as long as it reads.
            if self._bytes_per_s is None and now > reply.asked + self._scene.settings.reply_within_s:
                self.fail(f"{reply.text!r} was not complete after {self._scene.settings.reply_within_s:g} s")
                self.cancel(reply)
                self._over(reply, "cut")

    @property
    def reads_on_at(self) -> float:
        """When a slow reader is done with what has come so far (`time.monotonic`); in the past for everybody else."""
        return self._socket.resting_until if self._socket is not None else 0.0

    async def judged(self) -> None:
        """Until everything that was heard has been compared."""
        while self._judging:
            await asyncio.wait(self._judging)

    # The stream

    def _begin(self) -> None:
        self._protocol = TtsProtocol(strict=False)
        self._violations = 0
        self._crossed.clear()

    def _settings(self) -> dict[str, Any]:
        return {**STILL, "voice": self._scene.settings.voice or None}

    def _url(self) -> str:
        return self._scene.settings.tts_url

    async def _live(self) -> None:
        try:
            while True:
                for reply in list(self._replies.values()):  # asked for while there was no connection
                    self._request(reply)
                if await self._until_ended() is None or self._closing:
                    return
                for reply in [each for each in self._replies.values() if each.arrivals]:
                    self._over(reply, "cut")
                await asyncio.sleep(self.delay(0))
                await self._open(patient=True, again=True)
                if self._closing:
                    return
        finally:
            for reply in list(self._replies.values()):
                self._over(reply, "cancelled" if self._hung_up else "cut")

    def _request(self, reply: Reply) -> None:
        self._send(self._protocol.synthesize(reply.text, reply.request_id))

    def _receive(self, at: float, frame: str | bytes) -> None:
        try:
            event = self._protocol.receive(frame)
        except ContractViolation:
            event = None  # it is among the violations
        self._tell_violations()
        match event:
            case Ready():
                self._on_greeted(event)
            case Audio():
                self._on_audio(at, event)
            case wire.AudioStart():
                self._known(event.request_id)
            case wire.SynthesisComplete():
                self._on_over(event.request_id, "complete")
            case wire.Cancelled():
                self._on_over(event.request_id, "cancelled")
            case Error() if event.recoverable:
                self._on_error(event)

    def _known(self, request_id: str) -> Reply | None:
        """The request, if it is this person's; another's is told once."""
        reply = self._replies.get(request_id)
        if reply is None and not request_id.startswith(f"{self._name}.") and request_id not in self._strangers:
            self._strangers.add(request_id)
            owner = self._scene.isolation.owner(request_id.rpartition(".")[0], "tts")
            self._tell(
                events.Breach,
                whose=owner.name,
                other_connection_id=owner.connection_id,
                what=f"spoken to: the request {request_id}",
            )
        return reply

    def _on_audio(self, at: float, audio: Audio) -> None:
        reply = self._known(audio.request_id)
        if reply is None:
            return
        reply.arrivals.append((at, audio.seconds or 0.0))
        reply.audio += audio.data
        if not reply.first.done():
            reply.first.set_result(True)

    def _on_over(self, request_id: str, outcome: Outcome) -> None:
        reply = self._known(request_id)
        if reply is None:
            return
        if outcome == "complete" and reply.cancelled:
            self._crossed.add(request_id)
        self._over(reply, outcome)

    def _on_error(self, error: Error) -> None:
        request_id = error.request_id if isinstance(error.request_id, str) else ""
        if request_id in self._crossed and error.code == "bad_message":
            self._crossed.discard(request_id)
            return
        reply = self._replies.get(request_id)
        if error.code == "overloaded" and reply is not None:
            self._over(reply, "overloaded")
            return
        self.fail(f"{error.code}: {error.message}")
        if reply is not None:
            self._over(reply, "cut")

    def _over(self, reply: Reply, outcome: Outcome) -> None:
        if self._replies.pop(reply.request_id, None) is None:
            return
        if not reply.first.done():
            reply.first.set_result(False)
        reply.over.set_result(outcome)
        task = asyncio.create_task(self._judge(reply, outcome), name=f"judge {reply.request_id}")
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    # What was heard

    async def _judge(self, reply: Reply, outcome: Outcome) -> None:
        """Compare the audio, and tell what came of the reply."""
        ready = self._ready  # comparing takes time, after which there may be another connection
        reference = self._scene.references.audio(self._number, reply.text)
        proof: Literal["same", "other", "unchecked"] = "unchecked"
        if reference is not None and (reply.audio or outcome == "complete"):
            proof = "same" if same(bytes(reply.audio), reference, prefix=outcome != "complete") else "other"
        # A slow reader's silences are its own doing.
        silences = gaps(reply.arrivals) if self._bytes_per_s is None else []
        self._tell(
            events.Spoken,
            text=reply.text,
            words=len(reply.text.split()),
            outcome=outcome,
            first_audio_s=reply.arrivals[0][0] - reply.due if reply.arrivals else None,
            seconds=reply.seconds,
            gaps=len(silences),
            gap_s=sum(silences),
            longest_gap_s=max(silences, default=0.0),
            proof=proof,
            asked_due=self._scene.epoch(reply.due),
        )
        if proof == "other":
            await self._tell_owner(bytes(reply.audio), reply, ready)

    async def _tell_owner(self, audio: bytes, reply: Reply, ready: Ready | None) -> None:
        found = await asyncio.to_thread(self._scene.references.owner, audio)
        if found is None:
            owner, heard = Owner("", ""), f"{len(audio)} bytes of audio that nobody asked for"
        else:
            (kind, number), text = found
            name = self._scene.players.get((kind, number), f"{kind} number {number}")
            owner, heard = self._scene.isolation.owner(name, "tts"), f"the audio of {text!r}"
        self._tell(
            events.Breach,
            of=ready,
            whose=owner.name,
            other_connection_id=owner.connection_id,
            what=f"heard {heard}; asked for {reply.text!r}",
        )
