"""People without Locust, in this process: `python -m loadtest --users 10 --minutes 1`.

    python -m loadtest [--users 10] [--minutes 1] [--mix voice=9,reader=1] [--every 45] [--arrivals 0] [--events FILE]

Other settings come from the environment (`LOADTEST_…`, see `loadtest/settings.py`). Records go to FILE as JSON lines
(`loadtest/events.py`). People come within `--within` seconds; with `--arrivals` callers arrive at that rate a minute
instead, and `--users` is how many of them are prepared for being here at once.

Exit status: 0 when nothing failed, no utterance was lost and nobody heard anything of somebody else's; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import uvloop

from loadtest import events
from loadtest.crew import PREPARE_FAILURES, Crew
from loadtest.figures import percentile
from loadtest.settings import Kind, LoadSettings, read_settings, split


class Tally:
    """The records so far: written to a file, and counted."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._counts: Counter[str] = Counter()
        self._final: list[float] = []
        self._first_audio: list[float] = []
        self._gapped = 0
        self._late: list[float] = []
        self._cpu: list[float] = []
        self.complaints: list[str] = []
        """What must not happen and did."""

    def add(self, event: events.Event) -> None:
        """Take a record."""
        self._file.write(events.encode(event) + b"\n")
        self._counts[type(event).__name__.lower()] += 1
        match event:
            case events.Failed():
                self.complaints.append(f"{event.user}, {event.service} {event.connection_id}: {event.what}")
            case events.Breach():
                self.complaints.append(
                    f"{event.user} ({event.connection_id}) got from {event.whose or 'nobody known'} "
                    f"({event.other_connection_id}): "
                    f"{event.what}"
                )
            case events.Heard(final_s=None):
                self.complaints.append(f"{event.user}, asr {event.connection_id}: no final of {event.spoken!r}")
            case events.Heard(final_s=float() as final_s):
                self._final.append(final_s)
            case events.Spoken():
                self._gapped += event.gaps > 0
                if event.first_audio_s is not None:
                    self._first_audio.append(event.first_audio_s)
            case events.Lag():
                self._late.append(event.late_p95)
                self._cpu.append(event.cpu)

    def close(self) -> str:
        """Write the last of the file; returns what came of the run, in words."""
        self._file.close()
        told = ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))
        return (
            f"{told}\nfinal {_shown(self._final)}; first audio {_shown(self._first_audio)}; "
            f"{self._gapped} replies with gaps\nthis generator: frames late, p95 of a second, {_shown(self._late)}; "
            f"{sum(self._cpu) / max(1, len(self._cpu)):.1%} of a core\n"
        )


def _shown(values: list[float]) -> str:
    quantiles = (percentile(values, share) for share in (0.5, 0.95))
    return "p50 / p95 " + " / ".join("-" if value is None else f"{1000 * value:.1f} ms" for value in quantiles)


async def run(
    settings: LoadSettings, users: int, seconds: float, within_s: float, emit: Callable[[events.Event], None]
) -> None:
    """Prepare, let people live for that time, and let them leave. Raises `PREPARE_FAILURES`, and bugs."""
    crew = Crew(settings, emit)
    people = split(settings.mix, users)
    await crew.prepare(people, 0, _show_progress)
    keeping = asyncio.create_task(crew.run(), name="crew")
    living = asyncio.create_task(_live(crew, settings, people, seconds, within_s), name="people")
    try:
        await asyncio.wait((keeping, living), return_when=asyncio.FIRST_COMPLETED)
        (keeping if keeping.done() else living).result()
    finally:
        for task in (living, keeping):
            task.cancel()
        await asyncio.gather(keeping, living, return_exceptions=True)


async def _live(crew: Crew, settings: LoadSettings, people: dict[Kind, int], seconds: float, within_s: float) -> None:
    ends = time.monotonic() + seconds
    if settings.arrivals_per_minute:
        crew.arrive(settings.arrivals_per_minute, settings.turns_per_caller)
    else:
        everybody = [(f"{kind}-{number}", kind) for kind, count in people.items() for number in range(1, count + 1)]
        for name, kind in everybody:
            crew.start(name, kind)
            await asyncio.sleep(within_s / len(everybody))
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    await crew.stop_all()


def _show_progress(done: int, total: int) -> None:
    print(f"\r  {done} of {total} replies rendered to compare with ", end="", file=sys.stderr, flush=True)
    if done == total:
        print(file=sys.stderr)


def main() -> int:
    """Run, write the records, and tell what came of it."""
    parser = argparse.ArgumentParser(prog="python -m loadtest", description="Simulated people, without Locust.")
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--within", type=float, default=2.0, help="seconds in which all come (default: 2)")
    parser.add_argument("--mix", help="kinds with their weights, as voice=9,reader=1")
    parser.add_argument("--every", type=float, dest="turn_every_s", help="seconds from turn to turn of a voice user")
    parser.add_argument("--arrivals", type=float, dest="arrivals_per_minute", help="open loop: callers a minute")
    parser.add_argument("--events", type=Path, default=Path("events.jsonl"), help="for the records, as JSON lines")
    asked = parser.parse_args()
    given = {name: getattr(asked, name) for name in ("mix", "turn_every_s", "arrivals_per_minute")}
    settings = read_settings({name: value for name, value in given.items() if value is not None})

    tally = Tally(asked.events)
    try:
        uvloop.run(run(settings, asked.users, 60 * asked.minutes, asked.within, tally.add))
    except PREPARE_FAILURES as error:
        print(f"the run can't be prepared: {error or type(error).__name__}", file=sys.stderr)
        return 1
    finally:
        print(tally.close(), end="")
    for line in tally.complaints:
        print(line, file=sys.stderr)
    return 1 if tally.complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
