"""What one GPU holds of synthesis: first audio, replies a second, memory and listeners, by the number of replicas.

For each number of replicas: the first audio of one listener at a time; replies a second when many ask at the same
moment, again and again; the GPU's memory after that; and the most listeners, each with a reply every so many seconds at
random phase, whose first audio comes in time and who hear no gap. Listeners take the replicas by turns, and listen from
several client processes, so that the client is not what is measured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from benchmarks.listening import Heard, Reply, apart, ask, judge, texts
from benchmarks.replica import Replica
from benchmarks.search import most_held
from benchmarks.tts_systems import speak

BEGINS_IN_S = 1.0
"""Every client process has begun by then."""


@dataclass(frozen=True)
class Plan:
    """What is tried, and how thoroughly."""

    device: str
    voice: str
    replicas: tuple[int, ...]
    alone: int
    """Replies of the one listener."""
    at_once: int
    """Listeners who ask at the same moment."""
    rounds: int
    """So often."""
    every_s: float
    """Each of those apart asks for a reply."""
    seconds: float
    """So long."""
    first: int
    """Listeners that are tried first."""
    most: int
    limit_s: float
    """95th percentile of first audio that counts as held."""
    clients: int
    """Processes that listen."""


FULL = Plan("cuda", "en_US-lessac-medium", (1, 2, 3, 4), 50, 64, 8, 6.0, 30.0, 64, 2048, 0.35, 4)
DRY = Plan("cpu", "en_US-joe-medium", (1, 2), 3, 4, 1, 4.0, 4.0, 1, 2, 0.35, 2)


@dataclass(frozen=True)
class Level:
    """So many listeners apart."""

    listeners: int
    heard: Heard
    broken: list[str]


@dataclass(frozen=True)
class Result:
    """So many replicas on the one GPU."""

    replicas: int
    alone: Heard
    at_once: Heard
    replies_per_s: float
    times_real_time: float
    """Seconds of audio a second."""
    memory_mib: int | None
    listeners: int
    tried: list[Level]
    broken: list[str]


class Tts:
    """The synthesis part."""

    def __init__(self, plan: Plan, memory: Callable[[], int | None], pool: ProcessPoolExecutor) -> None:
        """`memory` tells what the GPU holds now, MiB."""
        self._plan = plan
        self._memory = memory
        self._pool = pool
        self.results: list[Result] = []

    def run(self) -> None:
        """Measure all of the plan."""
        for count in self._plan.replicas:
            self.results.append(self._measure(count))
            _progress(f"{count} replicas hold {self.results[-1].listeners} listeners")

    def complaints(self) -> list[str]:
        """What was lost or broken."""
        found = []
        for each in self.results:
            levels = [each.alone, each.at_once, *(level.heard for level in each.tried)]
            told = [*each.broken, *(line for level in each.tried for line in level.broken)]
            told += [f"{count} × {failure}" for heard in levels for failure, count in heard.failures.items()]
            found += [f"{each.replicas} replicas of tts: {line}" for line in told]
        return found

    def report(self) -> str:
        """The result as Markdown."""
        plan = self._plan
        lines = [
            f"{plan.voice}; one listener at a time, then {plan.at_once} at the same moment, then as many, each with a "
            f"reply every {plan.every_s:g} s, as have a first audio p95 of at most {plan.limit_s:g} s and no gap",
            "",
            "| replicas | first audio p50 ms, alone | p95 ms | replies a second | times real time | GPU memory MiB "
            "| listeners held | first audio p50 ms | p95 ms |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for each in self.results:
            best = next((level.heard for level in each.tried if level.listeners == each.listeners), None)
            times = f"{_ms(best.first_p50)} | {_ms(best.first_p95)}" if best else " | "
            lines.append(
                f"| {each.replicas} | {_ms(each.alone.first_p50)} | {_ms(each.alone.first_p95)} "
                f"| {each.replies_per_s:.1f} | {each.times_real_time:.0f} | {each.memory_mib or ''} "
                f"| {each.listeners} | {times} |"
            )
        return "\n".join(lines) + "\n"

    def result(self) -> dict[str, Any]:
        """The same for programs."""
        return {"plan": asdict(self._plan), "replicas": [asdict(each) for each in self.results]}

    def _measure(self, count: int) -> Result:
        plan, unused, tried = self._plan, self._memory(), list[Level]()

        def holds(listeners: int) -> bool:
            begin = time.monotonic() + BEGINS_IN_S
            replies, broken = self._listen(apart(listeners, plan.every_s, plan.seconds, begin), urls)
            heard = judge(replies)
            tried.append(Level(listeners, heard, broken))
            _progress(
                f"{count} replicas, {listeners} listeners: p95 {_ms(heard.first_p95)} ms, {heard.gaps} gaps, "
                f"{heard.failed} failed, {heard.refused} refused"
            )
            return heard.complete and not heard.gaps and not broken and heard.first_p95 <= plan.limit_s

        with self._replicas(count) as urls:
            self._crowd(urls)  # client processes start, and the GPU sees its first batches
            alone, broken = list[Reply](), list[str]()
            for text in islice(texts(), plan.alone):
                replies, complaints = self._listen([Reply(text, time.monotonic() + BEGINS_IN_S)], urls)
                alone += replies
                broken += complaints
            crowd, spent = list[Reply](), 0.0
            for _ in range(plan.rounds):
                replies, complaints, seconds = self._crowd(urls)
                crowd += replies
                broken += complaints
                spent += seconds
            memory = self._memory()
            listeners = most_held(holds, plan.first, plan.most)
        at_once = judge(crowd)
        return Result(
            replicas=count,
            alone=judge(alone),
            at_once=at_once,
            replies_per_s=sum(reply.complete for reply in crowd) / spent,
            times_real_time=at_once.audio_s / spent,
            memory_mib=None if memory is None or unused is None else memory - unused,
            listeners=listeners,
            tried=tried,
            broken=broken,
        )

    def _crowd(self, urls: list[str]) -> tuple[list[Reply], list[str], float]:
        """Many at the same moment; as `_listen`, with the seconds until all were complete."""
        due = time.monotonic() + BEGINS_IN_S
        replies, broken = self._listen([Reply(text, due) for text in islice(texts(), self._plan.at_once)], urls)
        return replies, broken, max(reply.ended or time.monotonic() for reply in replies) - due

    def _listen(self, replies: list[Reply], urls: list[str]) -> tuple[list[Reply], list[str]]:
        """Have them spoken by the replicas in turn; returns what came of them, and promises that were broken."""
        asked = [(urls[number % len(urls)], reply) for number, reply in enumerate(replies)]
        shares = [self._pool.submit(listen, asked[share :: self._plan.clients]) for share in range(self._plan.clients)]
        found = [share.result() for share in shares]
        return [reply for heard, _ in found for reply in heard], [line for _, broken in found for line in broken]

    @contextmanager
    def _replicas(self, count: int) -> Iterator[list[str]]:
        plan = self._plan
        settings = {"device": plan.device, "voices": plan.voice, "max_connections": plan.most + plan.at_once}
        with ExitStack() as stack:
            yield [stack.enter_context(Replica("tts", "TTS", **settings)).url for _ in range(count)]


def listen(asked: list[tuple[str, Reply]]) -> tuple[list[Reply], list[str]]:
    """What a client process's share of the listeners gets back, and promises of the protocol that were broken."""
    broken: list[str] = []

    async def one(url: str, reply: Reply) -> None:
        async def spoken(each: Reply) -> None:
            broken.extend(await speak(url, each))

        await ask(spoken, reply)

    async def everybody() -> None:
        await asyncio.gather(*(one(url, reply) for url, reply in asked))

    asyncio.run(everybody())
    return [reply for _, reply in asked], broken


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr)
