"""Whether speech stays speech: what recognition hears of replies that Chorus has spoken, alone and to many at once.

    python -m benchmarks.tts_round_trip [--takes 3]

The stack speaks every reply of `replies.txt`, one at a time and 16 at a time, as do, for comparison, whole sentences of
piper-tts in this process, with the same voice and its default noise. The stack's own recognition hears all of it;
errors are counted after Whisper's English normalisation. Noise makes each take another one, so there are several.

Exit status: 0 when nothing failed and no error rate of Chorus is more than half a point above whole-sentence Piper's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.speech import Errors, errors_of
from chorus.commands.common import explain
from chorus.connect import ASR_URL, TTS_URL
from chorus.errors import ChorusError, StreamError
from chorus.sources import from_bytes
from chorus.speech import speak
from chorus.transcription import transcribe
from loadtest.texts import REPLIES

HERE = Path(__file__).resolve().parent
VOICE = "en_US-joe-medium"
LISTENERS = (1, 16)
WORSE_BY_POINTS = 0.5
"""Chorus may be, and no more."""
HEARD_AT_ONCE = 4
TRIES = 30
"""Of a reply that is refused because others are to be spoken first, as on a slow machine, each"""
ASKS_AGAIN_S = 1.0
"""later."""

Spoken = tuple[bytes, int]
"""PCM of 16 bits, and its rate in Hz."""


@dataclass(frozen=True)
class Row:
    """What was heard of one system's speech."""

    system: str
    errors: Errors
    takes: list[float]
    """Word error rate of each, percent."""


async def spoken_by_chorus(texts: list[str], url: str, listeners: int) -> list[Spoken]:
    """Every text, so many at once."""

    async def one(text: str) -> Spoken:
        for left in reversed(range(TRIES)):
            try:
                speech = await speak(text, url)
                break
            except StreamError as error:
                if error.code != "overloaded" or not left:
                    raise
                await asyncio.sleep(ASKS_AGAIN_S)
        return speech.audio, speech.sample_rate

    return await _at_once(one, texts, listeners)


def spoken_by_piper(texts: list[str], voice: Any) -> list[Spoken]:
    """Every text, each sentence rendered whole."""
    found = []
    for text in texts:
        chunks = list(voice.synthesize(text))
        found.append((b"".join(chunk.audio_int16_bytes for chunk in chunks), chunks[0].sample_rate))
    return found


async def heard(spoken: list[Spoken], url: str) -> list[str]:
    """What the stack's recognition makes of it."""

    async def one(each: Spoken) -> str:
        return (await transcribe(from_bytes(*each), url, interim_results=False)).text

    return await _at_once(one, spoken, HEARD_AT_ONCE)


def judge(system: str, texts: list[str], takes: list[list[str]]) -> Row:
    """Errors of all takes together, and the rate of each."""
    said = texts * len(takes)
    every = [text for take in takes for text in take]
    return Row(system, errors_of(said, every), [errors_of(texts, take).wer_percent for take in takes])


def bar(rows: list[Row]) -> float:
    """The most that Chorus' error rate may be: the last row is whole-sentence Piper's."""
    return rows[-1].errors.wer_percent + WORSE_BY_POINTS


def table(rows: Iterable[Row]) -> list[str]:
    """The results as Markdown."""
    lines = ["| spoken by | WER % | of each take | substituted + left out + put in |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        takes = ", ".join(f"{take:.2f}" for take in row.takes)
        lines.append(f"| {row.system} | {row.errors.wer_percent:.2f} | {takes} | {row.errors.told} |")
    return lines


async def measure(tts_url: str, asr_url: str, model: Path, takes: int) -> list[Row]:
    """All systems; they take turns, a take at a time. Raises `ChorusError`, `OSError`."""
    from piper import PiperVoice

    voice = PiperVoice.load(model)
    texts = REPLIES.read_text(encoding="utf-8").splitlines()

    def chorus(listeners: int) -> Callable[[], Awaitable[list[Spoken]]]:
        return lambda: spoken_by_chorus(texts, tts_url, listeners)

    systems: dict[str, Callable[[], Awaitable[list[Spoken]]]] = {
        f"Chorus, {listeners} at once": chorus(listeners) for listeners in LISTENERS
    }
    systems["piper-tts, whole sentences"] = lambda: asyncio.to_thread(spoken_by_piper, texts, voice)
    told: dict[str, list[list[str]]] = {name: [] for name in systems}
    for take in range(takes):
        for name, spoken in systems.items():
            told[name].append(await heard(await spoken(), asr_url))
            print(f"  take {take + 1} of {takes}: {table([judge(name, texts, told[name])])[-1]}", file=sys.stderr)
    return [judge(name, texts, found) for name, found in told.items()]


async def _at_once(work: Callable[[Any], Awaitable[Any]], items: list[Any], most: int) -> list[Any]:
    room = asyncio.Semaphore(most)

    async def one(item: Any) -> Any:
        async with room:
            return await work(item)

    return await asyncio.gather(*map(one, items))


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether speech stayed speech."""
    parser = argparse.ArgumentParser(description="Word error rate of what Chorus speaks, by its own recognition.")
    parser.add_argument("--tts-url", default=TTS_URL)
    parser.add_argument("--asr-url", default=ASR_URL)
    models = Path(os.environ.get("MODELS_DIR", ".models"))
    parser.add_argument("--voice", type=Path, default=models / f"piper-{VOICE}" / f"{VOICE}.onnx", help="Piper's")
    parser.add_argument("--takes", type=int, default=3, help="of every reply by every system")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tts_round_trip", help="without suffix")
    asked = parser.parse_args()
    try:
        rows = asyncio.run(measure(asked.tts_url, asked.asr_url, asked.voice, asked.takes))
    except (ChorusError, OSError) as error:
        print(explain(error, asked.tts_url), file=sys.stderr)
        return 1
    replies = len(REPLIES.read_text(encoding="utf-8").splitlines())
    lines = [f"{replies} replies, {asked.takes} takes; {machine.in_words()}", "", *table(rows)]
    lines += ["", f"Chorus may have at most {bar(rows):.2f} %: whole-sentence Piper's and {WORSE_BY_POINTS} points."]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    machine.write_result(asked.output, text, {"rows": [asdict(row) for row in rows], "bar": bar(rows)})
    return 1 if any(row.errors.wer_percent > bar(rows) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
