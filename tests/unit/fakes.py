"""Stand-ins for what a unit test must not need: models, sockets, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np

from asr.engine import Request, Transcript, Word
from chorus.wire.common import CloseCode, Error, Ready
from serving.audio import Samples
from serving.connection import Connection, Session
from serving.errors import BadMessage, StreamError
from serving.metrics import new_registry
from serving.settings import ServiceSettings
from serving.state import Refusal
from tts.timeline import Timeline
from tts.voice import Manner, Utterance
from tts.words import place, symbols


class FakeConnection:
    """Takes what a session says; nothing is sent anywhere."""

    def __init__(self) -> None:
        self.id = "00000000-0000-4000-8000-000000000000"
        self.sent: list[Any] = []
        self.audio: list[tuple[object, bytes, float]] = []
        self.closed_with: CloseCode | None = None
        self.reading = True

    def send(self, message: msgspec.Struct, *, owner: object = None) -> None:
        self.sent.append(message)

    def send_audio(self, data: bytes, *, owner: object, seconds: float) -> None:
        self.sent.append(data)
        self.audio.append((owner, data, seconds))

    def take_back(self, owner: object) -> float:
        """As if nothing had reached the socket yet."""
        mine = [each for each in self.audio if each[0] is owner]
        self.audio = [each for each in self.audio if each[0] is not owner]
        return sum(seconds for _, _, seconds in mine)

    def fail(self, error: StreamError) -> None:
        self.sent.append(error.to_message())
        if error.close_code is not None:
            self.closed_with = error.close_code

    def close(self, code: CloseCode, reason: str = "") -> None:
        self.closed_with = code

    @property
    def closing(self) -> bool:
        return self.closed_with is not None

    def read_on(self, go_on: bool) -> None:
        self.reading = go_on

    def of(self, kind: type[Any]) -> list[Any]:
        """The messages of one type, in order."""
        return [each for each in self.sent if isinstance(each, kind)]

    @property
    def errors(self) -> list[str]:
        return [each.code for each in self.of(Error)]


def told(session: Session, connection: FakeConnection, message: str) -> None:
    """Give a session a text frame as a connection does: a mistake is answered, not raised."""
    try:
        session.receive_text(message)
    except StreamError as error:
        connection.fail(error)


class LoudIsSpeech:
    """A voice detector: a hop is speech when it is loud."""

    def new_state(self) -> object:
        return object()

    def step(self, states: list[Any], hops: Samples) -> Samples:
        assert hops.shape == (len(states), 512)
        return np.where(np.abs(hops).max(axis=1) > 0.05, 0.9, 0.01).astype(np.float32)


class SampleCountingEngine:
    """A recogniser whose words tell how much audio it got."""

    languages = frozenset(("en", "auto"))
    tasks = frozenset(("transcribe",))

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.broken = False
        self.text: str | None = None
        """What it hears instead."""
        self.slow: threading.Event | None = None
        """Until it is set, calls wait."""

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        if self.slow is not None:
            assert self.slow.wait(timeout=10)
        if self.broken:
            raise RuntimeError("broken on purpose")
        self.requests += requests
        return [self._transcript(each) for each in requests]

    def _transcript(self, request: Request) -> Transcript:
        texts = [f"word{n}" for n in range(1 + len(request.samples) // 8000)]
        words = tuple(Word(text, n / 2, (n + 1) / 2, 0.8) for n, text in enumerate(texts))
        return Transcript(self.text or " ".join(texts), 0.9, "en", words=words if request.options.words else ())


class RampVoice:
    """A voice without a model: ten samples a character, each telling which."""

    sample_rate = 16000

    def __init__(self, voice_id: str = "ramp") -> None:
        self.id = voice_id
        self.broken = False
        self.rendered = 0
        """Samples."""
        self.hop = 5
        """Samples a frame."""

    times_words = True

    def phonemize(self, text: str) -> list[list[int]]:
        letters = [ord(each) for each in text if each.isalnum()]
        return [letters] if letters else []

    def timeline(self, text: str) -> Timeline:
        ids = list(accumulate((each.isalnum() for each in text), initial=0))
        placed = place(((word, word) for word in text.split()), [text], symbols)
        return Timeline(placed, [ids], self.sample_rate)

    def begin(self, ids: list[int], manner: Manner, *, hasty: bool = False) -> Utterance:
        if self.broken:
            raise RuntimeError("broken on purpose")
        length = round(10 / manner.speed)
        audio = np.repeat(np.array(ids, np.float32) / 1000, length)
        return Utterance(len(audio) // self.hop, {}, audio=audio, lengths=np.full(len(ids), length, np.int64))

    def go_on(self, utterances: list[Utterance], frames: int, *, hasty: bool = False) -> list[Samples]:
        rendered = []
        for each in utterances:
            assert each.audio is not None
            rendered.append(each.audio[each.done * self.hop : (each.done + frames) * self.hop])
            each.done += frames
            self.rendered += len(rendered[-1])
        return rendered


class EchoSession:
    """Says back what it hears; "flood" makes it talk more than anybody reads."""

    def __init__(self, connection: Connection, ended: list[str]) -> None:
        self.connection = connection
        self.ended = ended
        self.working = False
        self.draining = False

    def start(self) -> None:
        self.connection.send(Ready(connection_id=self.connection.id, instance="test", service="asr", settings={}))

    def receive_text(self, text: str) -> None:
        if text == "mistake":
            raise BadMessage("a mistake on purpose")
        if text == "crash":
            raise RuntimeError("a crash on purpose")
        if text == "bye":
            self.connection.close(CloseCode.DONE)
        if text == "flood":
            for _ in range(2000):
                self.connection.send_audio(bytes(65536), owner=self, seconds=1)
        if text == "pause":
            self.connection.read_on(False)
        if text == "work":
            self.working = True
        if text == "worked":
            self.working = False
        self.connection.send(Error(code="internal", message=f"echo {text}", recoverable=True))
        if self.draining:
            self.drain()

    def receive_audio(self, data: bytes) -> None:
        self.connection.send_audio(data, owner=self, seconds=1)

    def owes(self) -> bool:
        return self.working

    def drain(self) -> None:
        self.draining = True
        if not self.working:
            self.connection.close(CloseCode.GOING_AWAY)

    hurry = drain

    def cut(self) -> None:
        self.connection.close(CloseCode.GOING_AWAY, "cut")

    def released(self) -> None:
        self.ended.append(self.connection.id)

    def totals(self) -> dict[str, Any]:
        return {}


class EchoSettings(msgspec.Struct, frozen=True):
    """The settings of an echo stream."""

    volume: int = 1


class EchoService:
    """A service without an engine."""

    name = "asr"
    path = "/v1/stream/asr"

    def __init__(self, **settings: Any) -> None:
        self._settings = ServiceSettings(host="127.0.0.1", **settings)
        self.registry = new_registry()
        self.ended: list[str] = []
        self.stuck = 0.0
        self.refused: Refusal | None = None
        self.before_load: Callable[[], Any] | None = None

    @property
    def settings(self) -> ServiceSettings:
        return self._settings

    async def load(self) -> None:
        if self.before_load is not None:
            await self.before_load()

    async def stop(self) -> None:
        pass

    def default_settings(self) -> EchoSettings:
        return EchoSettings()

    def check_settings(self, settings: msgspec.Struct) -> None:
        pass

    def open(self, connection: Connection, settings: msgspec.Struct) -> Session:
        return EchoSession(connection, self.ended)

    def overload(self) -> Refusal | None:
        return self.refused

    def queue_depth(self) -> int:
        return 0

    def seconds_stuck(self) -> float:
        return self.stuck

    def describe(self) -> dict[str, Any]:
        return {"model": "echo", "device": "cpu", "compute_type": "none"}
