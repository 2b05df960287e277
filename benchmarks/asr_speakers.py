"""How long live speakers wait for their words, by how many speak at once: Chorus, and what a user would pick instead.

    python -m benchmarks.asr_speakers [FOLDER] [--systems chorus whisper-live …] [--speakers 1 5 16] [--utterances 40]

Each speaker says clips back to back with 1.2 s of silence between, at the speed of speech. A clip's latency is the
time from the true end of its speech (its last audible sound, by the sender's schedule: a sender that is late does not
flatter the server) to the arrival of the last final that covers that end. A clip without one in 15 s was not
finalised, and counts as one that waits for ever.

One system is measured after the other, with the same speech, weights and cores. A rival that has collapsed at a
number of speakers is not asked for more.

Exit status: 0 when Chorus, where it was asked, covered every clip with finals and broke no promise of the protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import machine
from benchmarks.asr_systems import (
    Chorus,
    Refused,
    Speaches,
    System,
    WhisperLive,
    WhisperLiveKit,
    WyomingFasterWhisper,
)
from benchmarks.hearing import DRAIN_S, Speaker, judge
from benchmarks.metrics import METRICS_URL, Metrics
from benchmarks.rival_servers import DoesNotRun
from benchmarks.speech import CLIPS, Errors, Speech, errors_of, speeches
from chorus.connect import ASR_URL
from loadtest.clips import Clip, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
COMPARED_AT = 5
"""Speakers at which every system is measured, collapsed or not: there they are compared."""
SPEAKERS = (1, 2, 4, COMPARED_AT, 8, 12, 16, 24)
COLLAPSED_P95_S = 10.0
SPREAD_S = 5.0
"""Speakers begin within so many seconds of each other."""
LATE_S = 60.0
"""So long after the longest speech and the wait for its last final, a stream that still does not end is given up."""


@dataclass(frozen=True)
class Level:
    """The result of a system for so many speakers at once."""

    system: str
    speakers: int
    refused: int
    """Speakers whom the system told that it takes no more; nothing else here is about them."""
    clips: int
    finalised: int
    wer: Errors
    p50: float
    """Of the latencies, as the next two: seconds; infinite where that clip was not finalised."""
    p95: float
    worst: float
    partial_p50: float | None
    """From the true begin of a clip's speech to its first words; None where there were none."""
    cpu_per_audio_second: float
    rss_mib: float
    """The most that was seen."""
    counters: Metrics
    """What the system told of itself: seconds of its engine, and counts, by what they were for."""
    broken: list[str]
    """Promises of the protocol that were broken, and streams that failed."""

    @property
    def collapsed(self) -> bool:
        """Whether nobody would call this live any more."""
        return self.p95 > COLLAPSED_P95_S or self.finalised < self.clips / 2

    @property
    def sound(self) -> bool:
        """Whether everybody got everything."""
        return self.finalised == self.clips and not self.refused and not self.broken


@dataclass(frozen=True)
class NotRun:
    """Why there is no result."""

    system: str
    speakers: int | None
    """None where it is all of them."""
    why: str


@dataclass(frozen=True)
class Results:
    """Everything measured so far."""

    systems: list[System]
    levels: list[Level]
    missing: list[NotRun]

    def at(self, system: str, speakers: int) -> Level | None:
        """The result of a system for so many speakers, if there is one."""
        return next((level for level in self.of(system) if level.speakers == speakers), None)

    def of(self, system: str) -> list[Level]:
        """All results of a system."""
        return [level for level in self.levels if level.system == system]


async def measure(system: System, told: list[Speech], warm_up: Speech) -> Level:
    """Let everybody speak, and wait for the last word. Raises what stands in the way of any."""
    await system.listen(Speaker(warm_up))
    before = system.usage()
    delays = random.Random(0)
    speakers = [Speaker(speech) for speech in told]
    listening = [asyncio.create_task(_listen(system, speaker, delays.uniform(0, SPREAD_S))) for speaker in speakers]
    rss_mib = await _wait(system, listening, max(speech.seconds for speech in told) + SPREAD_S)
    after = system.usage()

    ends = await asyncio.gather(*listening, return_exceptions=True)
    admitted = [speaker for speaker, end in zip(speakers, ends, strict=True) if not isinstance(end, Refused)]
    failed = [f"a stream failed: {end!r}" for end in ends if isinstance(end, BaseException) and not _is_expected(end)]
    heard = [judge(speaker.speech, speaker.texts) for speaker in admitted]
    latencies = [latency for each in heard for latency in each.latencies]
    seconds = sum(speaker.speech.seconds for speaker in admitted)
    counters = {name: round(value - before.counters.get(name, 0.0), 3) for name, value in after.counters.items()}
    return Level(
        system=system.name,
        speakers=len(told),
        refused=len(speakers) - len(admitted),
        clips=len(latencies),
        finalised=sum(map(math.isfinite, latencies)),
        wer=errors_of((each.said for each in heard), (each.words for each in heard)),
        p50=_quantile(latencies, 0.5),
        p95=_quantile(latencies, 0.95),
        worst=max(latencies, default=math.inf),
        partial_p50=percentile((delay for each in heard for delay in each.first_partials), 0.5),
        cpu_per_audio_second=(after.cpu_seconds - before.cpu_seconds) / seconds if seconds else 0.0,
        rss_mib=max(rss_mib, after.rss_mib),
        counters={name: value for name, value in counters.items() if value},
        broken=[*system.broken, *failed],
    )


async def _listen(system: System, speaker: Speaker, delay: float) -> None:
    await asyncio.sleep(delay)
    await system.listen(speaker)


async def _wait(system: System, listening: list[asyncio.Task[None]], longest: float) -> float:
    """Until everybody has heard all, or no more is to come; returns the most memory seen meanwhile, MiB."""
    started, rss_mib = time.monotonic(), 0.0
    while not all(task.done() for task in listening):
        await asyncio.wait(listening, timeout=5)
        spent = time.monotonic() - started
        _progress(f"{system.name}, {len(listening)} speakers: {spent:.0f} of about {longest:.0f} s")
        rss_mib = max(rss_mib, (await asyncio.to_thread(system.usage)).rss_mib)
        if spent > longest + DRAIN_S + LATE_S:
            for task in listening:
                task.cancel()
    print(file=sys.stderr)
    return rss_mib


def _is_expected(end: BaseException) -> bool:
    return isinstance(end, Refused | asyncio.CancelledError)


def _quantile(latencies: list[float], share: float) -> float:
    found = percentile(latencies, share)
    return math.inf if found is None else found


def measure_system(system: System, clips: list[Clip], numbers: Iterable[int], utterances: int, into: Results) -> None:
    """All levels of one system; what stands in the way is a result too."""
    try:
        system.prepare()
    except DoesNotRun as error:
        into.missing.append(NotRun(system.name, None, f"does not run: {error}"))
        return
    warm_up = speeches(clips, 1, 1)[0]
    collapsed_at = 0
    for speakers in numbers:
        if collapsed_at and speakers != COMPARED_AT:
            into.missing.append(NotRun(system.name, speakers, f"not run: collapsed at {collapsed_at}"))
            continue
        try:
            system.start(speakers)
            level = asyncio.run(measure(system, speeches(clips, speakers, utterances), warm_up))
        except Exception as error:  # whatever a rival does, the others are still to be measured
            into.missing.append(NotRun(system.name, speakers, f"does not run: {error or type(error).__name__}"))
            return
        finally:
            system.stop()
        into.levels.append(level)
        print(table([level], []), end="", file=sys.stderr)
        if level.collapsed and system.name != Chorus.name:
            collapsed_at = collapsed_at or speakers


def table(levels: list[Level], missing: list[NotRun]) -> str:
    """The results as Markdown."""
    lines = [
        "| system | speakers | clips | finalised | WER % | final p50 s | p95 s | worst s | first words p50 s "
        "| CPU s per audio s | RSS MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for level in levels:
        latencies = " | ".join(_shown(value) for value in (level.p50, level.p95, level.worst, level.partial_p50))
        refused = f" ({level.refused} refused)" if level.refused else ""
        share = f"{100 * level.finalised / level.clips:.1f} %" if level.clips else ""
        lines.append(
            f"| {level.system} | {level.speakers}{refused} | {level.clips} | {share} | {level.wer.wer_percent:.1f} "
            f"| {latencies} | {level.cpu_per_audio_second:.3f} | {level.rss_mib:.0f} |"
        )
    lines += [f"| {each.system} | {each.speakers or 'any'} | {each.why} |" + " |" * 8 for each in missing]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if math.isfinite(value) else "never"


def conclusions(results: Results) -> list[str]:
    """What the results say of Chorus beside its rivals."""
    ours = results.of(Chorus.name)
    alone = results.at(Chorus.name, 1)
    found = []
    for rival in (system.name for system in results.systems if system.name != Chorus.name):
        theirs = results.at(rival, 1)
        if theirs is None or not ours:
            continue
        if math.isfinite(theirs.p95):
            held = [level.speakers for level in ours if level.sound and level.p95 <= theirs.p95]
            told = (
                f"{rival}'s p95 with one speaker is {theirs.p95:.2f} s; Chorus holds {max(held, default=0)} within it"
            )
        else:
            told = f"{rival} leaves more than one clip in twenty of one speaker without a final"
        if alone is not None:
            told += f"; its word error rate {theirs.wer.wer_percent:.1f} %, Chorus' {alone.wer.wer_percent:.1f} %"
        found.append(told)
    mine = results.at(Chorus.name, COMPARED_AT)
    others = [level for level in results.levels if level.speakers == COMPARED_AT and level.system != Chorus.name]
    if mine is not None and others:
        best = min(others, key=lambda level: level.p95)
        told = f"with {COMPARED_AT} speakers Chorus' p95 is {_shown(mine.p95)} s"
        if math.isfinite(best.p95):
            told += f", {mine.p95 / best.p95:.2f} of the best rival's ({best.system}, {best.p95:.2f} s)"
        else:
            told += "; every rival leaves more than one clip in twenty without a final"
        found.append(told)
    return found


def plot(results: Results, path: Path) -> None:
    """p95 by the number of speakers, a line for each system; where it is infinite the line ends at the top."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    top = 2 * DRAIN_S
    for system in results.systems:
        levels = results.of(system.name)
        if not levels:
            continue
        ours = system.name == Chorus.name
        numbers, values = [level.speakers for level in levels], [min(level.p95, top) for level in levels]
        style = {"color": "black", "linewidth": 2.5, "zorder": 3} if ours else {"linewidth": 1.5}
        axes.plot(numbers, values, marker="o", label=system.name, **style)
    axes.axhline(COLLAPSED_P95_S, color="grey", linestyle=":", linewidth=1)
    axes.text(
        1, COLLAPSED_P95_S, "collapsed", transform=axes.get_yaxis_transform(), color="grey", ha="right", va="bottom"
    )
    axes.set_yscale("log")
    axes.set_ylim(0.1, top)
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    axes.set_yticks([*ticks, top], [*(f"{tick:g}" for tick in ticks), "never"])
    axes.set_yticks([], minor=True)
    axes.set_xticks(sorted({level.speakers for level in results.levels}))
    axes.set_xlabel("speakers at once")
    axes.set_ylabel("end of speech to its final, p95, seconds")
    axes.set_title("How long live speakers wait for their words")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def report(results: Results) -> str:
    """Everything as Markdown."""
    lines = [machine.in_words(), "", table(results.levels, results.missing)]
    lines += [f"- {line}" for line in conclusions(results)]
    lines += ["", *(f"- {system.name}: {system.settings}" for system in results.systems if results.of(system.name))]
    return "\n".join(lines) + "\n"


def write(results: Results, output: Path) -> None:
    """As Markdown, JSON and a picture."""
    found = {
        "systems": {system.name: system.settings for system in results.systems},
        "levels": [asdict(level) for level in results.levels],
        "missing": [asdict(each) for each in results.missing],
        "conclusions": conclusions(results),
    }
    machine.write_result(output, report(results), found)
    if results.levels:
        plot(results, output.with_suffix(".png"))


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether Chorus lost anything."""
    parser = argparse.ArgumentParser(description="Latency of finals by the number of live speakers.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--metrics", default=METRICS_URL, help="of the only replica behind the URL")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="default: Chorus and every rival")
    parser.add_argument("--speakers", type=int, nargs="+", default=SPEAKERS)
    parser.add_argument("--utterances", type=int, default=40, help="clips for each number of speakers")
    parser.add_argument("--quick", action="store_true", help=f"1 and {COMPARED_AT} speakers, 10 clips each")
    weights = Path(os.environ.get("MODELS_DIR", ".models")) / "whisper-tiny.en"
    parser.add_argument("--weights", type=Path, default=weights, help="what the stack serves, for the rivals")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_speakers", help="without suffix")
    asked = parser.parse_args()

    clips = read_manifest(asked.folder)
    rivals = [rival(asked.weights, clips[0].path) for rival in (WyomingFasterWhisper, WhisperLive, WhisperLiveKit)]
    systems: list[System] = [Chorus(asked.url, asked.metrics), *rivals, Speaches()]
    if asked.systems:
        if unknown := set(asked.systems) - {system.name for system in systems}:
            parser.error(
                f"no system {', '.join(sorted(unknown))}; there are {', '.join(each.name for each in systems)}"
            )
        systems = [system for system in systems if system.name in asked.systems]
    numbers, utterances = ((1, COMPARED_AT), 10) if asked.quick else (asked.speakers, asked.utterances)

    results = Results(systems, [], [])
    for system in systems:
        measure_system(system, clips, numbers, utterances, results)
        write(results, asked.output)  # a long run that is broken off has measured something
    print(report(results), end="")
    ours = results.of(Chorus.name)
    for line in (line for level in ours for line in level.broken):
        print(line, file=sys.stderr)
    complete = len(ours) == len(numbers) if Chorus.name in {system.name for system in systems} else True
    return 0 if complete and all(level.sound for level in ours) else 1


def _progress(text: str) -> None:
    print(f"\r  {text} ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
