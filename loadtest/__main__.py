"""People without Locust, in this process: `python -m loadtest --users 10 --minutes 1`.

    python -m loadtest [--users 10] [--minutes 1] [--mix voice=9,reader=1] [--every 45] [--arrivals 0] [--events FILE]

Other settings come from the environment (`LOADTEST_…`, see `loadtest/settings.py`). Records go to FILE as JSON lines
(`loadtest/events.py`). People come within `--within` seconds; with `--arrivals` callers arrive at that rate a minute
instead.

Exit status: 0 when nothing failed, no utterance was lost and nobody heard anything of somebody else's; else 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from loadtest.settings import read_settings


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
    read_settings({name: value for name, value in given.items() if value is not None})
    raise SystemExit("the people are not there yet")


if __name__ == "__main__":
    raise SystemExit(main())
