"""What a voice's parts cost: front, middle and back by words, chunks against the whole, beside piper-tts.

    python -m benchmarks.tts_compute [--rounds 15]

One text at a time in this process, without network or scheduler, noise 0. In each round a text is rendered in chunks,
whole, and by piper-tts's own `PiperVoice.synthesize`, in turn, so that whatever else the machine does falls on all.
Figures are medians over the rounds; ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from piper import PiperVoice
from piper.config import SynthesisConfig

from benchmarks import machine
from serving.audio import Samples
from tts import chunks
from tts.graph import BACK, FRONT, MIDDLE
from tts.voice import Manner, Voice

HERE = Path(__file__).resolve().parent
VOICE = "en_US-joe-medium"
WORDS = (5, 10, 20, 35)
TEXT = (
    "If you would like to change your reservation, please tell me the new date and the number of guests, and I will "
    "look for a free table near the window for you and all of your friends"
)
STILL = Manner(noise_scale=0, noise_w_scale=0)
PARTS = {"front": FRONT, "middle": MIDDLE, "back": BACK}
PAUSE_S = 0.2
"""After piper-tts, whose threads go on spinning for a while, on the cores that ours need."""


class Timed:
    """An ONNX Runtime session that adds up the seconds of its calls."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seconds = 0.0

    def run(self, *arguments: Any) -> Any:
        """One call."""
        started = time.perf_counter()
        results = self._session.run(*arguments)
        self.seconds += time.perf_counter() - started
        return results


@dataclass
class Rendering:
    """One text rendered once."""

    audio: Samples
    first: float
    """Seconds until its first sound, and of the processor until then."""
    first_cpu: float
    cpu: float
    """Seconds of the processor for all of it."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds in each part of the voice until the first sound."""


def measured(pieces: Iterator[Samples], parts: dict[str, Timed] | None = None) -> Rendering:
    """Render it, with the clocks read at the first piece and the last."""
    for part in (parts or {}).values():
        part.seconds = 0.0
    started, started_cpu = time.perf_counter(), time.process_time()
    audio = [next(pieces)]
    first, first_cpu = time.perf_counter() - started, time.process_time() - started_cpu
    until_first = {name: part.seconds for name, part in (parts or {}).items()}
    audio.extend(pieces)
    return Rendering(np.concatenate(audio), first, first_cpu, time.process_time() - started_cpu, until_first)


def spoken_by_us(voice: Voice, text: str, plan: Callable[[int], Iterable[chunks.Chunk]]) -> Iterator[Samples]:
    """The text's audio in the chunks of a plan."""
    voice._plan = plan  # type: ignore[assignment]
    for ids in voice.phonemize(text):
        yield from voice.render(ids, STILL)


def spoken_by_piper(voice: PiperVoice, text: str) -> Iterator[Samples]:
    """The text's audio as piper-tts gives it, without the loudness that it evens out."""
    settings = SynthesisConfig(noise_scale=0, noise_w_scale=0, normalize_audio=False)
    return (chunk.audio_float_array for chunk in voice.synthesize(text, settings))


def snr_db(reference: Samples, other: Samples) -> float:
    """Signal to noise."""
    noise = float(np.mean((reference - other) ** 2, dtype=np.float64))
    return 10 * float(np.log10(np.mean(reference**2, dtype=np.float64) / max(noise, 1e-30)))


def measure(model: Path, rounds: int, threads: int) -> list[dict[str, float]]:
    """A row for each number of words."""
    voice = Voice(model.parent, model.stem, device="cpu", threads=threads)
    timed = {name: Timed(voice._usual.parts[file]) for name, file in PARTS.items()}
    voice._usual.parts.update({PARTS[name]: session for name, session in timed.items()})
    piper = PiperVoice.load(model)
    rows = []
    for words in WORDS:
        text = " ".join(TEXT.split()[:words]) + "."
        taken: list[tuple[Rendering, Rendering, Rendering]] = []
        for number in range(-1, rounds):  # one round to warm up
            time.sleep(PAUSE_S)
            one = (
                measured(spoken_by_us(voice, text, chunks.plan), timed),
                measured(spoken_by_us(voice, text, chunks.whole)),
                measured(spoken_by_piper(piper, text)),
            )
            if number >= 0:
                taken.append(one)
            print(f"\r  {words} words: {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        rows.append(row(words, taken, voice.sample_rate))
    return rows


def row(words: int, taken: list[tuple[Rendering, Rendering, Rendering]], sample_rate: int) -> dict[str, float]:
    """What the rounds of one text tell; times in milliseconds, and processor time by second of audio."""
    ours, whole, piper = taken[0]
    seconds = len(whole.audio) / sample_rate
    if len(ours.audio) != len(whole.audio):
        raise RuntimeError(f"chunks of {words} words are not as long as the whole")
    return {
        "words": words,
        "seconds": seconds,
        **{f"{name}_ms": 1000 * median(ours.parts[name] for ours, _, _ in taken) for name in PARTS},
        "first_ms": 1000 * median(ours.first for ours, _, _ in taken),
        "first_cpu_ms": 1000 * median(ours.first_cpu for ours, _, _ in taken),
        "piper_first_ms": 1000 * median(piper.first for _, _, piper in taken),
        "first_ratio": median(ours.first / piper.first for ours, _, piper in taken),
        "cpu_ms_per_s": 1000 * median(ours.cpu for ours, _, _ in taken) / seconds,
        "whole_cpu_ms_per_s": 1000 * median(whole.cpu for _, whole, _ in taken) / seconds,
        "cpu_ratio_to_whole": median(ours.cpu / whole.cpu for ours, whole, _ in taken),
        "piper_cpu_ms_per_s": 1000 * median(piper.cpu for _, _, piper in taken) / seconds,
        "snr_db": snr_db(whole.audio, ours.audio),
        "snr_to_piper_db": snr_db(piper.audio, ours.audio),
    }


def median(values: Iterable[float]) -> float:
    """The median of any number of values."""
    return statistics.median(values)


def table(rows: list[dict[str, float]]) -> list[str]:
    """As Markdown."""
    cells = (
        "| {words} | {seconds:.1f} | {front_ms:.0f} | {middle_ms:.0f} | {back_ms:.0f} "
        "| {first_ms:.0f} ({first_cpu_ms:.0f}) | {piper_first_ms:.0f} | {first_ratio:.2f} "
        "| {cpu_ms_per_s:.0f} | {whole_cpu_ms_per_s:.0f} | {cpu_ratio_to_whole:.2f} | {piper_cpu_ms_per_s:.0f} "
        "| {snr_db:.0f} |"
    )
    return [
        "| words | audio s | front ms | middle ms | back ms | first sound ms (CPU) | piper-tts ms | ratio "
        "| CPU ms per audio s | whole | ratio | piper-tts | SNR dB |",
        "| ---: " * 13 + "|",
        *(cells.format(**each) for each in rows),
    ]


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description="What a voice's parts cost, beside piper-tts.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    models = Path(os.environ.get("MODELS_DIR", ".models"))
    parser.add_argument("--voice", type=Path, default=models / f"piper-{VOICE}" / f"{VOICE}.onnx")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tts_compute")
    asked = parser.parse_args()
    rows = measure(asked.voice, asked.rounds, asked.threads)
    told = f"{asked.rounds} rounds, {asked.threads} threads, {VOICE}, noise 0; {machine.in_words()}"
    text = "\n".join([told, "", *table(rows)]) + "\n"
    print(text, end="")
    machine.write_result(asked.output, text, {"rounds": asked.rounds, "threads": asked.threads, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
