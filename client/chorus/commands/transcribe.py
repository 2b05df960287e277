"""`chorus transcribe`: audio files or a pipe to text."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chorus.asr import BYTES_PER_SAMPLE
from chorus.commands.common import CONTRACT_BROKEN, FAILED, OK, Commands, add_ca, add_key, explain, raw_stdin, warn
from chorus.connect import ASR_URL
from chorus.errors import ChorusError, ContractViolation
from chorus.reconnect import PATIENCE_S, Event, Interrupted, Resumed
from chorus.sources import Source, from_file, from_pipe
from chorus.transcription import Transcription, transcribe
from chorus.wire import asr as wire
from chorus.wire.common import Error

SETTINGS = (
    "language",
    "task",
    "prompt",
    "hotwords",
    "endpointing",
    "endpointing_ms",
    "vad_threshold",
    "max_utterance_s",
    "interim_results",
    "word_timestamps",
)
"""Settings of the stream that have a flag of their own name."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "transcribe",
        help="audio files or a pipe to text",
        description="Stream audio to the recognition service and print its words, an utterance a line; of several "
        "files a line each, after the file's name, and a summary.",
        epilog="A microphone: arecord -q -f S16_LE -r 16000 -t raw | chorus transcribe -      "
        "Exit status: 0 all went well, 1 a stream failed, lost audio or got no final, 2 wrong arguments, "
        "3 the server broke the protocol.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, Ogg, MP3 …; - for standard input")
    parser.add_argument("--url", default=ASR_URL, help="the service (default %(default)s)")
    add_key(parser)
    add_ca(parser)
    parser.add_argument("--realtime", action="store_true", help="send at the speed of speech, not at the fastest")
    parser.add_argument("--concurrency", type=_positive, default=4, metavar="N", help="files at once (default 4)")
    parser.add_argument(
        "--reconnect",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"when a connection is lost, try for {PATIENCE_S:g} s to go on over another",
    )
    parser.add_argument("--json", action="store_true", help="print every event as a line of JSON")
    raw = parser.add_argument_group("raw samples on standard input (a WAV file tells by itself)")
    raw.add_argument("--rate", type=int, default=16000, metavar="HZ", help="samples a second (default 16000)")
    raw.add_argument("--channels", type=int, choices=(1, 2), default=1)
    raw.add_argument("--encoding", choices=tuple(BYTES_PER_SAMPLE), default="pcm_s16le")
    stream = parser.add_argument_group("recognition; without a flag the service's own default holds")
    stream.add_argument("--language", metavar="CODE", help="en, de … or auto")
    stream.add_argument("--prompt", metavar="TEXT", help="text that the speech is likely to continue")
    stream.add_argument("--hotwords", metavar="WORDS", help="names and rare words to expect, by commas")
    stream.add_argument(
        "--task", choices=("transcribe", "translate"), help="translate: write English, whatever is said"
    )
    stream.add_argument(
        "--endpointing", choices=("fixed", "adaptive"), help="adaptive: wait less where the words read as finished"
    )
    stream.add_argument("--endpointing-ms", type=int, metavar="MS", help="silence that ends an utterance")
    stream.add_argument("--vad-threshold", type=float, metavar="P", help="how sure of speech the detector must be")
    stream.add_argument("--max-utterance-s", type=float, metavar="S", help="longest utterance, 1 to 28")
    stream.add_argument(
        "--interim", dest="interim_results", action=argparse.BooleanOptionalAction, help="words as they are spoken"
    )
    stream.add_argument("--word-timestamps", action="store_true", default=None, help="times of words, with --json")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Run the command."""
    if asked.files.count("-") > 1:
        warn("error: standard input can be named once")
        return FAILED
    return asyncio.run(_Batch(asked).run())


@dataclass
class _Totals:
    """Of all files, for the summary."""

    seconds: float = 0.0
    utterances: int = 0
    missing_finals: int = 0
    lost_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    failed: int = 0

    def add(self, result: Transcription) -> None:
        """Count one that came to its end."""
        self.seconds += result.done.audio_seconds
        self.utterances += result.done.utterances
        self.missing_finals += result.missing_finals
        self.lost_seconds += result.lost_seconds
        self.violations += [f"{result.name}: {what}" for what in result.violations]


class _Batch:
    """All the files of one command."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._single = len(asked.files) == 1
        self._live = self._single and not asked.json and sys.stderr.isatty()
        self._totals = _Totals()

    async def run(self) -> int:
        """Transcribe all; returns the exit status."""
        started = time.monotonic()
        slots = asyncio.Semaphore(self._asked.concurrency)
        await asyncio.gather(*(self._one(name, slots) for name in self._asked.files))
        totals = self._totals
        for violation in totals.violations:
            warn(f"the server broke the protocol: {violation}")
        if not self._single:
            warn(
                f"{len(self._asked.files)} files, {totals.failed} failed; "
                f"{totals.utterances} utterances, {totals.missing_finals} without a final; "
                f"{len(totals.violations)} contract violations; "
                f"{totals.seconds:.1f} s of audio in {time.monotonic() - started:.1f} s"
            )
        if totals.violations:
            return CONTRACT_BROKEN
        return FAILED if totals.failed or totals.missing_finals or totals.lost_seconds else OK

    async def _one(self, name: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                result = await self._transcribe(name)
            except ContractViolation as error:  # of a frame that can't be read at all
                self._totals.violations.append(f"{name}: {error}")
                return
            except (ChorusError, OSError, ValueError) as error:
                self._totals.failed += 1
                self._clear()
                warn(f"{name}: {explain(error, self._asked.url)}")
                return
        self._totals.add(result)
        self._clear()
        if not self._single and not self._asked.json:
            print(f"{name}\t{result.text}", flush=True)

    async def _transcribe(self, name: str) -> Transcription:
        settings: dict[str, Any] = {key: getattr(self._asked, key) for key in SETTINGS}
        return await transcribe(
            await asyncio.to_thread(self._source, name) if name != "-" else self._source(name),
            self._asked.url,
            key=self._asked.key,
            ca=self._asked.ca,
            realtime=self._asked.realtime,
            strict=False,
            reconnect=self._asked.reconnect,
            on_event=lambda event: self._show(name, event),
            **settings,
        )

    def _source(self, name: str) -> Source:
        if name != "-":
            return from_file(name)
        asked = self._asked
        return from_pipe(raw_stdin(), sample_rate=asked.rate, channels=asked.channels, encoding=asked.encoding)

    def _show(self, name: str, event: Event) -> None:
        if self._asked.json:
            print(json.dumps({"file": name, **msgspec.to_builtins(event)}, ensure_ascii=False), flush=True)
        elif isinstance(event, wire.Partial) and self._live:
            print(f"\r\033[K{event.text[-100:]}", end="", file=sys.stderr, flush=True)
        elif isinstance(event, wire.Final) and self._single and event.text:
            self._clear()
            print(event.text, flush=True)
        elif isinstance(event, Error) and event.recoverable:
            self._clear()
            warn(f"{name}: {event.code}: {event.message}")
        elif isinstance(event, Interrupted):
            self._clear()
            warn(f"{name}: {event.reason}; reconnecting")
        elif isinstance(event, Resumed):
            lost = f"; {event.lost_seconds:.1f} s of audio are lost" if event.lost_seconds else ""
            warn(f"{name}: reconnected, going on from second {event.time:.1f}{lost}")

    def _clear(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
