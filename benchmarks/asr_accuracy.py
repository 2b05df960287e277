"""Word error rate of the running stack on a folder of speech, beside faster-whisper's on the same files.

    python -m benchmarks.asr_accuracy [FOLDER] [--at-once 4]

Every file is streamed through the balanced port at the speed of speech, with partials and the default
endpointing. faster-whisper gets each file whole, in its own 30 s windows, with the same weights and int8 too.
Both are judged over the whole set (all errors by all reference words) after Whisper's English normalisation.

Exit status: 0 when every stream kept the protocol's promises and every utterance got its final, and the error rate
is at most `--max-wer` where that is given; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import machine
from benchmarks.metrics import METRICS_URL, read_metrics
from benchmarks.speech import CLIPS, errors_of
from chorus.aio import connect_asr
from chorus.commands.common import explain
from chorus.connect import ASR_URL
from chorus.errors import ChorusError
from chorus.sources import from_file
from chorus.transcription import Transcription, transcribe
from loadtest.clips import Clip, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
ENCODER = {
    "finals": "asr_encoder_seconds_total,final",
    "speculations": "asr_encoder_seconds_total,speculation",
    "in vain": "asr_encoder_in_vain_seconds_total",
    "partials": "asr_encoder_seconds_total,partial",
}
"""The replica's counters of its encoder's time; `in vain` are those speculations that did not become finals."""
BEAMS = (5, 1)
"""Beam sizes of faster-whisper: its default, and greedy."""


@dataclass
class Streamed:
    """What the stack made of all clips."""

    texts: list[str]
    utterances: int = 0
    missing_finals: int = 0
    violations: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    latencies_ms: list[int] = field(default_factory=list)
    """Of each final, from the decision that its utterance had ended, by the server's clock."""
    tails_ms: list[int] = field(default_factory=list)
    """Of each file, from its last sample sent to `done`, by the client's clock."""
    encoder_s: dict[str, float] = field(default_factory=dict)
    """Time that the replica's encoder took, by what for."""

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and no promise broken."""
        return not (self.missing_finals or self.violations or self.failed)


@dataclass(frozen=True)
class Whole:
    """What faster-whisper made of all clips."""

    beam: int
    texts: list[str]
    real_time_factor: float
    """Seconds of computing for a second of audio."""
    encoder_s: float
    """Time that its encoder took, of `threads` threads."""
    threads: int


async def served_model(url: str) -> str:
    """Name of the model that the stack serves. Raises `ChorusError` or `OSError`."""
    async with connect_asr(url) as stream:
        assert stream.protocol.ready is not None
        return str(stream.protocol.ready.model)


def find_weights(model: str, asked: Path | None) -> Path:
    """The folder of a model's weights: the one asked for, or the stack's in `MODELS_DIR`. Exits where it has none."""
    weights = asked or Path(os.environ.get("MODELS_DIR", ".models")) / model
    if not (weights / "model.bin").is_file():  # faster-whisper would look for it on a hub, under another name
        raise SystemExit(f"no weights in {weights}; fetch them with  python -m models fetch {model}")
    return weights


async def stream(clips: list[Clip], url: str, metrics_url: str, at_once: int) -> Streamed:
    """Stream every clip at the speed of speech, so many at once."""
    slots = asyncio.Semaphore(at_once)
    found = Streamed([""] * len(clips))
    finished = 0
    before = read_metrics(metrics_url)

    async def one(number: int, clip: Clip) -> None:
        nonlocal finished
        async with slots:
            try:
                result = await transcribe(from_file(str(clip.path)), url, realtime=True, strict=False)
            except (ChorusError, OSError) as error:
                found.failed.append(f"{clip.path.name}: {explain(error, url)}")
            else:
                _add(found, number, clip, result)
        finished += 1
        _progress(f"chorus: {finished} of {len(clips)} files")

    await asyncio.gather(*(one(number, clip) for number, clip in enumerate(clips)))
    print(file=sys.stderr)
    after = read_metrics(metrics_url)
    for name, counter in ENCODER.items():
        found.encoder_s[name] = round(after.get(counter, 0.0) - before.get(counter, 0.0), 3)
    return found


def _add(found: Streamed, number: int, clip: Clip, result: Transcription) -> None:
    found.texts[number] = result.text
    found.utterances += result.done.utterances
    found.missing_finals += result.missing_finals
    found.violations += [f"{clip.path.name}: {what}" for what in result.violations]
    found.latencies_ms += [final.latency_ms for final in result.finals]
    found.tails_ms.append(round(result.seconds_after_end * 1000))


def transcribe_whole(clips: list[Clip], weights: Path, beam: int) -> Whole:
    """Whole files through the library that a user would pick instead."""
    from faster_whisper import WhisperModel

    threads = os.cpu_count() or 1
    model = WhisperModel(str(weights), device="cpu", compute_type="int8", cpu_threads=threads)
    texts, audio_seconds, spent, encoder_s = [], 0.0, 0.0, 0.0
    encode = model.encode

    def timed_encode(features: np.ndarray) -> object:
        nonlocal encoder_s
        began = time.monotonic()
        states = encode(features)
        encoder_s += time.monotonic() - began
        return states

    model.encode = timed_encode  # type: ignore[method-assign]
    for number, clip in enumerate(clips, 1):
        samples, rate = soundfile.read(clip.path, dtype="float32")
        if rate != 16000:
            raise SystemExit(f"{clip.path}: {rate} Hz; faster-whisper takes arrays of 16000 Hz")
        started = time.monotonic()
        segments, _ = model.transcribe(samples, language="en", beam_size=beam)
        texts.append(" ".join(segment.text.strip() for segment in segments))
        spent += time.monotonic() - started
        audio_seconds += len(samples) / rate
        _progress(f"faster-whisper beam {beam}: {number} of {len(clips)} files")
    print(file=sys.stderr)
    return Whole(beam, texts, spent / audio_seconds, round(encoder_s, 3), threads)


def report(
    clips: list[Clip], model: str, streamed: Streamed, wholes: list[Whole], at_once: int
) -> tuple[str, dict[str, object]]:
    """The result as Markdown, and as what goes into the JSON file."""
    said = [clip.text for clip in clips]
    words = sum(len(text.split()) for text in said)
    ours = errors_of(said, streamed.texts)
    theirs = [errors_of(said, whole.texts) for whole in wholes]
    tail = f"{percentile(streamed.tails_ms, 0.5)} / {percentile(streamed.tails_ms, 0.95)} ms"
    decode = f"{percentile(streamed.latencies_ms, 0.5)} / {percentile(streamed.latencies_ms, 0.95)} ms"
    lines = [
        f"{len(clips)} files, {words} words, {model}, int8; {machine.in_words()}",
        "",
        "| system | WER % | wrong + left out + put in |",
        "| --- | ---: | ---: |",
        f"| chorus, streamed at the speed of speech, {at_once} at once | {ours.wer_percent:.2f} | {ours.told} |",
        *(
            f"| faster-whisper, whole files, beam {whole.beam} | {errors.wer_percent:.2f} | {errors.told} |"
            for whole, errors in zip(wholes, theirs, strict=True)
        ),
        "",
        f"- {streamed.utterances} utterances, {streamed.missing_finals} without a final; "
        f"{len(streamed.violations)} promises of the protocol broken; {len(streamed.failed)} streams failed",
        f"- end of utterance decided to final queued, p50 / p95: {decode}; last sample to done: {tail}",
        f"- {_encoder_in_words(streamed.encoder_s)}",
        *(
            f"- faster-whisper beam {whole.beam}: {whole.real_time_factor:.3f} s of computing for a second of audio; "
            f"encoder: {whole.encoder_s:.1f} s of {whole.threads} threads"
            for whole in wholes
        ),
    ]
    result: dict[str, object] = {
        "files": len(clips),
        "words": words,
        "model": model,
        "at_once": at_once,
        "chorus": asdict(ours) | {key: value for key, value in asdict(streamed).items() if key != "texts"},
        "faster_whisper": [
            {key: value for key, value in asdict(whole).items() if key != "texts"} | asdict(errors)
            for whole, errors in zip(wholes, theirs, strict=True)
        ],
    }
    return "\n".join(lines) + "\n", result


def _encoder_in_words(spent: dict[str, float]) -> str:
    finals = spent["finals"] + spent["speculations"] - spent["in vain"]
    return (
        f"encoder: {finals:.1f} s for finals, those decoded again included; beside them {spent['in vain']:.1f} s for "
        f"finals asked for in vain at a pause, and {spent['partials']:.1f} s for partials; of one thread"
    )


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether the stack did as it should."""
    parser = argparse.ArgumentParser(description="Word error rate of the stack beside faster-whisper.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--metrics", default=METRICS_URL, help="of the only replica behind the URL")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--max-wer", type=float, help="percent; more fails")
    parser.add_argument("--weights", type=Path, help="default: the stack's model in MODELS_DIR")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_accuracy", help="without suffix")
    parser.add_argument("--texts", type=Path, help="also write what everybody heard, as JSON")
    asked = parser.parse_args()

    clips = read_manifest(asked.folder)
    try:
        model = asyncio.run(served_model(asked.url))
    except (ChorusError, OSError) as error:
        print(explain(error, asked.url), file=sys.stderr)
        return 1
    weights = find_weights(model, asked.weights)
    streamed = asyncio.run(stream(clips, asked.url, asked.metrics, asked.at_once))
    for line in (*streamed.failed, *streamed.violations):
        print(line, file=sys.stderr)
    if len(streamed.failed) == len(clips):
        return 1
    wholes = [transcribe_whole(clips, weights, beam) for beam in BEAMS]
    text, result = report(clips, model, streamed, wholes, asked.at_once)
    print(text, end="")
    machine.write_result(asked.output, text, result)
    if asked.texts:
        heard = [
            {
                "audio": clip.path.name,
                "said": clip.text,
                "chorus": streamed.texts[number],
                **{f"beam_{whole.beam}": whole.texts[number] for whole in wholes},
            }
            for number, clip in enumerate(clips)
        ]
        asked.texts.write_text(json.dumps(heard, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    accurate = (
        asked.max_wer is None or errors_of((clip.text for clip in clips), streamed.texts).wer_percent <= asked.max_wer
    )
    return 0 if streamed.sound and accurate else 1


def _progress(text: str) -> None:
    print(f"\r  {text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
