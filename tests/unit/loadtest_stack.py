"""A stack for the load test's people: recognition of coded sound, synthesis of coded text, and a relay between."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Handshake
from websockets.http11 import Response

from asr.engine import Request, Transcript
from asr.service import AsrService
from asr.settings import AsrSettings
from chorus.wire import tts as wire
from chorus.wire.common import CloseCode, Error, encode
from loadtest import events
from loadtest.crew import Crew
from loadtest.settings import LoadSettings, split
from serving.outbox import CloseFrame
from tests.conftest import eventually, running
from tests.unit.fakes import LoudIsSpeech
from tests.unit.scripted import tts_ready

RATE = 16000
VOCABULARY = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"]
VOCABULARY += ["india", "juliet", "kilo", "lima"]
WORD_S = 0.25
TEXTS = ["alpha bravo charlie delta", "echo foxtrot golf hotel", "india juliet kilo lima", "bravo alpha delta charlie"]
NOWHERE = "ws://127.0.0.1:9"


def sound(words: list[str]) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Each word as loud as its place in the vocabulary tells."""
    parts = [np.full(int(WORD_S * RATE), 3000 + 2000 * VOCABULARY.index(word), np.int16) for word in words]
    return np.concatenate([np.zeros(RATE // 10, np.int16), *parts, np.zeros(RATE // 10, np.int16)])


class LevelEngine:
    """Hears the words of `sound`."""

    languages = frozenset(("en",))
    tasks = frozenset(("transcribe",))

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        return [Transcript(self._text(each.samples), 0.9, "en") for each in requests]

    @staticmethod
    def _text(samples: Any) -> str:
        steps = np.abs(samples[: len(samples) // 800 * 800].reshape(-1, 800)) * 32768
        levels = [round((float(np.median(step)) - 3000) / 2000) for step in steps if np.median(step) > 2000]
        runs = [(level, len(list(run))) for level, run in groupby(levels)]
        return " ".join(VOCABULARY[level] for level, length in runs if length >= 2 and 0 <= level < len(VOCABULARY))


@asynccontextmanager
async def recognition(key: str = "") -> AsyncIterator[str]:
    """Address of a real replica around `LevelEngine`, which wants the key if there is one."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as keys:
        keys.write(f"loadtest:{hashlib.sha256(key.encode()).hexdigest()}\n")
        keys.flush()
        given: dict[str, Any] = {"MODELS_DIR": Path("/nowhere"), "CHORUS_API_KEYS_FILE": keys.name if key else ""}
        settings = AsrSettings(host="127.0.0.1", port=0, admin_port=0, **given)
        async with running(AsrService(settings, lambda _: (LoudIsSpeech(), LevelEngine()))) as replica:
            yield f"ws://127.0.0.1:{replica.stream_listener.port}"


def recordings(folder: Path, texts: list[str]) -> Path:
    """A folder of `sound`s with its manifest."""
    folder.mkdir()
    lines = []
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.flac", sound(text.split()), RATE)
        lines.append(json.dumps({"audio": f"{number}.flac", "text": text}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def voiced(text: str) -> bytes:
    """Audio that tells the text."""
    return np.repeat(np.array([ord(letter) * 100 for letter in text], "<i2"), 200).tobytes()


class Synthesis:
    """A synthesis server. Each request's first half comes at once, the rest a moment later."""

    def __init__(self) -> None:
        self.voiced: Callable[[str], bytes] = voiced
        """What it makes of a text."""
        self.pause_s = 0.02
        self.deaf = False
        """Whether it speaks on after `cancelled`."""
        self.overloaded = False
        self.cuts_off: Error | CloseFrame | None = None
        """How it ends a connection after the first half of a reply, if it does."""
        self.asked: list[str] = []
        """Every text so far."""
        self.url = ""

    async def serve(self, socket: ServerConnection) -> None:
        """One connection."""
        await socket.send(encode(tts_ready()))
        speaking: dict[str, asyncio.Task[None]] = {}
        sent: dict[str, float] = {}
        totals = [0, 0, 0.0]
        number = 0
        async for frame in socket:
            message = json.loads(frame)
            match message["type"]:
                case "synthesize":
                    number += 1
                    self.asked.append(message["text"])
                    request_id = message.get("request_id") or f"request-{number}"
                    if self.overloaded:
                        full = Error(
                            code="overloaded", message="full", recoverable=True, request_id=request_id, retry_after_ms=9
                        )
                        await socket.send(encode(full))
                        continue
                    speak = self._speak(socket, request_id, message["text"], sent, totals)
                    speaking[request_id] = asyncio.create_task(speak)
                case "cancel":
                    request_id = message["request_id"]
                    if speaking[request_id].done():
                        wrong = Error(code="bad_message", message="over", recoverable=True, request_id=request_id)
                        await socket.send(encode(wrong))
                        continue
                    speaking[request_id].cancel()
                    totals[0] += 1
                    totals[1] += 1
                    totals[2] += sent[request_id]
                    await socket.send(encode(wire.Cancelled(request_id=request_id, seconds_sent=sent[request_id])))
                    if self.deaf:
                        await socket.send(bytes(200))
                case "close":
                    await asyncio.gather(*speaking.values(), return_exceptions=True)
                    done = wire.Done(requests=int(totals[0]), cancelled=int(totals[1]), audio_seconds=totals[2])
                    await socket.send(encode(done))
                    return

    async def _speak(
        self, socket: ServerConnection, request_id: str, text: str, sent: dict[str, float], totals: list[float]
    ) -> None:
        audio, sent[request_id] = self.voiced(text), 0.0
        try:
            about: dict[str, Any] = {"request_id": request_id, "sentence": 1}
            await socket.send(encode(wire.AudioStart(**about, text=text, sample_rate=RATE, encoding="pcm_s16le")))
            half = len(audio) // 4 * 2
            for part in (audio[:half], audio[half:]):
                await socket.send(part)
                if self.cuts_off is not None:
                    return await self._cut_off(socket, self.cuts_off)
                sent[request_id] += len(part) / 2 / RATE
                await asyncio.sleep(self.pause_s)
            await socket.send(encode(wire.AudioEnd(**about, seconds=sent[request_id])))
            over = wire.SynthesisComplete(request_id=request_id, seconds=sent[request_id], ttfa_ms=1)
            await socket.send(encode(over))
            totals[0] += 1
            totals[2] += sent[request_id]
        except ConnectionClosed:
            pass

    async def _cut_off(self, socket: ServerConnection, how: Error | CloseFrame) -> None:
        if isinstance(how, Error):
            await socket.send(encode(how))
            how = CloseFrame(CloseCode.POLICY, how.code)
        await socket.close(how.code, how.reason)


@asynccontextmanager
async def synthesis(key: str = "") -> AsyncIterator[Synthesis]:
    """It, served; it wants the key if there is one."""

    def admit(socket: ServerConnection, handshake: Handshake) -> Response | None:
        known = not key or handshake.headers.get("Authorization") == f"Bearer {key}"
        return None if known else socket.respond(HTTPStatus.UNAUTHORIZED, "")

    server = Synthesis()
    async with serve(server.serve, "127.0.0.1", 0, compression=None, process_request=admit) as listener:
        server.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield server


class Relay:
    """Stands before a service."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.clients: list[ServerConnection] = []
        self.swapping = False
        self.passes: Callable[[str | bytes], bool] = lambda _: True
        """Which of the service's messages arrive."""
        self._both = asyncio.Event()

    def swap(self) -> None:
        """The next two clients get what is meant for each other, but for their greetings."""
        self.clients.clear()
        self._both.clear()
        self.swapping = True

    def cut(self) -> None:
        """Reset the newest connection."""
        self.clients[-1].transport.abort()

    async def serve(self, client: ServerConnection) -> None:
        """One connection."""
        assert client.request is not None
        number = len(self.clients)
        self.clients.append(client)
        if len(self.clients) == 2:
            self._both.set()
        async with connect(self.upstream + client.request.path, compression=None, proxy=None) as service:
            down = asyncio.create_task(self._down(number, service))
            try:
                async for message in client:
                    await service.send(message)
            except ConnectionClosed:
                pass
            finally:
                service.transport.abort()
                await asyncio.gather(down, return_exceptions=True)

    async def _down(self, number: int, service: ClientConnection) -> None:
        client = self.clients[number]
        await client.send(await service.recv())  # the greeting is its own in any case
        if self.swapping:
            await self._both.wait()
            client = self.clients[number ^ 1]
        async for message in service:
            if self.passes(message):
                await client.send(message)
        await client.close()


@asynccontextmanager
async def relayed(upstream: str) -> AsyncIterator[Relay]:
    """A relay before it."""
    relay = Relay(upstream)
    async with serve(relay.serve, "127.0.0.1", 0, compression=None) as listener:
        relay.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield relay


def settings(tmp_path: Path, **changes: Any) -> LoadSettings:
    """Of people who say `TEXTS`, and do nothing by chance."""
    speech = recordings(tmp_path / "speech", TEXTS)
    given = {"asr_url": NOWHERE, "tts_url": NOWHERE, "texts": 2, "hang_up_share": 0, "barge_in_share": 0}
    return LoadSettings(speech=speech, references=tmp_path / "references", utterance_s=1, **given | changes)


def at_once(every_s: float) -> int:
    """A seed with which the first voice user's first turn comes at once."""
    return next(seed for seed in range(9999) if random.Random(f"person {seed} voice-1").uniform(0, every_s) < 0.05)


def of(found: list[events.Event], kind: type[Any]) -> list[Any]:
    """The records of that kind."""
    return [each for each in found if isinstance(each, kind)]


async def told(
    by: LoadSettings,
    people: int,
    until: Callable[[list[events.Event]], Any],
    prepared: Callable[[], None] = lambda: None,
) -> list[events.Event]:
    """The records of so many people, who leave when that holds of them; with a rate, of callers who arrive by it.

    `prepared` is called before the first of them comes.
    """
    found: list[events.Event] = []
    crew = Crew(by, found.append)
    counts = split(by.mix, people)
    await crew.prepare(counts, 0, lambda done, total: None)
    prepared()
    keeping = asyncio.create_task(crew.run())
    try:
        if by.arrivals_per_minute:
            crew.arrive(by.arrivals_per_minute, by.turns_per_caller)
        else:
            for kind, count in counts.items():
                for number in range(1, count + 1):
                    crew.start(f"{kind}-{number}", kind)
        await eventually(lambda: keeping.done() or until(found), within_s=300)
        await crew.stop_all()
        if keeping.done():
            keeping.result()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return found
