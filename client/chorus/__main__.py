"""The command line, `chorus` or `python -m chorus`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chorus import commands
from chorus.connect import ASR_URL, TTS_URL
from chorus.errors import ChorusError
from chorus.files import write_wav
from chorus.tts import Audio


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        status: int = asked.run(asked)
    except KeyboardInterrupt:
        return 130
    except (ChorusError, ConnectionRefusedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chorus", description="Speech to text and text to speech, streamed.")
    parser.add_argument("--version", action="version", version=f"chorus {_version()}")
    commands_ = parser.add_subparsers(required=True, metavar="COMMAND")

    listen = commands_.add_parser("transcribe", help="audio files or a pipe to text")
    listen.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, Ogg, MP3 …; - for standard input")
    listen.add_argument("--url", default=ASR_URL)
    listen.add_argument("--rate", type=int, default=16000, help="Hz of raw 16-bit samples on standard input")
    listen.add_argument("--realtime", action="store_true", help="send files as fast as they are spoken")
    listen.add_argument("--concurrency", type=int, default=4, help="files at once (default 4)")
    listen.add_argument("--json", action="store_true", help="every event as a line of JSON")
    listen.add_argument("--language")
    listen.add_argument("--prompt")
    listen.add_argument("--endpointing-ms", type=int)
    listen.add_argument("--no-interim", dest="interim_results", action="store_false", default=None)
    listen.set_defaults(run=_transcribe)

    speak = commands_.add_parser("speak", help="text to audio")
    speak.add_argument("text", metavar="TEXT", help="what to say; - for standard input, line by line")
    speak.add_argument(
        "-o", "--output", default="speech.wav", help="WAV file (default speech.wav), or - for raw samples"
    )
    speak.add_argument("--url", default=TTS_URL)
    speak.add_argument("--voice")
    speak.add_argument("--speed", type=float)
    speak.add_argument("--sample-rate", type=int)
    speak.set_defaults(run=_speak)

    health = commands_.add_parser("health", help="whether the services serve")
    health.add_argument("--host", default="127.0.0.1")
    health.add_argument("--all", action="store_true", help="every replica too")
    health.set_defaults(run=lambda asked: commands.health(asked.host, every=asked.all))

    prove = commands_.add_parser("prove", help="speak a sentence and transcribe it")
    prove.add_argument("--asr-url", default=ASR_URL)
    prove.add_argument("--tts-url", default=TTS_URL)
    prove.set_defaults(run=lambda asked: asyncio.run(commands.prove(asked.asr_url, asked.tts_url)))
    return parser


def _transcribe(asked: argparse.Namespace) -> int:
    settings = {
        "language": asked.language,
        "prompt": asked.prompt,
        "endpointing_ms": asked.endpointing_ms,
        "interim_results": asked.interim_results,
    }
    return asyncio.run(
        commands.transcribe_files(
            asked.files,
            asked.url,
            settings,
            pipe_rate=asked.rate,
            realtime=asked.realtime,
            concurrency=asked.concurrency,
            as_json=asked.json,
        )
    )


def _speak(asked: argparse.Namespace) -> int:
    settings: dict[str, Any] = {
        "voice": asked.voice,
        "speed": asked.speed,
        "sample_rate": asked.sample_rate,
    }
    to_pipe = asked.output == "-"
    pieces = commands.standard_input() if asked.text == "-" else commands.whole(asked.text)

    def play(audio: Audio) -> None:
        if to_pipe:
            sys.stdout.buffer.write(audio.data)
            sys.stdout.buffer.flush()

    try:
        spoken = asyncio.run(commands.speak(pieces, asked.url, settings, play))
    except (ChorusError, OSError) as error:
        print(f"error: {commands.explain(error, asked.url)}", file=sys.stderr)
        return 1
    if not to_pipe:
        with open(asked.output, "wb") as file:
            write_wav(file, spoken.audio, spoken.sample_rate)
        first = f"the first of it after {spoken.first_audio_s * 1000:.0f} ms"
        print(f"{asked.output}: {spoken.seconds:.1f} s of audio, {first}")
    return 0


def _version() -> str:
    try:
        return version("chorus")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
