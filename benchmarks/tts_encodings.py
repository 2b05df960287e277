"""What each encoding costs and gives, and how loud the voice is beside piper-tts's own output.

    python -m benchmarks.tts_encodings

In this process, without a service: the same speech goes through each encoder in the chunks that the engine makes. CPU
is of the encoding alone, counted by the thread's clock, so that other load on the machine matters little. Loudness is
measured sentence by sentence, as rendered, as served, and as piper-tts normalises it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks import machine
from benchmarks.tts_first_audio import SENTENCES, VOICE
from chorus.wire import tts as wire
from serving.audio import Samples
from serving.memory import trimmer
from tts.chunks import plan
from tts.encoders import Encoder, nearest_rate, new_encoder
from tts.loudness import integrated_lufs
from tts.settings import TtsSettings
from tts.voice import Manner, Voice

HERE = Path(__file__).resolve().parent
EVEN = Manner(noise_scale=0, noise_w_scale=0)
LONG_S = 600
HOP = 256
"""Samples of a frame of the voice."""


def rendered(voice: Voice, text: str) -> Samples:
    """The voice's audio of a text."""
    return np.concatenate([samples for ids in voice.phonemize(text) for samples in voice.render(ids, EVEN)])


def chunks(samples: Samples) -> list[Samples]:
    """As the engine makes them."""
    return [samples[HOP * chunk.start : HOP * chunk.end] for chunk in plan(len(samples) // HOP)]


def measure_encoding(encoding: wire.Encoding, speech: list[Samples], rate: int, rounds: int) -> dict[str, Any]:
    """CPU, size, what is held back, and memory, of sentences spoken again and again."""
    most = held = cpu = seconds = 0.0
    size = 0
    for _ in range(rounds):
        made = new_encoder(settings(encoding, rate), rate, 1)
        told = given = 0.0
        for sentence in speech:
            for chunk in [*chunks(sentence), None]:
                started = time.thread_time()
                encoded = made.encode(chunk)
                spent = time.thread_time() - started
                cpu, most = cpu + spent, max(most, spent)
                given += encoded.seconds
                told += sum(piece.seconds for piece in encoded.pieces)
                held = max(held, given - told)
                size += sum(len(piece.data) for piece in encoded.pieces)
        size += sum(len(piece.data) for piece in made.finish().pieces)
        seconds += given
    return {
        "encoding": encoding,
        "sample_rate": settings(encoding, rate).sample_rate,
        "cpu_ms_per_s": 1000 * cpu / seconds,
        "longest_chunk_ms": 1000 * most,
        "kbit_per_s": size * 8 / seconds / 1000,
        "held_ms": 1000 * held,
        "open_mib": memory_of_open(encoding, speech[0], rate),
        "grown_mib": growth(encoding, speech, rate),
    }


def settings(encoding: wire.Encoding, rate: int) -> wire.Settings:
    """A request's settings, resolved for a voice of that rate."""
    return wire.Settings(encoding=encoding, sample_rate=nearest_rate(encoding, rate))


def memory_of_open(encoding: wire.Encoding, speech: Samples, rate: int, count: int = 20) -> float:
    """MiB of one request's encoder that has begun."""
    before = resident_mib()
    kept: list[Encoder] = []
    for _ in range(count):
        kept.append(new_encoder(settings(encoding, rate), rate, 1))
        kept[-1].encode(speech[:6144])
    return (resident_mib() - before) / len(kept)


def growth(encoding: wire.Encoding, speech: list[Samples], rate: int) -> float:
    """MiB that one request grows by from its first minute to its last."""
    made = new_encoder(settings(encoding, rate), rate, 1)
    seconds, after_a_minute = 0.0, 0.0
    while seconds < LONG_S:
        for chunk in chunks(speech[-1]):
            seconds += made.encode(chunk).seconds
        if not after_a_minute and seconds > 60:
            after_a_minute = resident_mib()
    return resident_mib() - after_a_minute


def resident_mib() -> float:
    """Memory of this process, what was freed given back first."""
    if trim := trimmer():
        trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def loudness(voice: Voice, model: Path, target: float) -> list[dict[str, Any]]:
    """LUFS and peak of each sentence: as the voice was trained, as it is served, and from piper-tts."""
    from piper import PiperVoice
    from piper.config import SynthesisConfig

    piper = PiperVoice.load(model)
    even = SynthesisConfig(noise_scale=0, noise_w_scale=0)
    trained = {words: rendered(voice, text) for words, text in SENTENCES.items()}
    voice.level_to(target)
    rows = []
    for words, text in SENTENCES.items():
        theirs = np.concatenate([chunk.audio_float_array for chunk in piper.synthesize(text, even)])
        row: dict[str, Any] = {"words": words}
        for name, samples in (("trained", trained[words]), ("served", rendered(voice, text)), ("piper", theirs)):
            row[name] = {"lufs": integrated_lufs(samples, voice.sample_rate), "peak": float(np.abs(samples).max())}
        rows.append(row)
    return rows


def table(encodings: list[dict[str, Any]], levels: list[dict[str, Any]]) -> str:
    """Both tables in Markdown."""
    lines = [
        machine.in_words(),
        "",
        "| encoding | Hz | CPU ms a second of audio | longest chunk ms | kbit/s | held back at most ms "
        "| MiB an open request | MiB grown from minute 1 to 10 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each['encoding']} | {each['sample_rate']} | {each['cpu_ms_per_s']:.2f} | {each['longest_chunk_ms']:.1f} | "
        f"{each['kbit_per_s']:.0f} | {each['held_ms']:.0f} | {each['open_mib']:.1f} | {each['grown_mib']:.1f} |"
        for each in encodings
    ]
    lines += [
        "",
        "| words | as trained LUFS | peak | served LUFS | peak | piper-tts LUFS | peak |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in levels:
        cells = [f"{row[name]['lufs']:.1f} | {row[name]['peak']:.2f}" for name in ("trained", "served", "piper")]
        lines.append(f"| {row['words']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description="What each encoding costs, and how loud the voice is.")
    parser.add_argument("--rounds", type=int, default=5)
    models = Path(os.environ.get("MODELS_DIR", ".models"))
    parser.add_argument("--voice", type=Path, default=models / f"piper-{VOICE}" / f"{VOICE}.onnx")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tts_encodings")
    asked = parser.parse_args()
    print("  rendering", file=sys.stderr)
    voice = Voice(asked.voice.parent, asked.voice.stem, device="cpu", threads=len(os.sched_getaffinity(0)))
    speech = [rendered(voice, text) for text in SENTENCES.values()]
    encodings = []
    for encoding in get_args(wire.Encoding):
        print(f"  {encoding}", file=sys.stderr)
        encodings.append(measure_encoding(encoding, speech, voice.sample_rate, asked.rounds))
    print("  loudness", file=sys.stderr)
    levels = loudness(voice, asked.voice, TtsSettings().loudness_lufs)
    text = table(encodings, levels)
    print(text, end="")
    machine.write_result(asked.output, text, {"encodings": encodings, "loudness": levels})
    return 0


if __name__ == "__main__":
    sys.exit(main())
