"""Hurt a stack of its own, and tell what came of it; `scripts/chaos.sh` starts that stack and runs this.

    scripts/chaos.sh [faults] [abrupt] [overload] [--only NAME ...] [--short]

Exit status: 0 when everything held; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from benchmarks.speech import CLIPS, Speech, speeches
from chaos import abrupt, overload, report
from chaos.checks import until_full_capacity, until_idle
from chaos.fault import Alone, Row, progress, run_fault
from chaos.faults import FAULTS
from chaos.people import People
from chaos.stack import FRONT, ROOT, ChaosError, Stack, up
from loadtest.clips import SAMPLE_RATE, Clip, read_manifest

PARTS = ("faults", "abrupt", "overload")
FAULT_SLOTS = 40
"""Streams of each of the two replicas: room for all people at one of them, and soon filled."""
FAULT_STACK = Stack(replicas=2, max_connections=FAULT_SLOTS)
ABRUPT_SLOTS = 200
LIMIT_S = 420.0
"""For one fault."""


def of_length(clips: list[Clip], speakers: int, seconds: float) -> list[Speech]:
    """What each speaker says: whole clips, about so long."""
    told = speeches(clips, speakers, speakers * len(clips))
    cut = []
    for speech in told:
        spoken = [each for each in speech.spoken if each.end <= seconds] or speech.spoken[:1]
        cut.append(Speech(spoken, speech.samples[: round((spoken[-1].end + 1) * SAMPLE_RATE)]))
    return cut


async def undisturbed(told: list[Speech]) -> Alone:
    """What is heard of each speech while nothing happens; warms everything up besides. Raises `ChaosError`."""
    async with People(told, len(told), FRONT) as people:
        pass
    noticed = people.noticed
    if wrong := [*noticed.unseen, *noticed.broken, *(line for _, heard in noticed.heard for line in heard.broken)]:
        raise ChaosError(f"something is wrong before anything was done: {wrong[0]}")
    return noticed.heard


async def run_faults(rows: list[Row], names: list[str], clips: list[Clip], people: int, seconds: float) -> None:
    """Add the row of each fault, on two replicas of each service, under so many speakers and as many listeners.

    Raises `ChaosError`.
    """
    stack = FAULT_STACK
    await up(stack)
    progress("==> undisturbed, to compare with")
    alone = await undisturbed(of_length(clips, people, seconds))
    await until_full_capacity(stack)
    await until_idle(stack)
    for fault in FAULTS:
        if fault.name not in names:
            continue
        progress(f"==> {fault.name}: {fault.what}")
        row = await run_fault(fault, stack, alone, LIMIT_S)
        rows.append(row)
        progress(f"    {row.seconds:.0f} s; {row.clients}")
        for line in row.complaints:
            progress(f"    DOES NOT HOLD: {line}")
        if not row.sound:
            await up(stack)  # the next one is not to suffer from it


async def run(asked: argparse.Namespace) -> int:
    """All that was asked for, each part written down as it ends; the exit status."""
    clips = read_manifest(asked.speech)
    page, figures = asked.output.with_suffix(".md"), asked.output.with_suffix(".json")
    wrong: list[str] = []
    for part in asked.parts:
        rows: list[Row] = []
        ends: list[abrupt.Ends] = []
        overloads: list[overload.Overload] = []
        try:
            if part == "faults":
                await run_faults(rows, asked.only, clips, asked.people, asked.seconds)
            elif part == "abrupt":
                progress(f"==> {asked.ends} abrupt ends a service")
                # The short form goes on with the stack of the faults, which saves a start.
                stack = FAULT_STACK if asked.short else Stack(replicas=1, max_connections=ABRUPT_SLOTS)
                await up(stack)
                await abrupt.run_abrupt(ends, stack, asked.ends, asked.targets)
            else:
                progress(f"==> twice as many people as slots, {asked.minutes:g} min")
                stack = Stack(replicas=1, max_connections=asked.slots)
                await up(stack)
                await overload.run_overload(overloads, stack, clips, asked.minutes, asked.capacity_minutes)
        except ChaosError as error:
            wrong.append(f"{part} could not go on: {error}")
        wrong += report.write(page, figures, rows, ends, overloads)
    progress(f"results: {page} and {figures.name}")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    """Run what was asked for; an interruption still heals the fault that lasts."""
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="scripts/chaos.sh", description="Hurt a stack of its own.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="FAULT", default=names, help=", ".join(names))
    parser.add_argument("--short", action="store_true", help="the part of it that `make test` runs")
    parser.add_argument("--speech", type=Path, default=CLIPS, help="folder with manifest.jsonl")
    parser.add_argument("--people", type=int, default=4, help="speakers, and as many listeners, while a fault lasts")
    parser.add_argument("--seconds", type=float, default=40, help="of speech, while a fault lasts")
    parser.add_argument("--ends", type=int, default=10_000, help="abrupt ends at each service")
    parser.add_argument("--targets", nargs="+", choices=("direct", "nginx"), default=["direct", "nginx"])
    parser.add_argument("--slots", type=int, default=20, help="of the overload: what this machine serves in time")
    parser.add_argument("--minutes", type=float, default=5, help="of overload")
    parser.add_argument("--capacity-minutes", type=float, default=3, help="at capacity, to compare with")
    parser.add_argument(
        "--output", type=Path, help="without suffix (default: docs/reliability where all of a part is run)"
    )
    asked = parser.parse_args()
    asked.parts = asked.parts or list(PARTS)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if asked.short:
        asked.parts, asked.only = ["faults", "abrupt"], [fault.name for fault in FAULTS if fault.short]
        asked.people, asked.seconds, asked.ends, asked.targets = 2, 10.0, 100, ["direct"]
    if asked.output is None:
        whole = asked.only == names and (asked.ends, asked.minutes) == (10_000, 5)
        asked.output = ROOT / ("docs" if whole else ".build") / "reliability"
    try:
        return asyncio.run(run(asked))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
