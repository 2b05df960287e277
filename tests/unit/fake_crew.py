"""A crew without people or services: `python fake_crew.py --worker NAME` follows orders and makes records up.

FAKE_CREW=dies ends it as soon as somebody comes.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from typing import Any

from loadtest.events import Connected, Heard, Lag, Population, Spoken
from loadtest.orders import Arrive, End, Left, Prepare, Prepared, Progress, Start, Stop, StopAll, encode, read_order

EVERY_S = 0.25


def tell(line: object) -> None:
    sys.stdout.buffer.write(encode(line))
    sys.stdout.buffer.flush()


class FakeCrew:
    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.people: list[str] = []

    def follow(self, order: object) -> bool:
        """Whether it goes on."""
        now = time.time()
        match order:
            case Prepare():
                total = sum(order.people.values())
                tell(Progress(at=now, done=total, total=total, what="replies"))
                tell(Prepared(at=now))
            case Start():
                if os.environ.get("FAKE_CREW") == "dies":
                    return False
                self.come(order.name)
            case Stop():
                self.people.remove(order.name)
                tell(Population(at=now, users=len(self.people), worker=self.worker))
            case Arrive():
                self.come(f"voice-{order.first}")
            case StopAll():
                self.people.clear()
                tell(Left(at=now))
            case End():
                return False
        return True

    def come(self, name: str) -> None:
        now = time.time()
        self.people.append(name)
        tell(Population(at=now, users=len(self.people), worker=self.worker))
        for service in ("asr", "tts"):
            tell(Connected(**self.of(name, service), took=0.01))

    def of(self, name: str, service: str) -> dict[str, Any]:
        common = {"at": time.time(), "user": name, "service": service}
        return {**common, "connection_id": f"{service}-{name}", "instance": "a"}

    def live(self) -> None:
        now = time.time()
        for name in self.people:
            words = {"spoken": "a b", "heard": "a b", "words": 2, "errors": 0, "seconds": 1.0}
            tell(Heard(**self.of(name, "asr"), **words, final_s=0.2, partial_s=0.1, turn_due=now))
            sound = {"text": "a b", "words": 2, "outcome": "complete", "first_audio_s": 0.1, "seconds": 1.0}
            gaps = {"gaps": 0, "gap_s": 0.0, "longest_gap_s": 0.0, "proof": "same", "asked_due": now}
            tell(Spoken(**self.of(name, "tts"), **sound, **gaps))
        tell(Lag(at=now, worker=self.worker, users=len(self.people), late_p95=0.001, late_worst=0.002, cpu=0.1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", required=True)
    crew = FakeCrew(parser.parse_args().worker)
    buffered = b""
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], EVERY_S)
        if not ready:
            crew.live()
            continue
        read = os.read(sys.stdin.fileno(), 65536)
        if not read:
            return
        *lines, buffered = (buffered + read).split(b"\n")
        if not all(crew.follow(read_order(line)) for line in lines):
            return


if __name__ == "__main__":
    main()
