"""A WebSocket server that follows a script, for the client's tests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from chorus.wire import asr, tts
from chorus.wire.common import Ready, encode
from chorus.wire.settings import as_dict

Script = Callable[["Server", ServerConnection], Awaitable[None]]


class Server:
    """What the script knows of the connection, and what tests look at afterwards."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.headers: list[Headers] = []
        self.audio = bytearray()
        self.texts: list[dict[str, object]] = []

    async def hear(self, socket: ServerConnection) -> None:
        """Take frames until the client says `close`."""
        async for frame in socket:
            if isinstance(frame, bytes):
                self.audio += frame
                continue
            self.texts.append(msgspec.json.decode(frame))
            if self.texts[-1]["type"] == "close":
                return


async def say(socket: ServerConnection, *messages: msgspec.Struct | bytes) -> None:
    """Send messages and audio."""
    for message in messages:
        await socket.send(message if isinstance(message, bytes) else encode(message))


def asr_ready(**settings: object) -> Ready:
    """The greeting of a recognition service."""
    known = as_dict(msgspec.convert(settings, asr.Settings))
    return Ready(connection_id="c", instance="i", service="asr", model="m", settings=known)


def tts_ready() -> Ready:
    """The greeting of a synthesis service."""
    return Ready(connection_id="c", instance="i", service="tts", voice="v", settings=as_dict(tts.Settings()))


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a port of its own choice that runs the script for each connection, then closes with 1000."""
    server = Server()

    async def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        server.paths.append(socket.request.path)
        server.headers.append(socket.request.headers)
        await script(server, socket)

    async with serve(handle, "127.0.0.1", 0, compression=None, ssl=tls) as listener:
        server.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield server


@asynccontextmanager
async def refusing(status: int, body: bytes, **headers: str) -> AsyncIterator[str]:
    """The URL of a server that answers every handshake with an HTTP status."""

    def refuse(_socket: ServerConnection, _request: Request) -> Response:
        told = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        told["Content-Length"] = str(len(body))
        return Response(status, HTTPStatus(status).phrase, told, body)

    async def never(_socket: ServerConnection) -> None:
        raise AssertionError("the handshake was refused")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as listener:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def recognise(server: Server, socket: ServerConnection) -> None:
    """A script: one utterance over all the audio that comes."""
    await say(socket, asr_ready(), asr.SpeechStart(utterance=1, time=0.0))
    await server.hear(socket)
    seconds = len(server.audio) / 32000
    partial = asr.Partial(utterance=1, text="hello", stable_text="", start_time=0.0, end_time=seconds)
    await say(socket, partial, asr.SpeechEnd(utterance=1, time=seconds), final(1, "hello world", seconds))
    await say(socket, totals(seconds))


def final(utterance: int, text: str, seconds: float) -> asr.Final:
    """A final of an utterance from 0 on."""
    return asr.Final(
        utterance=utterance,
        text=text,
        start_time=0.0,
        end_time=seconds,
        confidence=0.9,
        language="en",
        latency_ms=5,
        from_finalize=False,
    )


def totals(seconds: float, utterances: int = 1) -> asr.Done:
    """The end of a stream that was all speech."""
    return asr.Done(
        audio_seconds=seconds,
        speech_seconds=seconds,
        silence_seconds=0.0,
        dropped_seconds=0.0,
        utterances=utterances,
    )


SPOKEN = bytes(range(200)) * 160
"""One second of 16 kHz samples in 16 bits."""


async def synthesise(server: Server, socket: ServerConnection) -> None:
    """A script: whatever the text, one sentence of one second."""
    await say(socket, tts_ready())
    await server.hear(socket)
    await say(
        socket,
        tts.AudioStart(request_id="r", sentence=1, text="Hello.", sample_rate=16000, encoding="pcm_s16le"),
        SPOKEN[:10000],
        SPOKEN[10000:],
        tts.AudioEnd(request_id="r", sentence=1, seconds=1.0),
        tts.SynthesisComplete(request_id="r", seconds=1.0, ttfa_ms=40),
        tts.Done(requests=1, cancelled=0, audio_seconds=1.0),
    )
