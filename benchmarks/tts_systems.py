"""Chorus and its open-source rivals: how each is started, and how it is asked for a reply.

Every rival is used as its own client uses it, with the same voice, its default noise and a thread for each core. What
differs is told in the `settings` of each.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Protocol

from benchmarks import wyoming
from benchmarks.listening import Reply
from benchmarks.rival_servers import DoesNotRun
from benchmarks.systems import Refused, Rival, Stack, Usage
from chorus import errors
from chorus.aio import connect_tts
from chorus.tts import Audio
from chorus.wire import tts as wire
from chorus.wire.common import Error

WAV_HEADER_BYTES = 44
READ_BYTES = 65536


class System(Protocol):
    """A synthesiser to measure."""

    name: str
    settings: str
    """How it is used, for the report."""
    broken: list[str]
    """Promises of its protocol that were broken since it was started."""

    def prepare(self) -> None:
        """Install it. Raises `DoesNotRun`."""

    def start(self, at_once: int) -> None:
        """Start afresh. Raises `DoesNotRun`."""

    async def speak(self, reply: Reply) -> None:
        """Connect, ask when the reply is due, hear all of it. Raises `Refused` and what goes wrong."""

    def usage(self) -> Usage:
        """What it has used since it was started. Raises `OSError`."""

    def stop(self) -> None:
        """End it."""


class Chorus(Stack):
    """The running stack, with one replica."""

    service = "tts"
    settings = (
        "through nginx, a stream for each reply (on one stream a reply waits until the one before has been played), "
        "every setting the default; processor time and memory are of the replica's process, without nginx"
    )

    async def speak(self, reply: Reply) -> None:
        """Over a stream, and hold the server to its protocol."""
        self.broken += await speak(self._url, reply)


async def speak(url: str, reply: Reply) -> list[str]:
    """Have Chorus speak a reply; returns the promises of the protocol that were broken. Raises `Refused`."""
    try:
        async with connect_tts(url, strict=False) as stream:
            await reply.until_due()
            await stream.send(stream.protocol.synthesize(reply.text))
            while not isinstance(event := await stream.receive(), wire.SynthesisComplete):
                if isinstance(event, Audio):
                    reply.hear(event.seconds or 0.0)
                elif isinstance(event, Error):
                    raise errors.StreamError(event.code, event.message)
            return stream.protocol.violations
    except errors.Refused as refusal:
        if refusal.status == 503:
            raise Refused(str(refusal)) from None
        raise
    except errors.StreamError as error:
        if error.code == "overloaded":
            raise Refused(str(error)) from None
        raise


class Synthesiser(Rival):
    """What the rivals have in common: they are given the same voice."""

    def __init__(self, voice: Path) -> None:
        super().__init__()
        self._voice = voice.resolve()


class WyomingPiper(Synthesiser):
    """wyoming-piper: sentence by sentence, one sentence of anybody at a time."""

    name = "wyoming-piper"
    settings = (
        "its streaming mode: the text in synthesize-chunk, audio of each sentence when it is whole, in chunks of 1024 "
        "samples; a connection for each reply"
    )

    def _arguments(self, at_once: int) -> list[str]:
        return [
            *("-m", "wyoming_piper", "--uri", f"tcp://127.0.0.1:{self._port}"),
            *("--data-dir", str(self._voice.parent), "--voice", self._voice.stem),
        ]

    async def speak(self, reply: Reply) -> None:
        """Start, text and stop in one go; audio until it says that it has stopped."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await reply.until_due()
            wyoming.say(writer, "synthesize-start", {})
            wyoming.say(writer, "synthesize-chunk", {"text": reply.text})
            wyoming.say(writer, "synthesize-stop", {})
            async for event in wyoming.events(reader):
                match event.type:
                    case "audio-chunk":
                        width = event.data["width"] * event.data["channels"]
                        reply.hear(len(event.payload) / width / event.data["rate"])
                    case "error":
                        raise DoesNotRun(event.data["text"])
                    case "synthesize-stopped":
                        return
            raise DoesNotRun("its server hung up before the end of the audio")
        finally:
            writer.close()


class PiperHttp(Synthesiser):
    """Piper's own HTTP server: the whole reply, then one WAV file."""

    name = "piper-http"
    package = "piper-tts"
    settings = (
        "`python -m piper.http_server`: a thread for each request, the answer when all of it is synthesised; a "
        "connection for each reply"
    )

    def _arguments(self, at_once: int) -> list[str]:
        return [
            *("-m", "piper.http_server", "--host", "127.0.0.1", "--port", str(self._port)),
            *("--model", str(self._voice)),
        ]

    async def speak(self, reply: Reply) -> None:
        """One request; the server closes after its answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await reply.until_due()
            body = json.dumps({"text": reply.text}).encode()
            head = (
                "POST /synthesize HTTP/1.1",
                f"Host: 127.0.0.1:{self._port}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                "Connection: close",
            )
            writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            status = answer.split(b"\r\n", 1)[0].decode()
            if " 200 " not in status:
                raise DoesNotRun(f"it answers {status}")
            wav = await reader.readexactly(WAV_HEADER_BYTES)
            bytes_per_second = int.from_bytes(wav[28:32], "little")
            while data := await reader.read(READ_BYTES):
                reply.hear(len(data) / bytes_per_second)
        finally:
            writer.close()
