"""What happens when more people want to listen at the same moment than the stack can serve in time.

    python -m benchmarks.tts_overload [--listeners 50] [--rounds 3]

Asks the running stack with one replica, through nginx. Everybody asks at the same moment, on a connection of their own,
several times; whoever is told `overloaded` goes away. Before the crowd, and again five seconds after the last of it has
been answered, one listener at a time asks for a few replies.

Exit status: 0 when everybody accepted got all of their reply, without a gap; every refusal told when to come again; and
afterwards the first audio of one listener is what it was (its median at most half as long again); else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from benchmarks import machine
from benchmarks.listening import Heard, Reply, ask, judge, texts
from benchmarks.systems import Refused
from chorus.aio import connect_tts
from chorus.connect import TTS_URL
from chorus.tts import Audio
from chorus.wire import tts as wire
from chorus.wire.common import Error
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
ALONE = 10
"""Replies of one listener, before and after."""
AS_BEFORE_S = 5.0
"""So long after the crowd all has to be as before."""
SLOWER = 1.5
LEAD_S = 1.0
"""Before everybody asks; their connections open meanwhile."""


@dataclass
class Crowd:
    """What became of everybody who asked at once."""

    replies: list[Reply] = field(default_factory=list)
    retry_after_ms: list[int | None] = field(default_factory=list)
    """Of each refusal."""

    def heard(self) -> Heard:
        """As a player hears it."""
        return judge(self.replies)


async def speak(url: str, reply: Reply, crowd: Crowd) -> None:
    """Ask for one reply. Raises `Refused`, and what goes wrong."""
    async with connect_tts(url) as stream:
        await reply.until_due()
        await stream.send(stream.protocol.synthesize(reply.text))
        while not isinstance(event := await stream.receive(), wire.SynthesisComplete):
            if isinstance(event, Audio):
                reply.hear(event.seconds or 0.0)
            elif isinstance(event, Error):
                if event.code != "overloaded":
                    raise RuntimeError(f"{event.code}: {event.message}")
                after = event.retry_after_ms
                crowd.retry_after_ms.append(after if isinstance(after, int) else None)
                raise Refused(event.message)


async def together(url: str, said: Iterator[str], listeners: int, crowd: Crowd) -> None:
    """So many ask at the same moment."""
    due = time.monotonic() + LEAD_S
    replies = [Reply(text, due) for text in islice(said, listeners)]
    crowd.replies += replies
    async with asyncio.TaskGroup() as tasks:
        for reply in replies:
            tasks.create_task(ask(lambda reply: speak(url, reply, crowd), reply))


async def alone(url: str, said: list[str]) -> Crowd:
    """One asks for reply after reply."""
    crowd = Crowd()
    for text in said:
        await together(url, iter([text]), 1, crowd)
    return crowd


async def measure(url: str, listeners: int, rounds: int) -> tuple[Crowd, Crowd, Crowd]:
    """Before, the crowd, and after; the same replies before and after."""
    said = texts()
    own = list(islice(said, ALONE))
    before, crowd = await alone(url, own), Crowd()
    for number in range(rounds):
        await together(url, said, listeners, crowd)
        print(f"\r  {number + 1} of {rounds} rounds ", end="", file=sys.stderr, flush=True)
    await asyncio.sleep(AS_BEFORE_S - LEAD_S)
    print(file=sys.stderr)
    return before, crowd, await alone(url, own)


def table(named: dict[str, Crowd]) -> str:
    """As Markdown."""
    lines = [
        "| | asked | overloaded | retry after s | first audio p50 ms | p95 ms | worst ms | gaps | failed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, crowd in named.items():
        heard = crowd.heard()
        told = [each / 1000 for each in crowd.retry_after_ms if each is not None]
        retry = f"{percentile(told, 0.5):.1f} (at most {max(told):.1f})" if told else ""
        times = " | ".join(f"{1000 * each:.0f}" for each in (heard.first_p50, heard.first_p95, heard.first_worst))
        lines.append(
            f"| {name} | {heard.replies} | {heard.refused} | {retry} | {times} | {heard.gaps} | {heard.failed} |"
        )
    return "\n".join(lines) + "\n"


def complaints(before: Crowd, crowd: Crowd, after: Crowd) -> list[str]:
    """What is not as it has to be."""
    found = [f"{count} × {failure}" for failure, count in crowd.heard().failures.items()]
    heard, calm, again = crowd.heard(), before.heard(), after.heard()
    if not heard.refused:
        found.append("nobody was refused: this was no overload")
    if not all(crowd.retry_after_ms):
        found.append("a refusal does not tell when to come again")
    if heard.gaps:
        found.append(f"{heard.gaps} gaps in {heard.gapped} accepted replies, {heard.gap_s:.2f} s")
    if again.first_p50 > SLOWER * calm.first_p50:
        found.append(f"first audio alone took {calm.first_p50:.3f} s before, {again.first_p50:.3f} s after")
    if not again.complete:
        found.append("a listener who was alone again did not get everything")
    return found


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether it is as it has to be."""
    parser = argparse.ArgumentParser(description="More listeners at the same moment than can be served in time.")
    parser.add_argument("--url", default=TTS_URL)
    parser.add_argument("--listeners", type=int, default=50, help="at the same moment, at most TTS_MAX_CONNECTIONS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tts_overload", help="without suffix")
    asked = parser.parse_args()
    before, crowd, after = asyncio.run(measure(asked.url, asked.listeners, asked.rounds))
    named = {"alone": before, "all at once": crowd, "alone, 5 s later": after}
    text = f"{machine.in_words()}\n\n{table(named)}"
    print(text, end="")
    found = {name: asdict(each.heard()) | {"retry_after_ms": each.retry_after_ms} for name, each in named.items()}
    machine.write_result(asked.output, text, found)
    wrong = complaints(before, crowd, after)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
