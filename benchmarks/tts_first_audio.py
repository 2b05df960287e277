"""Time to first audio of the running stack, beside piper-tts's own `PiperVoice.synthesize`.

    python -m benchmarks.tts_first_audio [--rounds 30]

One client, one sentence at a time, the same voice on the same cores. piper-tts runs in this process, as a program that
uses it would; the stack is asked through nginx, its network and JSON included. The two take turns, so that whatever
else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

from benchmarks import machine
from chorus.aio import connect_tts
from chorus.connect import TTS_URL
from chorus.tts import Audio
from chorus.wire import tts as wire

HERE = Path(__file__).resolve().parent
VOICE = "en_US-joe-medium"
SENTENCES = {
    9: "The train to the city leaves at half past.",
    15: "The weather tomorrow will be sunny with a light breeze from the west after noon today.",
    33: "If you would like to change your reservation, please tell me the new date and the number of guests, "
    "and I will look for a free table near the window for you and your friends.",
}


async def first_audio_of_stack(url: str, text: str) -> float:
    """Seconds from the request sent to its first audio received; returns when it is complete.

    A stream of its own for each: on one stream a reply waits until the one before has been played.
    """
    async with connect_tts(url) as stream:
        started = time.perf_counter()
        await stream.send(stream.protocol.synthesize(text))
        first = 0.0
        while not isinstance(event := await stream.receive(), wire.SynthesisComplete):
            if isinstance(event, Audio) and not first:
                first = time.perf_counter() - started
        return first


def first_audio_of_piper(voice: object, text: str) -> float:
    """Seconds from the call to the first audio that it yields."""
    started = time.perf_counter()
    next(iter(voice.synthesize(text)))  # type: ignore[attr-defined]
    return time.perf_counter() - started


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p95 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return 1000 * cuts[9], 1000 * cuts[18]


async def measure(url: str, model: Path, rounds: int) -> list[str]:
    """A Markdown table of all sentences."""
    from piper import PiperVoice

    voice = PiperVoice.load(model)
    lines = [
        f"{rounds} rounds a sentence, one client; {machine.in_words()}",
        "",
        "| words | Chorus p50 ms | p95 | piper-tts p50 ms | p95 | ratio of p50 |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for words, text in SENTENCES.items():
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(-2, rounds):  # two rounds to warm up
            times = await first_audio_of_stack(url, text), first_audio_of_piper(voice, text)
            if number >= 0:
                ours.append(times[0])
                theirs.append(times[1])
            print(f"\r  {words} words: {max(0, number + 1)} of {rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        (p50, p95), (their_p50, their_p95) = quantiles(ours), quantiles(theirs)
        lines.append(f"| {words} | {p50:.0f} | {p95:.0f} | {their_p50:.0f} | {their_p95:.0f} | {p50 / their_p50:.2f} |")
    return lines


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description="Time to first audio beside piper-tts's own.")
    parser.add_argument("--url", default=TTS_URL)
    parser.add_argument("--rounds", type=int, default=30)
    models = Path(os.environ.get("MODELS_DIR", ".models"))
    parser.add_argument("--voice", type=Path, default=models / f"piper-{VOICE}" / f"{VOICE}.onnx")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tts_first_audio")
    asked = parser.parse_args()
    lines = asyncio.run(measure(asked.url, asked.voice, asked.rounds))
    print("\n".join(lines))
    text = "\n".join(lines) + "\n"
    machine.write_result(asked.output, text, {"rounds": asked.rounds, "table": lines[2:]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
