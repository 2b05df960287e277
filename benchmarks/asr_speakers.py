"""How long live speakers wait for their words, by how many speak at once.

    python -m benchmarks.asr_speakers [FOLDER] [--speakers 1 8 16] [--utterances 200]

Each speaker says clips back to back with 1.2 s of silence between, at the speed of speech, in frames of 20 ms, with
partials and the default endpointing. A clip's latency is the time from the true end of its speech (its last audible
sound, by the sender's schedule: a sender that is late does not flatter the server) to the arrival of the last final
that covers that end. What the server computed meanwhile comes from its metrics, for one replica.

Exit status: 0 when every clip was covered by finals and no promise of the protocol was broken; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import machine
from benchmarks.speech import CLIPS, PAUSE_S, Errors, Speech, errors_of, percentile, read_manifest, speeches
from chorus.asr import Event
from chorus.commands.common import explain
from chorus.connect import ASR_URL
from chorus.errors import ChorusError
from chorus.sources import from_bytes
from chorus.transcription import transcribe
from chorus.wire import asr as wire

HERE = Path(__file__).resolve().parent
METRICS_URL = "http://127.0.0.1:8001/metrics"
BETWEEN_S = PAUSE_S / 2
"""A final that begins so shortly before a clip tells of that clip: utterances begin a little before their speech."""
COVERS_S = 0.3
"""A final covers a clip's last sound if it ends at most so much before it: what is barely audible may be silence."""

Metrics = dict[str, float]
"""Of a sample's name with its labels, the value."""


@dataclass
class Heard:
    """What one speaker got back."""

    latencies: list[float] = field(default_factory=list)
    """Of each clip that was covered, seconds."""
    first_partials: list[float] = field(default_factory=list)
    """Of each utterance that had one: from the utterance's first sample to its first partial, seconds."""
    uncovered: int = 0
    said: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Promises of the protocol that were."""


@dataclass(frozen=True)
class Level:
    """The result for so many speakers at once."""

    speakers: int
    clips: int
    covered: int
    wer: Errors
    p50: float | None
    p95: float | None
    worst: float | None
    partial_p50: float | None
    cpu_per_audio_second: float
    rss_mib: float
    engine: dict[str, float]
    """Seconds of the engine, and counts, by what they were for."""
    broken: list[str]


async def speak(speech: Speech, url: str, delay: float) -> Heard:
    """One speaker's stream from its first word to `done`. Raises what `transcribe` raises."""
    await asyncio.sleep(delay)
    arrived: list[tuple[float, Event]] = []
    result = await transcribe(
        from_bytes(speech.samples.tobytes()),
        url,
        realtime=True,
        strict=False,
        on_event=lambda event: arrived.append((time.monotonic(), event)),
    )
    started = arrived[0][0]  # `ready`: the first sample is spoken then
    finals = [(at - started, event) for at, event in arrived if isinstance(event, wire.Final)]
    heard = Heard(broken=list(result.violations))
    for turn, spoken in enumerate(speech.spoken):
        begin = spoken.start - BETWEEN_S
        end = speech.spoken[turn + 1].start - BETWEEN_S if turn + 1 < len(speech.spoken) else float("inf")
        mine = [(at, final) for at, final in finals if begin <= final.start_time < end]
        covering = [at for at, final in mine if final.end_time >= spoken.speech_end - COVERS_S]
        if covering:
            heard.latencies.append(covering[-1] - spoken.speech_end)
        else:
            heard.uncovered += 1
        heard.said.append(spoken.clip.text)
        heard.texts.append(" ".join(final.text for _, final in mine))
    heard.first_partials = _first_partials(arrived, started)
    return heard


def _first_partials(arrived: Iterable[tuple[float, Event]], started: float) -> list[float]:
    seen: dict[int, float] = {}
    for at, event in arrived:
        if isinstance(event, wire.Partial):
            seen.setdefault(event.utterance, at - started - event.start_time)
    return list(seen.values())


def read_metrics(url: str) -> Metrics:
    """A replica's counters now. Raises `OSError`."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        ",".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


async def measure(told: list[Speech], url: str, metrics_url: str) -> Level:
    """Let everybody speak, and wait for the last word."""
    before = read_metrics(metrics_url)
    longest = max(speech.seconds for speech in told)
    delays = random.Random(0)
    speaking = [asyncio.create_task(speak(speech, url, delays.uniform(0, 5))) for speech in told]
    started = time.monotonic()
    while not all(task.done() for task in speaking):
        await asyncio.wait(speaking, timeout=5)
        spent = time.monotonic() - started
        print(
            f"\r  {len(told)} speakers: {spent:.0f} of about {longest + 5:.0f} s ", end="", file=sys.stderr, flush=True
        )
    print(file=sys.stderr)
    heard = [task.result() for task in speaking]
    after = read_metrics(metrics_url)
    change = {name: value - before.get(name, 0.0) for name, value in after.items()}
    latencies = [latency for each in heard for latency in each.latencies]
    return Level(
        speakers=len(told),
        clips=sum(len(each.said) for each in heard),
        covered=len(latencies),
        wer=errors_of((t for each in heard for t in each.said), (t for each in heard for t in each.texts)),
        p50=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        worst=max(latencies, default=None),
        partial_p50=percentile((delay for each in heard for delay in each.first_partials), 0.5),
        cpu_per_audio_second=change["process_cpu_seconds_total"] / change["asr_audio_seconds_total"],
        rss_mib=after["process_resident_memory_bytes"] / 2**20,
        engine={
            name: round(value, 3)
            for name, value in change.items()
            if name.startswith("asr_") and not name.endswith("_created") and value
        },
        broken=[line for each in heard for line in each.broken],
    )


def table(levels: list[Level]) -> str:
    """The result as Markdown."""
    lines = [
        "| speakers | clips | with finals | WER % | final p50 s | p95 s | worst s | first partial p50 s "
        "| CPU s per audio s | RSS MiB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for level in levels:
        times = (level.p50, level.p95, level.worst, level.partial_p50)
        shown = " | ".join("" if value is None else f"{value:.2f}" for value in times)
        lines.append(
            f"| {level.speakers} | {level.clips} | {100 * level.covered / level.clips:.1f} % "
            f"| {level.wer.wer_percent:.2f} | {shown} | {level.cpu_per_audio_second:.3f} | {level.rss_mib:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether anything was lost."""
    parser = argparse.ArgumentParser(description="Latency of finals by the number of live speakers.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--metrics", default=METRICS_URL, help="of the only replica behind the URL")
    parser.add_argument("--speakers", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--utterances", type=int, default=200, help="clips for each number of speakers")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_speakers", help="without suffix")
    asked = parser.parse_args()

    clips = read_manifest(asked.folder)
    levels = []
    try:
        for speakers in asked.speakers:
            told = speeches(clips, speakers, asked.utterances)
            levels.append(asyncio.run(measure(told, asked.url, asked.metrics)))
            print(table(levels[-1:]), end="")
    except (ChorusError, OSError) as error:
        print(explain(error, asked.url), file=sys.stderr)
        return 1
    text = f"{machine.in_words()}\n\n{table(levels)}"
    print(text, end="")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.with_suffix(".md").write_text(text, encoding="utf-8")
    result = {"machine": machine.describe(), "levels": [asdict(level) for level in levels]}
    asked.output.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for line in (line for level in levels for line in level.broken):
        print(line, file=sys.stderr)
    return 0 if all(level.covered == level.clips and not level.broken for level in levels) else 1


if __name__ == "__main__":
    sys.exit(main())
