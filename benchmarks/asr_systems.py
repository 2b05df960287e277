"""Chorus and its open-source rivals: how each is started, and how one speaker's audio is streamed to it.

Every rival is used as its own client uses it, in the frames that its client sends, with the same weights in int8, the
same language, beam 5 and a thread for each core. What differs is told in the `settings` of each.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.hearing import DRAIN_S, Speaker
from benchmarks.rival_servers import DoesNotRun, cores, look_up
from benchmarks.speech import Spoken
from benchmarks.systems import Refused, Rival, Stack, Usage
from benchmarks.wyoming import events, say
from chorus import errors
from chorus.asr import Event
from chorus.sources import from_bytes
from chorus.tasks import send_and_receive
from chorus.transcription import transcribe
from chorus.wire import asr as wire
from loadtest.clips import SAMPLE_RATE

ENDPOINT_S = 0.5
"""Silence after which a client that must end the utterance itself does so: what Chorus waits by default."""
READY_WITHIN_S = 60.0
"""A server loads its model for the first stream, if not before."""


class System(Protocol):
    """A speech recogniser to measure."""

    name: str
    settings: str
    """How it is used, for the report."""
    broken: list[str]
    """Promises of its protocol that were broken since it was started."""

    def prepare(self) -> None:
        """Install it. Raises `DoesNotRun`."""

    def start(self, at_once: int) -> None:
        """Start afresh, for so many streams at once. Raises `DoesNotRun`."""

    async def listen(self, speaker: Speaker) -> None:
        """Stream all that a speaker says. Raises `Refused`, `DoesNotRun` and what the connection raises."""

    def usage(self) -> Usage:
        """What it has used since it was started. Raises `OSError`."""

    def stop(self) -> None:
        """End it."""


class Chorus(Stack):
    """The running stack, with one replica."""

    service = "asr"
    settings = (
        "through nginx, frames of 20 ms, every setting the default; processor time and memory are of the replica's "
        "process, without nginx"
    )

    async def listen(self, speaker: Speaker) -> None:
        """Stream, and hold the server to its protocol."""

        def on_event(event: Event) -> None:
            if isinstance(event, wire.Ready):
                speaker.begin()
            elif isinstance(event, wire.Partial | wire.Final):
                final = isinstance(event, wire.Final)
                speaker.hear(event.text, final=final, start=event.start_time, end=event.end_time)

        source = from_bytes(speaker.speech.samples.tobytes())
        try:
            result = await transcribe(source, self._url, realtime=True, strict=False, on_event=on_event)
        except errors.Refused as refusal:
            if refusal.status == 503:
                raise Refused(str(refusal)) from None
            raise
        self.broken += result.violations


class Recogniser(Rival):
    """What the rivals have in common: they are given the same weights."""

    def __init__(self, weights: Path, sample: Path) -> None:
        super().__init__()
        self._weights, self._sample = weights.resolve(), sample.resolve()


class WhisperLive(Recogniser):
    """WhisperLive: transcribes what is not yet complete again and again; a segment that no longer changes is final."""

    name = "whisper-live"
    settings = (
        "faster_whisper backend with one model for all, voice activity filter on, a segment is complete when another "
        "follows or after two equal outputs more (its client's default is ten, which takes seconds longer), frames of "
        "4096 samples; the microphone stays open until all is final"
    )
    _SERVE = (
        "import sys; from whisper_live.server import TranscriptionServer; TranscriptionServer().run('127.0.0.1', "
        "port=int(sys.argv[1]), backend='faster_whisper', faster_whisper_custom_model_path=sys.argv[2], "
        "single_model=True, max_clients=int(sys.argv[3]), max_connection_time=3600)"
    )

    def _arguments(self, at_once: int) -> list[str]:
        return ["-c", self._SERVE, str(self._port), str(self._weights), str(at_once)]

    async def listen(self, speaker: Speaker) -> None:
        """Samples in float32; every answer repeats the newest segments."""
        async with _socket(f"ws://127.0.0.1:{self._port}") as socket:
            settings = {
                "uid": str(uuid.uuid4()),
                "language": "en",
                "task": "transcribe",
                "model": "tiny.en",
                "use_vad": True,
                "send_last_n_segments": 10,
                "no_speech_thresh": 0.45,
                "clip_audio": False,
                "same_output_threshold": 1,
            }
            await socket.send(json.dumps(settings))
            answer = await _answer(socket)
            if answer.get("status") == "WAIT":
                raise Refused("the server is full")
            if answer.get("message") != "SERVER_READY":
                raise DoesNotRun(f"instead of being ready it said {answer}")
            speaker.begin()

            async def send() -> None:
                async for frame in speaker.frames(4096 / SAMPLE_RATE):
                    await socket.send((frame.astype(np.float32) / 32768).tobytes())
                await socket.send(b"END_OF_AUDIO")

            await send_and_receive(_until_closed(send()), _until_closed(self._receive(socket, speaker)))

    async def _receive(self, socket: ClientConnection, speaker: Speaker) -> None:
        completed: set[tuple[str, str, str]] = set()
        async for message in socket:
            for segment in json.loads(message).get("segments", []):
                key = (segment["start"], segment["end"], segment["text"])
                final = segment["completed"]
                if final and key in completed:
                    continue
                if final:
                    completed.add(key)
                start, end = float(segment["start"]), float(segment["end"])
                speaker.hear(segment["text"], final=final, start=start, end=end)


class WhisperLiveKit(Recogniser):
    """WhisperLiveKit: words that two transcriptions in a row agree on are final; voice activity ends an utterance."""

    name = "whisperlivekit"
    settings = (
        "LocalAgreement policy with the faster-whisper backend (its default policy needs PyTorch weights), validation "
        "by confidence (faster), raw PCM in frames of 100 ms; the microphone stays open until all is final"
    )

    def _arguments(self, at_once: int) -> list[str]:
        return [
            *("-m", "whisperlivekit.basic_server", "--host", "127.0.0.1", "--port", str(self._port)),
            *("--backend", "faster-whisper", "--backend-policy", "localagreement", "--model_dir", str(self._weights)),
            *("--language", "en", "--pcm-input", "--warmup-file", str(self._sample), "--log-level", "WARNING"),
            "--confidence-validation",
        ]

    async def listen(self, speaker: Speaker) -> None:
        """Every answer holds all lines so far: what a line has grown by is final, the buffer is not."""
        async with _socket(f"ws://127.0.0.1:{self._port}/asr") as socket:
            await _answer(socket)  # its settings
            speaker.begin()

            async def send() -> None:
                async for frame in speaker.frames(0.1):
                    await socket.send(frame.tobytes())
                await socket.send(b"")

            async def receive() -> None:
                known = buffer = ""
                async for message in socket:
                    told = json.loads(message)
                    if told.get("type") == "ready_to_stop":
                        return
                    lines = [line for line in told.get("lines", []) if line["text"]]
                    committed = " ".join(line["text"] for line in lines)
                    if len(committed) > len(known):
                        speaker.hear(committed[len(known) :], final=True, end=_seconds(lines[-1]["end"]))
                        known = committed
                    if told.get("buffer_transcription", "") != buffer:  # it is told every 50 ms
                        buffer = told["buffer_transcription"]
                        speaker.hear(buffer, final=False)

            await send_and_receive(_until_closed(send()), _until_closed(receive()))


class WyomingFasterWhisper(Recogniser):
    """wyoming-faster-whisper: one connection an utterance, transcribed whole when the client says that it ended."""

    name = "wyoming-faster-whisper"
    settings = (
        "the client ends each clip 500 ms after its true end, as a faultless voice detector would, and sends nothing "
        "between clips; chunks of 1024 samples; it has no partials"
    )

    def _arguments(self, at_once: int) -> list[str]:
        return [
            *("-m", "wyoming_faster_whisper", "--uri", f"tcp://127.0.0.1:{self._port}"),
            *(
                "--stt-library",
                "faster-whisper",
                "--model",
                str(self._weights),
                "--data-dir",
                str(self._weights.parent),
            ),
            *("--language", "en", "--beam-size", "5", "--compute-type", "int8", "--cpu-threads", str(cores())),
        ]

    async def listen(self, speaker: Speaker) -> None:
        """All clips of the speaker; one that takes long does not hold up the next."""
        speaker.begin()
        utterances = (self._utterance(speaker, spoken) for spoken in speaker.speech.spoken)
        for end in await asyncio.gather(*utterances, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    async def _utterance(self, speaker: Speaker, spoken: Spoken) -> None:
        await speaker.until(spoken.start)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            form = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
            say(writer, "transcribe", {"language": "en"})
            say(writer, "audio-start", form)
            sent, last = round(spoken.start * SAMPLE_RATE), round((spoken.speech_end + ENDPOINT_S) * SAMPLE_RATE)
            while sent < last:
                chunk = speaker.speech.samples[sent : min(sent + 1024, last)]
                sent += len(chunk)
                await speaker.until(sent / SAMPLE_RATE)
                say(writer, "audio-chunk", form, chunk.tobytes())
                await writer.drain()
            say(writer, "audio-stop", {})
            async with asyncio.timeout(DRAIN_S):
                words = await _transcript(reader)
            speaker.hear(words, final=True, start=spoken.start, end=spoken.speech_end)
        except TimeoutError:
            pass  # not finalised
        finally:
            writer.close()


class Speaches:
    """speaches is not on PyPI: where that changes, the report says so."""

    name = "speaches"
    settings = ""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def prepare(self) -> None:
        """Ask the registry."""
        look_up(self.name)
        raise DoesNotRun("it is on PyPI by now, and this benchmark does not know how to use it")


def _socket(url: str) -> connect:
    """Without pings: a server too busy to answer them is slow, which is what is measured, not gone."""
    return connect(url, ping_interval=None, max_size=None, open_timeout=READY_WITHIN_S)


async def _answer(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(READY_WITHIN_S):
        found: dict[str, Any] = json.loads(await socket.recv())
    return found


async def _until_closed(work: Any) -> None:
    """A server that hangs up has said all it will say; what it has not heard shows in the result."""
    try:
        await work
    except ConnectionClosed:
        pass


def _seconds(told: str) -> float:
    """Of a time told as H:MM:SS.cc."""
    hours, minutes, seconds = told.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


async def _transcript(reader: asyncio.StreamReader) -> str:
    """The words of the next transcript. Raises `DoesNotRun` where the server hangs up before."""
    async for event in events(reader):
        if event.type == "transcript":
            return str(event.data["text"])
    raise DoesNotRun("its server hung up before the transcript")
