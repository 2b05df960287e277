"""How much text the running stack makes up, beside faster-whisper with its voice filter on the same sound.

    python -m benchmarks.asr_false_text [FOLDER] [--seconds 45] [--sounds FOLDER]

Sound in which nobody speaks (`benchmarks/noises.py`, and recordings of one's own) is streamed as fast as the stack
takes it; faster-whisper gets it whole, with `vad_filter=True`, its own defaults otherwise, and the same weights in
int8. Every character of a final is then false. A second time both voice detectors are made credulous, since what
deceives them in the world is more than can be synthesised. Speech that was spoilt (packets lost, clipped, hardly to
be heard, noise behind it) shows the other kind of false text: words put in that nobody said.

Exit status: 0 when the stack made up no text on silence and stationary noise, and at most a tenth of faster-whisper's
on all other sound without speech, both by default and when credulous, and kept the protocol's promises; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from faster_whisper import WhisperModel

from benchmarks import machine, noises
from benchmarks.asr_accuracy import find_weights, served_model
from benchmarks.noises import Audio, Random
from benchmarks.speech import CLIPS, Errors, errors_of
from chorus.commands.common import explain
from chorus.connect import ASR_URL
from chorus.errors import ChorusError
from chorus.sources import from_bytes
from chorus.transcription import Transcription, transcribe
from chorus.wire import asr as wire
from loadtest.clips import SAMPLE_RATE, Pcm, read, read_manifest

HERE = Path(__file__).resolve().parent
SHARE = 0.1
"""Of faster-whisper's false text, the most that is acceptable where the sound is not stationary."""
CREDULOUS = 0.1
"""Voice probability that is taken for speech the second time; the default is 0.5."""
BEHIND_S = 8.0
"""Sound without speech behind a clip."""


def _with(name: str) -> Callable[[Audio, Random], Audio]:
    return lambda speech, _: np.concatenate((speech, noises.sound(name, BEHIND_S)))


SPOILT: dict[str, Callable[[Audio, Random], Audio]] = {
    "as recorded": lambda speech, _: speech,
    "10 % of packets silent": lambda speech, random: noises.with_gaps(speech, 0.1, random),
    "30 % of packets silent": lambda speech, random: noises.with_gaps(speech, 0.3, random),
    "10 % of packets cut out": lambda speech, random: noises.with_cuts(speech, 0.1, random),
    "clipped, 25 dB too loud": lambda speech, _: noises.clipped(speech, 25),
    "very quiet, -60 dB": lambda speech, _: noises.at_level(speech, -60),
    "hardly there, -70 dB": lambda speech, _: noises.at_level(speech, -70),
    "typing behind it": _with("typing"),
    "breathing behind it": _with("breathing, near"),
}
"""What is done to speech before it is sent."""


@dataclass(frozen=True)
class Recording:
    """One thing to listen to."""

    kind: str
    samples: Pcm
    said: str = ""


@dataclass(frozen=True)
class Heard:
    """What somebody made of one recording."""

    text: str
    shown: int = 0
    """Characters of the longest partials of all utterances."""


@dataclass(frozen=True)
class FalseText:
    """What was made up on one kind of sound, characters."""

    kind: str
    stationary: bool
    seconds: float
    chorus: int
    chorus_partials: int
    faster_whisper: int
    credulous_chorus: int
    credulous_faster_whisper: int


@dataclass(frozen=True)
class Spoilt:
    """What was heard of speech that was spoilt in one way."""

    kind: str
    clips: int
    chorus: Errors
    faster_whisper: Errors


def without_speech(seconds: float, folder: Path | None) -> list[Recording]:
    """So many seconds of each sound that is synthesised, and the recordings of a folder one after the other."""
    found = [Recording(name, _pcm(noises.sound(name, seconds))) for name in (*noises.STATIONARY, *noises.CHANGING)]
    if folder is not None:
        pause = np.zeros(SAMPLE_RATE // 2, np.float32)
        files = sorted(path for path in folder.iterdir() if path.suffix[1:].upper() in soundfile.available_formats())
        parts = [part for path in files for part in (_read(path), pause)]
        found.append(Recording(f"{len(files)} recordings", _pcm(np.concatenate(parts))))
    return found


def spoilt(folder: Path) -> list[Recording]:
    """Every clip in every way of `SPOILT`."""
    clips = [(clip, np.float32(read(clip)) / np.float32(32768)) for clip in read_manifest(folder)]
    return [
        Recording(kind, _pcm(spoil(samples, np.random.default_rng(zlib.crc32(clip.path.name.encode())))), clip.text)
        for kind, spoil in SPOILT.items()
        for clip, samples in clips
    ]


def _read(path: Path) -> Audio:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE), np.float32)


def _pcm(samples: Audio) -> Pcm:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


async def stream(
    recordings: list[Recording], url: str, at_once: int, *, realtime: bool, threshold: float | None = None
) -> tuple[list[Heard], list[str]]:
    """What the stack heard, and every promise of the protocol that it broke. Raises what `transcribe` raises."""
    slots = asyncio.Semaphore(at_once)
    broken: list[str] = []
    finished = 0

    async def one(recording: Recording) -> Heard:
        nonlocal finished
        async with slots:
            source = from_bytes(recording.samples.tobytes())
            result = await transcribe(source, url, realtime=realtime, strict=False, vad_threshold=threshold)
        broken.extend(f"{recording.kind}: {what}" for what in result.violations)
        finished += 1
        _progress(f"chorus: {finished} of {len(recordings)} recordings")
        return Heard(result.text, _shown(result))

    heard = await asyncio.gather(*map(one, recordings))
    print(file=sys.stderr)
    return heard, broken


def _shown(result: Transcription) -> int:
    longest: dict[int, int] = {}
    for event in result.events:
        if isinstance(event, wire.Partial):
            longest[event.utterance] = max(longest.get(event.utterance, 0), len(event.text))
    return sum(longest.values())


def transcribe_whole(model: Any, recordings: list[Recording], threshold: float | None = None) -> list[Heard]:
    """What a `WhisperModel` of faster-whisper hears in whole recordings, its voice filter on."""
    filtered: dict[str, Any] = {"vad_filter": True}
    if threshold is not None:
        filtered["vad_parameters"] = {"threshold": threshold}
    heard = []
    for number, recording in enumerate(recordings, 1):
        samples = recording.samples.astype(np.float32) / np.float32(32768)
        segments, _ = model.transcribe(samples, language="en", **filtered)
        heard.append(Heard(" ".join(segment.text.strip() for segment in segments)))
        _progress(f"faster-whisper: {number} of {len(recordings)} recordings")
    print(file=sys.stderr)
    return heard


def judge(
    recordings: list[Recording], usual: tuple[list[Heard], list[Heard]], credulous: tuple[list[Heard], list[Heard]]
) -> list[FalseText]:
    """What was made up, by kind of sound; each pair is the stack's and faster-whisper's."""
    return [
        FalseText(
            kind=recording.kind,
            stationary=recording.kind in noises.STATIONARY,
            seconds=len(recording.samples) / SAMPLE_RATE,
            chorus=len(our.text),
            chorus_partials=our.shown,
            faster_whisper=len(their.text),
            credulous_chorus=len(our_second.text),
            credulous_faster_whisper=len(their_second.text),
        )
        for recording, our, their, our_second, their_second in zip(recordings, *usual, *credulous, strict=True)
    ]


def compare(recordings: list[Recording], ours: list[Heard], theirs: list[Heard]) -> list[Spoilt]:
    """What was heard wrongly, by what was done to the speech."""
    result = []
    for kind in SPOILT:
        rows = [row for row, recording in enumerate(recordings) if recording.kind == kind]
        said = [recordings[row].said for row in rows]
        by_us, by_them = (errors_of(said, (heard[row].text for row in rows)) for heard in (ours, theirs))
        result.append(Spoilt(kind, len(rows), by_us, by_them))
    return result


def acceptable(found: list[FalseText]) -> bool:
    """Whether the stack made up nothing where it must not, and little beside faster-whisper elsewhere."""
    still = [each for each in found if each.stationary]
    moving = [each for each in found if not each.stationary]
    return (
        not any(each.chorus or each.credulous_chorus for each in still)
        and sum(each.chorus for each in moving) <= SHARE * sum(each.faster_whisper for each in moving)
        and sum(each.credulous_chorus for each in moving)
        <= SHARE * sum(each.credulous_faster_whisper for each in moving)
    )


def tables(found: list[FalseText], speech: list[Spoilt]) -> str:
    """The result as Markdown."""
    lines = [
        "Characters of false text for an hour of sound without speech:",
        "",
        "| sound | seconds | chorus | its partials | faster-whisper | chorus, credulous | faster-whisper, credulous |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_row(each.kind, [each]) for each in found),
        _row("**all silence and stationary noise**", [each for each in found if each.stationary]),
        _row("**all other sound**", [each for each in found if not each.stationary]),
        _row("**all**", found),
        "",
        "Words put in that nobody said, and word error rate, of speech that was spoilt:",
        "",
        "| speech | clips | chorus put in | WER % | faster-whisper put in | WER % |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {each.kind} | {each.clips} | {each.chorus.put_in} | {each.chorus.wer_percent:.1f} "
            f"| {each.faster_whisper.put_in} | {each.faster_whisper.wer_percent:.1f} |"
            for each in speech
        ),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, found: Iterable[FalseText]) -> str:
    found = list(found)
    seconds = sum(each.seconds for each in found)
    counts = (
        sum(each.chorus for each in found),
        sum(each.chorus_partials for each in found),
        sum(each.faster_whisper for each in found),
        sum(each.credulous_chorus for each in found),
        sum(each.credulous_faster_whisper for each in found),
    )
    return " | ".join((f"| {name}", f"{seconds:.0f}", *(f"{3600 * count / seconds:.0f}" for count in counts))) + " |"


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether it is acceptable."""
    parser = argparse.ArgumentParser(description="False text of the stack beside faster-whisper with its voice filter.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--seconds", type=float, default=45, help="of each sound that is synthesised")
    parser.add_argument("--sounds", type=Path, help="a folder of recordings without speech, to add")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--realtime", action="store_true", help="send at the speed of sound, so that partials count")
    parser.add_argument("--weights", type=Path, help="default: the stack's model in MODELS_DIR")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_false_text", help="without suffix")
    parser.add_argument("--texts", type=Path, help="also write what everybody heard, as JSON")
    asked = parser.parse_args()

    sounds, speech = without_speech(asked.seconds, asked.sounds), spoilt(asked.folder)
    recordings = sounds + speech
    listen = partial(stream, url=asked.url, at_once=asked.at_once, realtime=asked.realtime)
    try:
        model = asyncio.run(served_model(asked.url))
        weights = find_weights(model, asked.weights)
        ours, broken = asyncio.run(listen(recordings))
        ours_credulous, broken_too = asyncio.run(listen(sounds, threshold=CREDULOUS))
    except (ChorusError, OSError) as error:
        print(explain(error, asked.url), file=sys.stderr)
        return 1
    broken += broken_too
    rival = WhisperModel(str(weights), device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1)
    theirs = transcribe_whole(rival, recordings)
    theirs_credulous = transcribe_whole(rival, sounds, CREDULOUS)
    count = len(sounds)
    found = judge(sounds, (ours[:count], theirs[:count]), (ours_credulous, theirs_credulous))
    compared = compare(speech, ours[count:], theirs[count:])
    text = f"{model}, int8; {machine.in_words()}\n\n{tables(found, compared)}"
    print(text, end="")
    result = {
        "model": model,
        "sounds": [asdict(each) for each in found],
        "speech": [asdict(each) for each in compared],
        "broken": broken,
    }
    machine.write_result(asked.output, text, result)
    if asked.texts:
        kinds = [recording.kind for recording in (*recordings, *sounds)]
        texts = zip(kinds, ours + ours_credulous, theirs + theirs_credulous, strict=True)
        heard = [{"kind": kind, "chorus": our.text, "faster_whisper": their.text} for kind, our, their in texts]
        asked.texts.write_text(json.dumps(heard, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for line in broken:
        print(line, file=sys.stderr)
    return 0 if acceptable(found) and not broken else 1


def _progress(text: str) -> None:
    print(f"\r  {text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
