"""What the command line does: transcribe, speak, health, prove."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chorus.aio import AsrStream, connect_asr, connect_tts
from chorus.asr import Event
from chorus.errors import ChorusError
from chorus.files import FRAME_S, Source, open_source
from chorus.tts import Audio
from chorus.wire import asr as asr_wire
from chorus.wire import tts as tts_wire
from chorus.wire.common import Error

PROOF = "The quick brown fox jumps over the lazy dog, and the sun is shining on the river."
PROOF_RATE = 16000
DIRECT_PORTS = [(name, n + 1, 8001 + offset + 10 * n) for offset, name in enumerate(("asr", "tts")) for n in range(6)]


@dataclass
class Transcription:
    """What came back for one source."""

    name: str
    text: str
    utterances: int
    finals: int
    audio_seconds: float
    seconds_after_end: float
    """From the last sample sent to `done`."""
    events: list[Event] = field(default_factory=list)


async def transcribe(
    source: Source, url: str, settings: dict[str, Any], *, realtime: bool, on_event: Callable[[Event], None]
) -> Transcription:
    """Stream one source and collect its words. Raises `ChorusError` or `OSError`."""
    settings = {**settings, "sample_rate": source.sample_rate, "channels": source.channels}
    async with connect_asr(url, **settings) as stream:
        events: list[Event] = []
        ended = 0.0

        async def send() -> None:
            nonlocal ended
            started = time.monotonic()
            count = 0
            async for frame in _pulled(source):
                await stream.send(frame)
                count += 1
                if realtime:
                    await asyncio.sleep(max(0.0, started + count * FRAME_S - time.monotonic()))
            ended = time.monotonic()
            await stream.send(stream.protocol.close())

        await _both(send(), _collect(stream, events, on_event))
        protocol = stream.protocol
        assert protocol.done is not None
        return Transcription(
            source.name,
            protocol.text,
            protocol.done.utterances,
            len(protocol.finals),
            protocol.done.audio_seconds,
            time.monotonic() - ended,
            events,
        )


async def _both(send: Coroutine[Any, Any, None], receive: Coroutine[Any, Any, None]) -> None:
    """Run both to their end; the first failure, the receiver's before the sender's, ends both and is raised."""
    sender, receiver = asyncio.create_task(send), asyncio.create_task(receive)
    try:
        await asyncio.wait((sender, receiver), return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in (sender, receiver):
            task.cancel()
        results = await asyncio.gather(receiver, sender, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _collect(stream: AsrStream, events: list[Event], on_event: Callable[[Event], None]) -> None:
    async for event in stream:
        events.append(event)
        on_event(event)


async def _pulled(source: Source) -> AsyncIterator[bytes]:
    """Frames of a source that may block, a pipe, without holding up the event loop."""
    frames = iter(source.frames)
    if source.name != "-":
        for frame in frames:
            yield frame
        return
    while (frame := await asyncio.to_thread(next, frames, b"")) != b"":
        yield frame


async def transcribe_files(
    names: list[str],
    url: str,
    settings: dict[str, Any],
    *,
    pipe_rate: int,
    realtime: bool,
    concurrency: int,
    as_json: bool,
) -> int:
    """`chorus transcribe`: the words of each file on standard output; returns the exit status."""
    slots = asyncio.Semaphore(concurrency)
    live = sys.stderr.isatty() and not as_json and len(names) == 1

    def show(name: str, event: Event) -> None:
        if as_json:
            print(json.dumps({"file": name, **msgspec.to_builtins(event)}, ensure_ascii=False), flush=True)
        elif isinstance(event, asr_wire.Partial) and live:
            print(f"\r\033[K{event.text[-100:]}", end="", file=sys.stderr, flush=True)
        elif isinstance(event, asr_wire.Final) and len(names) == 1:
            print("\r\033[K" if live else "", end="", file=sys.stderr, flush=True)
            if event.text:
                print(event.text, flush=True)
        elif isinstance(event, Error):
            print(f"{name}: {event.code}: {event.message}", file=sys.stderr)

    async def one(name: str) -> bool:
        async with slots:
            try:
                source = open_source(name, pipe_rate)
                result = await transcribe(
                    source, url, settings, realtime=realtime, on_event=lambda event: show(name, event)
                )
            except (ChorusError, OSError, ValueError) as error:
                print(f"{name}: {explain(error, url)}", file=sys.stderr)
                return False
        if len(names) > 1 and not as_json:
            print(f"{name}\t{result.text}", flush=True)
        return result.finals == result.utterances

    good = await asyncio.gather(*(one(name) for name in names))
    return 0 if all(good) else 1


@dataclass
class Spoken:
    """The audio of a text."""

    audio: bytes
    sample_rate: int
    seconds: float
    first_audio_s: float
    """From the text sent to the first audio received."""


async def speak(
    pieces: AsyncIterator[str], url: str, settings: dict[str, Any], on_audio: Callable[[Audio], None]
) -> Spoken:
    """Synthesise a text that comes in pieces. Raises `ChorusError` or `OSError`."""
    async with connect_tts(url, **settings) as stream:
        sent = first = 0.0
        audio = bytearray()
        rate = 0
        seconds = 0.0

        async def send() -> None:
            nonlocal sent
            async for piece in pieces:
                sent = sent or time.monotonic()
                await stream.send(stream.protocol.append(piece))
            await stream.send(stream.protocol.close())

        async def receive() -> None:
            nonlocal first, rate, seconds, audio
            async for event in stream:
                if isinstance(event, Audio):
                    first = first or time.monotonic()
                    rate = event.sample_rate
                    audio += event.data
                    on_audio(event)
                elif isinstance(event, tts_wire.SynthesisComplete):
                    seconds += event.seconds

        await _both(send(), receive())
        return Spoken(bytes(audio), rate, seconds, max(0.0, first - sent))


async def whole(text: str) -> AsyncIterator[str]:
    """A text in one piece."""
    yield text


async def standard_input() -> AsyncIterator[str]:
    """Standard input, line by line as it comes."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def prove(asr_url: str, tts_url: str) -> int:
    """Speak a sentence, transcribe that audio, and print both; 0 where the words are the same."""
    try:
        spoken = await speak(whole(PROOF), tts_url, {"sample_rate": PROOF_RATE}, lambda _: None)
        size = int(PROOF_RATE * FRAME_S) * 2
        frames = (spoken.audio[start : start + size] for start in range(0, len(spoken.audio), size))
        source = Source("proof", PROOF_RATE, 1, frames)
        heard = await transcribe(source, asr_url, {}, realtime=True, on_event=lambda _: None)
    except (ChorusError, OSError) as error:
        print(f"the stack does not work: {explain(error, f'{tts_url} and {asr_url}')}", file=sys.stderr)
        return 1
    print(f"spoken       {PROOF}")
    print(f"transcribed  {heard.text}")
    print(f"first audio  {spoken.first_audio_s * 1000:.0f} ms after the text ({spoken.seconds:.1f} s of audio)")
    print(f"last words   {heard.seconds_after_end * 1000:.0f} ms after the last sample")
    if _words(heard.text) != _words(PROOF):
        print("the words differ: look at the logs (make logs)", file=sys.stderr)
        return 1
    return 0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def health(host: str, *, every: bool) -> int:
    """`chorus health`: the balanced ports, and with `every` each replica; 0 where both services serve."""
    rows = [("asr", 0, 8000), ("tts", 0, 8003), *(DIRECT_PORTS if every else [])]
    print(f"{'replica':8} {'port':>5}  {'status':9} {'connections':>11}  {'queue':>5}  {'model':26} instance")
    good = True
    for name, number, port in rows:
        code, body = _get_health(f"http://{host}:{port}/health")
        if number and "status" not in body:
            continue  # not scaled up that far
        serves = code == 200
        good = good and (serves or bool(number))
        label = f"{name}-{number}" if number else f"{name} (all)"
        status = body.get("status", "down" if code is None else f"HTTP {code}")
        load = f"{body.get('active_connections', '-')}/{body.get('max_connections', '-')}" if number else ""
        queue = str(body.get("queue_depth", "-")) if number else ""
        model = body.get("model") or body.get("voice") or "-"
        print(f"{label:9} {port:>4}  {status:9} {load:>11}  {queue:>5}  {model:26} {body.get('instance', '-')}")
    return 0 if good else 1


def _get_health(url: str) -> tuple[int | None, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            return error.code, json.load(error)
        except ValueError:
            return error.code, {}
    except (OSError, ValueError):
        return None, {}


def explain(error: BaseException, url: str) -> str:
    """What went wrong, with what to do where that is known."""
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {url}; is the stack up? (make up)"
    return str(error) or type(error).__name__
