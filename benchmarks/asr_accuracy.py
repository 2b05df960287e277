"""Word error rate of the running stack on a folder of speech, beside faster-whisper's on the same files.

    python -m benchmarks.asr_accuracy [FOLDER] [--at-once 4]

Every file is streamed through the balanced port at the speed of speech, with partials and the default
endpointing. faster-whisper gets each file whole, in its own 30 s windows, with the same weights and int8 too.
Both are judged over the whole set (all errors by all reference words) after Whisper's English normalisation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jiwer
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks import machine
from chorus.commands import transcribe
from chorus.connect import ASR_URL
from chorus.errors import ContractViolation
from chorus.files import open_source

HERE = Path(__file__).resolve().parent
CLIPS = HERE.parent / "tests" / "data" / "speech"
MODEL = "whisper-tiny.en"


@dataclass
class Row:
    """One system's result."""

    system: str
    wer_percent: float
    note: str


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """The files and their reference texts."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    """Percent, over the whole set."""
    normalise = EnglishTextNormalizer()
    pairs = [(normalise(a), normalise(b)) for a, b in zip(references, hypotheses, strict=True)]
    return 100 * float(jiwer.wer([a for a, _ in pairs], [b for _, b in pairs]))


async def measure_stack(folder: Path, clips: list[dict[str, str]], url: str, at_once: int) -> tuple[Row, list[str]]:
    """Stream every clip; also counts utterances without a final and broken promises."""
    slots = asyncio.Semaphore(at_once)
    finished = missing = broken = 0
    latencies: list[int] = []

    async def one(clip: dict[str, str]) -> str:
        nonlocal finished, missing, broken
        async with slots:
            source = open_source(str(folder / clip["audio"]), 16000)
            try:
                result = await transcribe(source, url, {}, realtime=True, on_event=lambda _: None)
            except ContractViolation as error:
                broken += 1
                print(f"{clip['audio']}: {error}", file=sys.stderr)
                return ""
        missing += result.utterances - result.finals
        latencies.extend(event.latency_ms for event in result.events if hasattr(event, "latency_ms"))
        finished += 1
        print(f"\r  chorus: {finished} of {len(clips)} files", end="", file=sys.stderr, flush=True)
        return result.text

    texts = list(await asyncio.gather(*(one(clip) for clip in clips)))
    print(file=sys.stderr)
    latencies.sort()
    middle = latencies[len(latencies) // 2]
    note = f"{len(latencies)} finals, {missing} missing, {broken} promises broken, decode p50 {middle} ms"
    return Row(f"chorus, streamed, {at_once} at once", word_error_rate([c["text"] for c in clips], texts), note), texts


def measure_faster_whisper(folder: Path, clips: list[dict[str, str]], weights: Path, beam: int) -> Row:
    """Whole files through the library that a user would pick instead."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(weights), device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1)
    texts, audio_seconds, spent = [], 0.0, 0.0
    for number, clip in enumerate(clips, 1):
        samples, rate = soundfile.read(folder / clip["audio"], dtype="float32")
        started = time.monotonic()
        segments, _ = model.transcribe(samples, language="en", beam_size=beam)
        texts.append(" ".join(segment.text.strip() for segment in segments))
        spent += time.monotonic() - started
        audio_seconds += len(samples) / rate
        print(f"\r  faster-whisper beam {beam}: {number} of {len(clips)} files", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    note = f"real-time factor {spent / audio_seconds:.3f}"
    wer = word_error_rate([clip["text"] for clip in clips], texts)
    return Row(f"faster-whisper, whole files, beam {beam}", wer, note)


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description="Word error rate of the stack beside faster-whisper.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS)
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--weights", type=Path, default=Path(os.environ.get("MODELS_DIR", ".models")) / MODEL)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_accuracy")
    parser.add_argument("--texts", type=Path, help="also write what the stack heard, as JSON")
    asked = parser.parse_args()

    clips = read_manifest(asked.folder)
    ours, texts = asyncio.run(measure_stack(asked.folder, clips, asked.url, asked.at_once))
    rows = [ours, *(measure_faster_whisper(asked.folder, clips, asked.weights, beam) for beam in (5, 1))]
    words = sum(len(clip["text"].split()) for clip in clips)
    lines = [
        f"{len(clips)} files, {words} words; {machine.in_words()}",
        "",
        "| system | WER % | |",
        "| --- | ---: | --- |",
        *(f"| {row.system} | {row.wer_percent:.2f} | {row.note} |" for row in rows),
    ]
    print("\n".join(lines))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = {"machine": machine.describe(), "files": len(clips), "words": words, "rows": [vars(r) for r in rows]}
    asked.output.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if asked.texts:
        heard = {clip["audio"]: text for clip, text in zip(clips, texts, strict=True)}
        asked.texts.write_text(json.dumps(heard, indent=2, ensure_ascii=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
