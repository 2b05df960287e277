"""What the benchmark hears of each system, whose servers are scripted here."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks import tts_systems
from benchmarks.listening import Reply
from benchmarks.rival_servers import DoesNotRun
from benchmarks.systems import Refused
from benchmarks.tts_systems import PiperHttp, WyomingPiper, speak
from chorus import errors
from chorus.tts import Audio, TtsProtocol
from chorus.wire.common import Error
from chorus.wire.tts import SynthesisComplete

pytestmark = pytest.mark.unit

VOICE = Path("voice.onnx")
FORM = {"rate": 22050, "width": 2, "channels": 1}
SECOND = bytes(44100)


@asynccontextmanager
async def serving(answer: Callable[[StreamReader, StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A server of 127.0.0.1 that answers a connection and hangs up; gives its port."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await answer(reader, writer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def event(kind: str, data: dict[str, object], payload: bytes = b"") -> bytes:
    """As the wyoming package writes it: the data apart from the header."""
    told = json.dumps(data).encode()
    header = {"type": kind, "data_length": len(told), "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + told + payload


def asked() -> Reply:
    return Reply("It is late.", time.monotonic())


async def wyoming(*answer: bytes) -> tuple[Reply, list[str]]:
    """What comes of such an answer, and what the client sent."""
    said: list[str] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        while "synthesize-stop" not in (line := (await reader.readline()).decode()):
            said.append(line)
        writer.writelines(answer)

    system, reply = WyomingPiper(VOICE), asked()
    async with serving(serve) as system._port:
        await system.speak(reply)
    return reply, said


async def test_wyoming_streams_text_and_hears_until_all_has_stopped() -> None:
    """The end of a sentence is not the end."""
    sentence = [event("audio-start", FORM), event("audio-chunk", FORM, SECOND), event("audio-stop", {})]
    reply, said = await wyoming(*sentence, *sentence, event("synthesize-stopped", {}))
    assert [seconds for _, seconds in reply.arrivals] == [1.0, 1.0]
    assert [json.loads(line)["type"] for line in said] == ["synthesize-start", "synthesize-chunk"]
    assert json.loads(said[1])["data"] == {"text": "It is late."}


async def test_wyoming_that_fails_or_hangs_up_does_not_pass_for_complete() -> None:
    """Its own words where it has some."""
    with pytest.raises(DoesNotRun, match="no such voice"):
        await wyoming(event("error", {"text": "no such voice"}))
    with pytest.raises(DoesNotRun, match="hung up"):
        await wyoming(event("audio-chunk", FORM, SECOND), event("audio-stop", {}))


async def http(answer: bytes) -> Reply:
    """What comes of such an answer."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.partition("Content-Length: ")[2].split("\r\n")[0])
        assert json.loads(await reader.readexactly(length)) == {"text": "It is late."}
        writer.write(answer)

    system, reply = PiperHttp(VOICE), asked()
    async with serving(serve) as system._port:
        await system.speak(reply)
    return reply


async def test_the_header_of_a_wav_file_is_no_audio() -> None:
    """Of the rest, the header tells how long it sounds."""
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 22050, 44100, 2, 16, b"data", 0)
    reply = await http(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" + header + 2 * SECOND)
    assert reply.seconds == pytest.approx(2.0)


async def test_another_http_status_is_a_failure() -> None:
    """It is told."""
    with pytest.raises(DoesNotRun, match="500"):
        await http(b"HTTP/1.1 500 INTERNAL SERVER ERROR\r\n\r\nno")


class Stream:
    """A stream of Chorus with scripted events."""

    def __init__(self, *events: object) -> None:
        self.protocol = TtsProtocol(strict=False)
        self._events = iter(events)

    async def send(self, frame: str) -> None:
        assert json.loads(frame)["text"] == "It is late."

    async def receive(self) -> object:
        return next(self._events)


async def chorus(monkeypatch: pytest.MonkeyPatch, *events: object, refusal: errors.Refused | None = None) -> Reply:
    """What comes of such events, or of a refused handshake."""

    @asynccontextmanager
    async def connect(url: str, *, strict: bool) -> AsyncIterator[Stream]:
        if refusal is not None:
            raise refusal
        yield Stream(*events)

    monkeypatch.setattr(tts_systems, "connect_tts", connect)
    reply = asked()
    await speak("ws://nowhere", reply)
    return reply


async def test_chorus_is_heard_until_the_synthesis_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame by frame."""
    audio, complete = Audio("1", 1, SECOND, 22050, "pcm_s16le"), SynthesisComplete(request_id="1", seconds=2, ttfa_ms=1)
    reply = await chorus(monkeypatch, audio, audio, complete)
    assert [seconds for _, seconds in reply.arrivals] == [1.0, 1.0]


async def test_overload_is_a_refusal_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the stream or of the request; everything else is a failure."""
    overloaded = Error(code="overloaded", message="come later", recoverable=True, request_id="1", retry_after_ms=500)
    with pytest.raises(Refused):
        await chorus(monkeypatch, overloaded)
    with pytest.raises(Refused):
        await chorus(monkeypatch, refusal=errors.Refused(503, "overloaded", "full"))
    with pytest.raises(errors.StreamError):
        await chorus(monkeypatch, Error(code="internal", message="synthesis failed", recoverable=True))
    with pytest.raises(errors.Refused):
        await chorus(monkeypatch, refusal=errors.Refused(401, "unauthorized", "no key"))
