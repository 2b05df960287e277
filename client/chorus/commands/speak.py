"""`chorus speak`: text to audio."""

from __future__ import annotations

import argparse
import asyncio
import codecs
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from chorus.asr import BYTES_PER_SAMPLE
from chorus.captions import webvtt
from chorus.commands.common import (
    CONTRACT_BROKEN,
    FAILED,
    OK,
    USAGE,
    Commands,
    add_ca,
    add_key,
    explain,
    raw_stdin,
    warn,
)
from chorus.connect import TTS_URL
from chorus.errors import ChorusError, ContractViolation
from chorus.flac import HEADER_BYTES, with_length
from chorus.speech import Speech, speak
from chorus.tasks import from_thread
from chorus.tts import Audio, Event
from chorus.wav import Writer
from chorus.wire import tts as wire

SETTINGS = ("voice", "sample_rate", "speed", "speaker", "noise_scale", "noise_w_scale", "sentence_silence_ms")
"""Settings of the stream that have a flag of their own name."""
PLAIN = tuple(BYTES_PER_SAMPLE)
ENCODINGS = (*PLAIN, "opus", "mp3", "flac")
HELD = {".wav": PLAIN, ".opus": ("opus",), ".ogg": ("opus",), ".mp3": ("mp3",), ".flac": ("flac",)}
"""What a file of that name holds; of any other name, a WAV file or the container that `--encoding` asks for."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "speak",
        help="text to audio",
        description="Speak a text into a file, or as raw samples into a pipe, while it is still being computed.",
        epilog='To the loudspeaker: chorus speak "Hello." --sample-rate 22050 -o - | aplay -q -f S16_LE -r 22050',
    )
    parser.add_argument("text", metavar="TEXT", help="what to say; - for standard input, spoken as it comes")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="default speech.wav; .opus, .ogg, .mp3 and .flac are compressed; - for raw samples on standard output",
    )
    parser.add_argument(
        "--words", metavar="FILE", help="when each word is heard: captions (.vtt), else a line of JSON each word"
    )
    parser.add_argument("--url", default=TTS_URL, help="the service (default %(default)s)")
    add_key(parser)
    add_ca(parser)
    stream = parser.add_argument_group("synthesis; without a flag the service's own default holds")
    stream.add_argument("--voice", metavar="ID", help="for example en_US-joe-medium")
    stream.add_argument("--speed", type=float, metavar="X", help="0.25 to 4")
    stream.add_argument("--sample-rate", type=int, metavar="HZ", help="8000 to 48000")
    stream.add_argument("--encoding", choices=ENCODINGS, help="default by the file's name")
    stream.add_argument("--speaker", metavar="ID", help="name or number, of a voice with several")
    stream.add_argument("--noise-scale", type=float, metavar="X", help="variation of the sound, 0 for none")
    stream.add_argument("--noise-w-scale", type=float, metavar="X", help="variation of the rhythm, 0 for none")
    stream.add_argument("--sentence-silence-ms", type=int, metavar="MS", help="pause between two sentences, 0 to 5000")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Run the command."""
    held = HELD.get(Path(asked.output or "").suffix.lower(), ENCODINGS)
    encoding = asked.encoding or (held[0] if len(held) == 1 else None)
    if encoding is not None and encoding not in held:
        warn(f"error: {asked.output} can't hold {encoding}; its name is that of {' or '.join(held)}")
        return USAGE
    name = asked.output or ("speech.wav" if encoding is None or encoding in PLAIN else f"speech.{encoding}")
    settings = {key: getattr(asked, key) for key in SETTINGS} | {"encoding": encoding}
    if asked.words:
        settings["word_timestamps"] = True
    text = _pieces(raw_stdin()) if asked.text == "-" else asked.text
    try:
        sink: _Sink = _Raw(sys.stdout.buffer) if name == "-" else _File(name)
        try:
            spoken = asyncio.run(speak(text, asked.url, key=asked.key, ca=asked.ca, on_event=sink.take, **settings))
        finally:
            sink.close()
        if asked.words and spoken.first_audio_s is not None:
            _write_words(Path(asked.words), spoken)
    except BrokenPipeError:
        return FAILED  # whoever listened has left
    except ContractViolation as error:
        warn(f"error: {explain(error, asked.url)}")
        return CONTRACT_BROKEN
    except (ChorusError, OSError, ValueError) as error:
        warn(f"error: {explain(error, asked.url)}")
        return FAILED
    if spoken.first_audio_s is None:
        warn("nothing in the text can be spoken")
        return FAILED
    warn(f"{name}: {spoken.seconds:.2f} s of audio, the first after {spoken.first_audio_s * 1000:.0f} ms")
    return OK


def _write_words(path: Path, spoken: Speech) -> None:
    phrases = [event.words for event in spoken.events if isinstance(event, wire.WordTimestamps)]
    if path.suffix.lower() == ".vtt":
        text = webvtt(phrases)
    else:
        text = "".join(msgspec.json.encode(word).decode() + "\n" for phrase in phrases for word in phrase)
    path.write_text(text, encoding="utf-8")


class _Sink:
    """Where the audio goes."""

    def take(self, event: Event) -> None:
        """Write an event's audio, if it is one."""
        if isinstance(event, Audio):
            self.write(event)

    def write(self, audio: Audio) -> None:
        """Write a frame."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more comes."""


class _Raw(_Sink):
    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def write(self, audio: Audio) -> None:
        self._pipe.write(audio.data)
        self._pipe.flush()


class _File(_Sink):
    """A WAV file; of compressed audio the container as it comes. Nothing is created before the first audio."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file: BinaryIO | None = None
        self._wav: Writer | None = None
        self._flac: Audio | None = None
        """The first frame of a FLAC file, which begins with the header."""
        self._seconds = 0.0

    def take(self, event: Event) -> None:
        super().take(event)
        if isinstance(event, wire.SynthesisComplete):
            self._seconds = event.seconds

    def write(self, audio: Audio) -> None:
        if self._file is None:
            self._file = open(self._name, "wb")  # noqa: SIM115 (`close` does)
            if audio.encoding in BYTES_PER_SAMPLE:
                self._wav = Writer(self._file, audio.encoding, audio.sample_rate)
            elif audio.encoding == "flac":
                self._flac = audio
        (self._wav or self._file).write(audio.data)

    def close(self) -> None:
        if self._file is not None:
            with self._file:
                if self._wav is not None:
                    self._wav.close()
                elif self._flac is not None and self._seconds and self._file.seekable():
                    self._file.seek(0)
                    samples = round(self._seconds * self._flac.sample_rate)
                    self._file.write(with_length(self._flac.data[:HEADER_BYTES], samples))


async def _pieces(pipe: BinaryIO) -> AsyncIterator[str]:
    async for piece in from_thread(_decoded(pipe)):
        yield piece


def _decoded(pipe: BinaryIO) -> Iterator[str]:
    """Text as it arrives, also where a read ends within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := pipe.read(4096):
        if text := decoder.decode(data):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
