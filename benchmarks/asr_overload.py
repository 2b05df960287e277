"""What happens when more people speak than one replica can serve: with admission by lateness, and without.

    python -m benchmarks.asr_overload [FOLDER] [--speakers 96] [--seconds 60]

Starts a replica of its own on every core, twice. All speakers arrive within a few seconds and say clips back to back,
with 1.2 s between. Who is refused comes again after `Retry-After`, for a while, as a client would. Before and after the
crowd one speaker is alone.

With `ASR_ADMIT_P95_MS=2000` those who were let in must get their finals in time, and everybody else a 503 with
`Retry-After` before the upgrade. With 0 everybody is let in and served late. Either way nothing may be lost, and soon
after the last stream has ended all must be as before.

Exit status: 0 when all of that held; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.live import Heard, speak
from benchmarks.replica import Replica
from benchmarks.speech import CLIPS, PAUSE_S, Speech, speeches
from chorus.errors import ChorusError, Refused
from loadtest.clips import SAMPLE_RATE, Clip, read, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
ADMIT_P95_MS = 2000
IN_TIME_S = 3.0
"""95th percentile of an admitted speaker's finals, from the end of speech, that has to be kept."""
ARRIVE_S = 5.0
"""Everybody arrives within so long."""
GIVE_UP_S = 25.0
"""Whoever has not been let in by then goes away."""
AS_BEFORE_S = 5.0
"""So long after the load has ended all has to be as before."""
SLOWER_S = 0.5
"""A final after the load may be so much slower than one before it and still be as before."""


@dataclass
class Crowd:
    """What became of everybody who came at once."""

    admitted: list[Heard] = field(default_factory=list)
    at_once: int = 0
    """Those let in at their first try."""
    unkind: list[str] = field(default_factory=list)
    """Refusals other than 503 with `Retry-After`."""
    failed: list[str] = field(default_factory=list)
    """Streams that were let in and did not end properly."""


@dataclass(frozen=True)
class Run:
    """The result with one setting of admission."""

    admit_p95_ms: int
    came: int
    at_once: int
    """Let in at the first try."""
    admitted: int
    clips: int
    covered: int
    p50: float | None
    p95: float | None
    worst: float | None
    alone_before: float
    """Of one speaker's final, before the crowd."""
    alone_after: float | None
    """The same after it; None where the replica was not as before in time."""
    calm_after_s: float
    """From the end of the last stream until nothing was left of the load, and a new stream was let in."""
    wrong: list[str]

    @property
    def sound(self) -> bool:
        """Whether what is asked of it held."""
        return not self.complaints()

    def complaints(self) -> list[str]:
        """What did not hold, in words."""
        found = list(self.wrong)
        if self.covered < self.clips:
            found.append(f"{self.clips - self.covered} clips without a final")
        if not self.admitted:
            found.append("nobody was let in")
        if self.admit_p95_ms and (self.p95 is None or self.p95 > IN_TIME_S):
            found.append(f"the finals of those let in are later than {IN_TIME_S:.0f} s")
        if not self.admit_p95_ms and self.admitted < self.came:
            found.append("somebody was refused though nobody should be")
        if self.alone_after is None or self.alone_after > self.alone_before + SLOWER_S:
            found.append("after the load it was not as before")
        return [f"admission at {self.admit_p95_ms} ms: {line}" for line in found]


async def come(speech: Speech, url: str, delay: float, crowd: Crowd) -> None:
    """One speaker's tries."""
    spent, wait_s = 0.0, delay
    while spent + wait_s <= GIVE_UP_S:
        spent += wait_s
        try:
            heard = await speak(speech, url, wait_s)
        except Refused as refused:
            if refused.status != 503 or refused.retry_after is None:
                crowd.unkind.append(str(refused))
            wait_s = refused.retry_after or GIVE_UP_S
        except (ChorusError, OSError) as error:
            crowd.failed.append(f"{type(error).__name__}: {error}")
            return
        else:
            crowd.admitted.append(heard)
            crowd.at_once += spent == delay
            return


async def gather_crowd(told: list[Speech], replica: Replica) -> Crowd:
    """Let everybody come, and wait for the last."""
    crowd, delays = Crowd(), random.Random(0)
    coming = [asyncio.create_task(come(each, replica.url, delays.uniform(0, ARRIVE_S), crowd)) for each in told]
    started = time.monotonic()
    while not all(task.done() for task in coming):
        await asyncio.wait(coming, timeout=5)
        health = await asyncio.to_thread(replica.health)
        spent, streams, depth = time.monotonic() - started, health["active_connections"], health["queue_depth"]
        print(f"\r  {spent:.0f} s: {streams} streams, {depth} jobs wait ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for task in coming:
        task.result()
    return crowd


async def alone(speech: Speech, replica: Replica) -> float:
    """Latency of the final of one speaker who has the replica to himself. Raises what `speak` raises."""
    heard = await speak(speech, replica.url, 0.0)
    return max(heard.latencies, default=float("inf"))


async def calm_again(clip: Clip, replica: Replica) -> tuple[float, float | None]:
    """Seconds until nothing of the load is left and a new stream is let in; the latency of its final, if in time."""
    ended = time.monotonic()
    speech = speeches([clip], 1, 1)[0]
    while (spent := time.monotonic() - ended) <= AS_BEFORE_S:
        health = await asyncio.to_thread(replica.health)
        if not health["active_connections"] and not health["queue_depth"]:
            try:
                return spent, await alone(speech, replica)
            except Refused:
                pass  # what it has just seen still counts
        await asyncio.sleep(0.2)
    return spent, None


async def measure(told: list[Speech], clip: Clip, admit_p95_ms: int) -> Run:
    """One replica with one setting: alone, the crowd, alone again."""
    with Replica(admit_p95_ms=admit_p95_ms, max_connections=len(told) + 1) as replica:
        before = await alone(speeches([clip], 1, 1)[0], replica)
        crowd = await gather_crowd(told, replica)
        calm_after_s, after = await calm_again(clip, replica)
    latencies = [latency for heard in crowd.admitted for latency in heard.latencies]
    return Run(
        admit_p95_ms=admit_p95_ms,
        came=len(told),
        at_once=crowd.at_once,
        admitted=len(crowd.admitted) + len(crowd.failed),
        clips=len(latencies) + sum(heard.uncovered for heard in crowd.admitted),
        covered=len(latencies),
        p50=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        worst=max(latencies, default=None),
        alone_before=before,
        alone_after=after,
        calm_after_s=calm_after_s,
        wrong=crowd.unkind + crowd.failed + [line for heard in crowd.admitted for line in heard.broken],
    )


def table(runs: list[Run]) -> str:
    """The result as Markdown."""
    lines = [
        "| ASR_ADMIT_P95_MS | came | let in at once | in all | clips | with finals | final p50 s | p95 s | worst s "
        "| alone before s | alone after s | calm after s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in runs:
        times = (run.p50, run.p95, run.worst, run.alone_before, run.alone_after, run.calm_after_s)
        shown = " | ".join("" if value is None else f"{value:.2f}" for value in times)
        lines.append(
            f"| {run.admit_p95_ms} | {run.came} | {run.at_once} | {run.admitted} | {run.clips} "
            f"| {100 * run.covered / max(1, run.clips):.1f} % | {shown} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether it is as it has to be."""
    parser = argparse.ArgumentParser(description="More speakers than a replica can serve.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--speakers", type=int, default=96, help="twice as many as the machine can serve")
    parser.add_argument("--seconds", type=int, default=60, help="of speech of each")
    parser.add_argument("--admit", type=int, nargs="+", default=[ADMIT_P95_MS, 0], help="ASR_ADMIT_P95_MS of each run")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_overload", help="without suffix")
    asked = parser.parse_args()

    clips = read_manifest(asked.folder)
    mean_s = sum(len(read(clip)) for clip in clips) / SAMPLE_RATE / len(clips) + PAUSE_S
    told = speeches(clips, asked.speakers, asked.speakers * max(1, round(asked.seconds / mean_s)))
    runs = []
    for admit_p95_ms in asked.admit:
        runs.append(asyncio.run(measure(told, clips[0], admit_p95_ms)))
        print(table(runs[-1:]), end="")
    text = f"{machine.in_words()}\n\n{table(runs)}"
    print(text, end="")
    machine.write_result(asked.output, text, {"runs": [asdict(run) for run in runs]})
    for line in (line for run in runs for line in run.complaints()):
        print(line, file=sys.stderr)
    return 0 if all(run.sound for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
