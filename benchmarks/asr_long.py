"""Whether a stream may go on for hours: memory, utterances and the time base of long streams.

    python -m benchmarks.asr_long [FOLDER] [--minutes 60] [--streams 8] [--minutes-each 10]

First one stream, then several at once, as fast as the stack takes them, each of another sample rate. A stream says
the same clips over and over. A round's length is a whole number of the voice detector's hops and of samples at every
usual rate, so that every round must come back with the same times, one round later: where those of the last round are
early or late against those of the second, the stream's clock drifts.

Exit status: 0 when every clip was covered by finals, no promise of the protocol was broken, the times agree to 20 ms,
`done` counted exactly the audio that was sent, and the replica's memory grew by at most 5 %; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import soxr

from benchmarks import machine
from benchmarks.metrics import METRICS_URL, read_metrics
from benchmarks.speech import CLIPS, PAUSE_S, Errors, Speech, Spoken, covers, errors_of, finals_of, spoken_at
from chorus.commands.common import explain
from chorus.connect import ASR_URL
from chorus.errors import ChorusError
from chorus.sources import Source
from chorus.transcription import transcribe
from chorus.wire.asr import Final
from loadtest.clips import SAMPLE_RATE, Clip, Pcm, read, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
GRID = SAMPLE_RATE * 160 // 1000
"""A round is a multiple of so many samples: five hops of the detector, and whole samples also at 44100 and 11025 Hz."""
ROUNDS = 10
"""In a stream, at least."""
FRAME_S = 0.1
"""Seconds of audio in one message."""
SAMPLED_S = 0.25
"""Seconds between two looks at the replica."""
STEP = 0.01
"""Share of the audio between two figures of its memory."""
WARM_UP, EARLY, LATE = 0.1, 0.2, 0.9
"""Shares of the audio: memory between the first two is compared with memory after the last."""
MOST_GROWTH = 0.05
"""Of memory, as a share."""
MOST_DRIFT_S = 0.02
"""Of the times in the last round against those in the second."""


@dataclass(frozen=True)
class Round:
    """What a stream says over and over, at its own sample rate."""

    speech: Speech
    rate: int
    """Hz, of `samples`."""
    samples: Pcm
    times: int
    """How often it is said."""

    @property
    def spoken(self) -> list[Spoken]:
        """Every clip of the whole stream."""
        return [
            replace(each, start=each.start + after, speech_end=each.speech_end + after, end=each.end + after)
            for after in (number * self.speech.seconds for number in range(self.times))
            for each in self.speech.spoken
        ]

    @property
    def seconds(self) -> float:
        """Length of the whole stream."""
        return self.times * len(self.samples) / self.rate

    def source(self) -> Source:
        """The whole stream, made as it is sent."""
        return Source("rounds", "pcm_s16le", self.rate, 1, self._frames())

    def _frames(self) -> Iterator[bytes]:
        size = int(self.rate * FRAME_S)
        for _ in range(self.times):
            for start in range(0, len(self.samples), size):
                yield self.samples[start : start + size].tobytes()


@dataclass(frozen=True)
class Result:
    """Of so many streams at once."""

    streams: int
    minutes: float
    """Of each stream."""
    rates: list[int]
    clips: int
    covered: int
    wer: Errors
    drift_ms: float
    """Mean lateness of the last round's times, of the stream where it is largest."""
    apart_ms: float
    """The largest difference of one time."""
    miscounted_s: float
    """Seconds by which a `done` was off the audio sent."""
    early_mib: float
    late_mib: float
    real_time_factor: float
    """Seconds for a second of audio, of all streams together."""
    cpu_per_audio_second: float
    broken: list[str]
    memory: list[tuple[float, float]]
    """Over the run: audio received, as a share, and the replica's memory, MiB."""

    @property
    def growth(self) -> float:
        """Of memory, as a share."""
        return self.late_mib / self.early_mib - 1

    @property
    def sound(self) -> bool:
        """Whether all is as it should be."""
        return (
            self.covered == self.clips
            and not self.broken
            and self.drift_ms <= 1000 * MOST_DRIFT_S
            and self.miscounted_s == 0
            and self.growth <= MOST_GROWTH
        )


def make_round(clips: list[Clip], minutes: float, rate: int, stream: int) -> Round:
    """Clips in the stream's own order, as many as make a tenth of it, and at least one."""
    order = random.Random(stream).sample(clips, len(clips))
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE), np.int16)
    spoken: list[Spoken] = []
    parts, position = [pause], len(pause)
    for clip in order:
        samples = read(clip)
        spoken.append(spoken_at(position, clip, samples))
        parts += [samples, pause]
        position += len(samples) + len(pause)
        if position / SAMPLE_RATE > 60 * minutes / ROUNDS:
            break
    whole = np.pad(np.concatenate(parts), (0, -position % GRID))
    length = len(whole) * rate // SAMPLE_RATE
    resampled = np.asarray(soxr.resample(whole, SAMPLE_RATE, rate))[:length]
    samples = np.pad(resampled, (0, length - len(resampled)))
    return Round(Speech(spoken, whole), rate, samples, max(3, round(60 * minutes * rate / length)))


async def measure(rounds: list[Round], url: str, metrics_url: str, realtime: bool) -> Result:
    """Send everything, and look at the replica meanwhile. Raises what `transcribe` raises, and `OSError`."""
    total = sum(each.seconds for each in rounds)
    before = read_metrics(metrics_url)
    started = time.monotonic()
    streams = [asyncio.create_task(transcribe(each.source(), url, realtime=realtime, strict=False)) for each in rounds]
    memory: list[tuple[float, float]] = []
    while not all(stream.done() for stream in streams):
        await asyncio.wait(streams, timeout=SAMPLED_S)
        now = await asyncio.to_thread(read_metrics, metrics_url)
        share = (now["asr_audio_seconds_total"] - before["asr_audio_seconds_total"]) / total
        if not memory or share >= memory[-1][0] + STEP or share >= 1:
            memory.append((round(share, 4), round(now["process_resident_memory_bytes"] / 2**20, 1)))
            _progress(share, total, time.monotonic() - started, memory[-1][1])
    spent = time.monotonic() - started
    print(file=sys.stderr)
    after = read_metrics(metrics_url)
    heard = [stream.result() for stream in streams]
    told = [finals_of(each.spoken, result.finals) for each, result in zip(rounds, heard, strict=True)]
    drifts = [drift(each, mine) for each, mine in zip(rounds, told, strict=True)]
    clips = [
        (spoken, finals)
        for each, mine in zip(rounds, told, strict=True)
        for spoken, finals in zip(each.spoken, mine, strict=True)
    ]
    return Result(
        streams=len(rounds),
        minutes=max(each.seconds for each in rounds) / 60,
        rates=sorted({each.rate for each in rounds}),
        clips=len(clips),
        covered=sum(any(covers(final, spoken) for final in finals) for spoken, finals in clips),
        wer=errors_of(
            (spoken.clip.text for spoken, _ in clips),
            (" ".join(final.text for final in finals) for _, finals in clips),
        ),
        drift_ms=1000 * max(abs(mean) for mean, _ in drifts),
        apart_ms=1000 * max(largest for _, largest in drifts),
        miscounted_s=max(
            abs(result.done.audio_seconds - round(each.seconds, 6)) for each, result in zip(rounds, heard, strict=True)
        ),
        early_mib=_median(memory, WARM_UP, EARLY),
        late_mib=_median(memory, LATE, 1),
        real_time_factor=spent / total,
        cpu_per_audio_second=(after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / total,
        broken=[line for result in heard for line in result.violations],
        memory=memory,
    )


def drift(said: Round, told: list[list[Final]]) -> tuple[float, float]:
    """Seconds by which times in the last round are late against the second: their mean, and the largest either way.

    The first round is not like the others to the voice detector, which has heard nothing before it. The mean counts:
    one clip's times may differ by a hop or two where the detector is undecided, a clock that drifts moves them all.
    """
    count = len(said.speech.spoken)
    apart = (said.times - 2) * said.speech.seconds
    late = []
    for second, last in zip(told[count : 2 * count], told[-count:], strict=True):
        if not second or not last:
            return float("inf"), float("inf")
        late.append(last[0].start_time - second[0].start_time - apart)
        late.append(last[-1].end_time - second[-1].end_time - apart)
    return fmean(late), max(map(abs, late))


def _median(memory: list[tuple[float, float]], low: float, high: float) -> float:
    found = percentile((mib for share, mib in memory if low <= share <= high), 0.5)
    if found is None:
        raise SystemExit("too little audio to tell how memory grows; say more minutes")
    return found


def _progress(share: float, total: float, spent: float, mib: float) -> None:
    print(
        f"\r  {share:4.0%} of {total / 60:.0f} min of audio, {spent:.0f} s, {mib:.0f} MiB ",
        end="",
        file=sys.stderr,
        flush=True,
    )


def table(results: list[Result]) -> str:
    """The result as Markdown."""
    lines = [
        "| streams | minutes each | Hz | clips | with finals | WER % | drift, mean (one time) ms | miscounted s "
        "| MiB early | late | growth | s per audio s | CPU s per audio s |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in results:
        cells = (
            f"{each.streams}",
            f"{each.minutes:.1f}",
            ", ".join(map(str, each.rates)),
            f"{each.clips}",
            f"{100 * each.covered / each.clips:.1f} %",
            f"{each.wer.wer_percent:.2f}",
            f"{each.drift_ms:.1f} ({each.apart_ms:.0f})",
            f"{each.miscounted_s:g}",
            f"{each.early_mib:.0f}",
            f"{each.late_mib:.0f}",
            f"{each.growth:+.1%}",
            f"{each.real_time_factor:.3f}",
            f"{each.cpu_per_audio_second:.3f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether all is as it should be."""
    parser = argparse.ArgumentParser(description="Memory, utterances and time base of long recognition streams.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--metrics", default=METRICS_URL, help="of the only replica behind the URL")
    parser.add_argument("--minutes", type=float, default=60, help="of audio, on one stream; 0 leaves it out")
    parser.add_argument("--streams", type=int, default=8, help="then at once; 0 leaves them out")
    parser.add_argument("--minutes-each", type=float, default=10)
    parser.add_argument("--rates", type=int, nargs="+", default=[16000, 8000, 44100], help="Hz; streams take turns")
    parser.add_argument("--realtime", action="store_true", help="at the speed of speech")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_long", help="without suffix")
    asked = parser.parse_args()

    clips = read_manifest(asked.folder)
    results = []
    try:
        for streams, minutes in ((1, asked.minutes), (asked.streams, asked.minutes_each)):
            rates = [asked.rates[number % len(asked.rates)] for number in range(streams)]
            rounds = [make_round(clips, minutes, rate, number) for number, rate in enumerate(rates)]
            if rounds and minutes:
                results.append(asyncio.run(measure(rounds, asked.url, asked.metrics, asked.realtime)))
                print(table(results[-1:]), end="")
    except (ChorusError, OSError) as error:
        print(explain(error, asked.url), file=sys.stderr)
        return 1
    text = f"{machine.in_words()}\n\n{table(results)}"
    print(text, end="")
    machine.write_result(asked.output, text, {"results": [asdict(each) for each in results]})
    for line in (line for each in results for line in each.broken):
        print(line, file=sys.stderr)
    return 0 if all(each.sound for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
