"""What one GPU holds: latency, throughput and memory, live streams and listeners by number of replicas.

    python -m benchmarks.gpu --services asr [FOLDER] [--gpu 0] [--model whisper-large-v3-turbo]
    python -m benchmarks.gpu --services tts [--gpu 0] [--voice en_US-lessac-medium]
    python -m benchmarks.gpu --dry-run

Starts its own replicas as processes on one GPU; it needs what the service's GPU image has installed, with
`requirements/test.txt` beside it, and no Docker. The two images stand on different CUDA libraries: each service is
measured from an environment of its own.

Recognition: for each number format, one replica: the latency of finals of one live speaker, utterances a second when
many streams send as fast as they are taken, and the GPU's memory after that (NVML, less what was used before). Then,
for 1 to 4 replicas, the most live speakers whose finals come in time: the 95th percentile from the true end of speech,
endpointing included. Speakers are spread over the replicas by turns, and over client processes, so that the client is
not what is measured.

Synthesis: `benchmarks/gpu_tts.py`.

`--dry-run` does all of it on the CPU with small models, few words and two replicas, and writes no result: it tells
that the benchmark itself works.

Exit status: 0 when no stream failed and no promise of the protocol was broken, however many spoke or listened, and
with one replica no clip was left without a final; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import gpu_tts, machine
from benchmarks.live import Heard, speak
from benchmarks.replica import Replica
from benchmarks.search import most_held
from benchmarks.speech import CLIPS, Speech, speeches
from chorus.errors import ChorusError
from chorus.sources import from_bytes
from chorus.transcription import Transcription, transcribe
from loadtest.clips import Clip, read_manifest
from loadtest.figures import percentile
from serving.gpu import Gpu

P = TypeVar("P", "Plan", gpu_tts.Plan)
HERE = Path(__file__).resolve().parent
SPREAD_S = 5.0
"""Live speakers arrive within so long."""


@dataclass(frozen=True)
class Plan:
    """What is tried, and how thoroughly."""

    device: str
    model: str
    formats: tuple[str, ...]
    """Compute types; the last one serves the live streams."""
    replicas: tuple[int, ...]
    alone: int
    """Clips of the one live speaker."""
    at_once: int
    """Streams that send as fast as they are taken."""
    each: int
    """Clips of each of those, and of each live speaker."""
    first: int
    """Live speakers that are tried first."""
    most: int
    limit_s: float
    clients: int
    """Processes that speak."""


FULL = Plan("cuda", "whisper-large-v3-turbo", ("float16", "int8_float16"), (1, 2, 3, 4), 50, 64, 4, 16, 512, 0.7, 4)
DRY = Plan("cpu", "whisper-tiny.en", ("float32", "int8"), (1, 2), 2, 2, 2, 1, 2, 0.7, 2)


@dataclass(frozen=True)
class Format:
    """One replica with one number format."""

    compute_type: str
    final_p50: float | None
    final_p95: float | None
    utterances: int
    utterances_per_s: float
    times_real_time: float
    """Seconds of audio a second."""
    memory_mib: int | None
    lost: int
    broken: list[str]


@dataclass(frozen=True)
class Level:
    """So many live speakers."""

    speakers: int
    p50: float | None
    p95: float | None
    lost: int
    broken: list[str]


@dataclass(frozen=True)
class Held:
    """So many replicas on the one GPU."""

    replicas: int
    compute_type: str
    streams: int
    memory_mib: int | None
    tried: list[Level]


class Asr:
    """The recognition part."""

    def __init__(
        self, plan: Plan, clips: list[Clip], memory: Callable[[], int | None], pool: ProcessPoolExecutor
    ) -> None:
        """`memory` tells what the GPU holds now, MiB."""
        self._plan = plan
        self._clips = clips
        self._memory = memory
        self._pool = pool
        self.formats: list[Format] = []
        self.held: list[Held] = []

    def run(self) -> None:
        """Measure all of the plan."""
        for compute_type in self._plan.formats:
            self.formats.append(self._format(compute_type))
            _progress(str(self.formats[-1]))
        for replicas in self._plan.replicas:
            self.held.append(self._held(replicas, self._plan.formats[-1]))
            _progress(f"{replicas} replicas hold {self.held[-1].streams} streams")

    def complaints(self) -> list[str]:
        """What was lost or broken."""
        found = [line for each in self.formats for line in each.broken]
        found += [f"{each.compute_type}: {each.lost} clips without a final" for each in self.formats if each.lost]
        return found + [line for each in self.held for level in each.tried for line in level.broken]

    def report(self) -> str:
        """The result as Markdown."""
        lines = [
            f"{self._plan.model}; one live speaker, then {self._plan.at_once} streams as fast as they are taken",
            "",
            "| compute type | final p50 s | p95 s | utterances a second | times real time | GPU memory MiB |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {each.compute_type} | {_shown(each.final_p50)} | {_shown(each.final_p95)} "
            f"| {each.utterances_per_s:.1f} | {each.times_real_time:.0f} | {each.memory_mib or ''} |"
            for each in self.formats
        ]
        lines += [
            "",
            f"Live streams with a p95 of at most {self._plan.limit_s:g} s from the end of speech to its final",
            "",
            "| replicas | compute type | streams held | p50 s | p95 s | GPU memory MiB |",
            "| ---: | --- | ---: | ---: | ---: | ---: |",
        ]
        for held in self.held:
            best = next((level for level in held.tried if level.speakers == held.streams), None)
            times = f"{_shown(best.p50)} | {_shown(best.p95)}" if best else " | "
            lines.append(
                f"| {held.replicas} | {held.compute_type} | {held.streams} | {times} | {held.memory_mib or ''} |"
            )
        return "\n".join(lines) + "\n"

    def result(self) -> dict[str, Any]:
        """The same for programs."""
        formats, held = [asdict(each) for each in self.formats], [asdict(each) for each in self.held]
        return {"plan": asdict(self._plan), "formats": formats, "held": held}

    def _format(self, compute_type: str) -> Format:
        plan, unused = self._plan, self._memory()
        with self._replicas(1, compute_type) as (replica,):
            alone = asyncio.run(speak(speeches(self._clips, 1, plan.alone)[0], replica.url))
            told = speeches(self._clips, plan.at_once, plan.at_once * plan.each)
            started = time.monotonic()
            heard = asyncio.run(_flat_out(told, replica.url))
            spent = time.monotonic() - started
            memory = self._memory()
        utterances = sum(len(each.finals) for each in heard)
        return Format(
            compute_type=compute_type,
            final_p50=percentile(alone.latencies, 0.5),
            final_p95=percentile(alone.latencies, 0.95),
            utterances=utterances,
            utterances_per_s=utterances / spent,
            times_real_time=sum(each.seconds for each in told) / spent,
            memory_mib=None if memory is None or unused is None else memory - unused,
            lost=alone.uncovered + sum(each.missing_finals for each in heard),
            broken=alone.broken + [line for each in heard for line in each.violations],
        )

    def _held(self, count: int, compute_type: str) -> Held:
        plan, unused, tried = self._plan, self._memory(), list[Level]()

        def holds(speakers: int) -> bool:
            tried.append(self._live(speakers, [replica.url for replica in replicas]))
            level = tried[-1]
            _progress(f"{count} replicas, {speakers} speakers: p95 {_shown(level.p95)} s, {level.lost} lost")
            return level.p95 is not None and level.p95 <= plan.limit_s and not level.lost and not level.broken

        with self._replicas(count, compute_type) as replicas:
            streams = most_held(holds, plan.first, plan.most)
            memory = self._memory()
        used = None if memory is None or unused is None else memory - unused
        return Held(count, compute_type, streams, used, tried)

    def _live(self, speakers: int, urls: list[str]) -> Level:
        shares = min(self._plan.clients, speakers)
        heard = [
            each
            for share in [
                self._pool.submit(say, self._clips, speakers, self._plan.each, share, shares, urls)
                for share in range(shares)
            ]
            for each in share.result()
        ]
        latencies = [latency for each in heard for latency in each.latencies]
        return Level(
            speakers=speakers,
            p50=percentile(latencies, 0.5),
            p95=percentile(latencies, 0.95),
            lost=sum(each.uncovered for each in heard),
            broken=[line for each in heard for line in each.broken],
        )

    @contextmanager
    def _replicas(self, count: int, compute_type: str) -> Iterator[list[Replica]]:
        plan = self._plan
        settings = {"device": plan.device, "model": plan.model, "compute_type": compute_type}
        with ExitStack() as stack:
            yield [
                stack.enter_context(Replica(**settings, max_connections=plan.most + plan.at_once)) for _ in range(count)
            ]


def say(clips: list[Clip], speakers: int, each: int, share: int, shares: int, urls: list[str]) -> list[Heard]:
    """What a client process's share of the live speakers gets back; they take the replicas by turns."""
    told = speeches(clips, speakers, speakers * each)
    delays = random.Random(share)

    async def everybody() -> list[Heard]:
        return await asyncio.gather(
            *(
                _speak_or_fail(told[speaker], urls[speaker % len(urls)], delays.uniform(0, SPREAD_S))
                for speaker in range(share, speakers, shares)
            )
        )

    return asyncio.run(everybody())


async def _speak_or_fail(speech: Speech, url: str, delay: float) -> Heard:
    try:
        return await speak(speech, url, delay)
    except (ChorusError, OSError) as error:
        return Heard(broken=[f"a stream failed: {error}"])


async def _flat_out(told: list[Speech], url: str) -> list[Transcription]:
    sources = [from_bytes(speech.samples.tobytes()) for speech in told]
    return await asyncio.gather(*(transcribe(each, url, strict=False, interim_results=False) for each in sources))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


SERVICES = ("asr", "tts")
"""What can be measured."""


def memory_mib(gpu: Gpu | None) -> int | None:
    """What a GPU holds now; None where there is none, or NVML fails."""
    found = gpu.read() if gpu else None
    return found["memory_used_mb"] if found else None


def use_gpu(index: int) -> Gpu:
    """Let the replicas see one GPU, and CUDA's libraries where they came as wheels. Raises `pynvml.NVMLError`."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # NVML's
    os.environ["CUDA_VISIBLE_DEVICES"] = str(index)
    wheels = sorted(map(str, Path(sysconfig.get_path("purelib"), "nvidia").glob("*/lib")))
    os.environ["LD_LIBRARY_PATH"] = ":".join([*wheels, os.environ.get("LD_LIBRARY_PATH", "")])
    return Gpu(index)


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether it is sound."""
    parser = argparse.ArgumentParser(description="What one GPU holds.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, small, and no result is written")
    parser.add_argument("--gpu", type=int, default=0, help="NVML's number of it")
    parser.add_argument("--model", help=f"of recognition, default {FULL.model}")
    parser.add_argument("--voice", help=f"of synthesis, default {gpu_tts.FULL.voice}")
    parser.add_argument("--replicas", type=int, nargs="+", help=f"default {FULL.replicas}")
    parser.add_argument("--limit-s", type=float, help=f"p95 of finals that counts as held, default {FULL.limit_s}")
    parser.add_argument(
        "--tts-limit-s", type=float, help=f"p95 of first audio that counts as held, default {gpu_tts.FULL.limit_s}"
    )
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES)
    parser.add_argument(
        "--output", type=Path, default=HERE / "results" / "gpu", help="without suffix; the service's name is appended"
    )
    asked = parser.parse_args()

    plan, tts_plan = (DRY, gpu_tts.DRY) if asked.dry_run else (FULL, gpu_tts.FULL)
    plan = _changed(plan, model=asked.model, replicas=asked.replicas, limit_s=asked.limit_s)
    tts_plan = _changed(tts_plan, voice=asked.voice, replicas=asked.replicas, limit_s=asked.tts_limit_s)
    gpu = None if asked.dry_run else use_gpu(asked.gpu)
    memory = partial(memory_mib, gpu)
    card = f"{gpu.name}; " if gpu else "no GPU, a dry run; "
    complaints = []
    with ProcessPoolExecutor(plan.clients, mp_context=get_context("spawn")) as pool:
        parts: dict[str, Asr | gpu_tts.Tts] = {}
        if "asr" in asked.services:
            parts["asr"] = Asr(plan, read_manifest(asked.folder), memory, pool)
        if "tts" in asked.services:
            parts["tts"] = gpu_tts.Tts(tts_plan, memory, pool)
        for name, part in parts.items():
            part.run()
            text = f"{card}{machine.in_words()}\n\n{part.report()}"
            print(text)
            if gpu is not None:
                output = asked.output.with_name(f"{asked.output.name}_{name}")
                machine.write_result(output, text, {"gpu": gpu.name, **part.result()})
            complaints += part.complaints()
    for line in complaints:
        print(line, file=sys.stderr)
    return 1 if complaints else 0


def _changed(plan: P, **given: Any) -> P:
    """A plan with what was given on the command line."""
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


if __name__ == "__main__":
    sys.exit(main())
