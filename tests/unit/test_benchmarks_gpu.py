"""How the GPU benchmark shares listeners among replicas and clients, and what it complains of."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import gpu_tts
from benchmarks.gpu_tts import DRY, Level, Result, Tts, listen
from benchmarks.listening import Heard, Reply

pytestmark = pytest.mark.unit

HEARD = Heard(1, 0, 0, 0.05, 0.06, 0.07, 0, 0, 0.0, 0.0, 5.0, {})
RESULT = Result(2, HEARD, HEARD, 10.0, 50.0, None, 2, [Level(2, HEARD, [])], [])


class AtOnce:
    """A pool whose work is done when it is submitted."""

    def __init__(self) -> None:
        self.shares: list[int] = []

    def submit(self, work: Any, asked: list[Any]) -> Future[Any]:
        self.shares.append(len(asked))
        done: Future[Any] = Future()
        done.set_result(work(asked))
        return done


def test_listeners_take_replicas_and_clients_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks is told with the replies."""
    urls: list[str] = []

    async def speak(url: str, reply: Reply) -> list[str]:
        urls.append(url)
        reply.hear(1.0)
        return [f"{reply.text}: a promise"] if reply.text == "4" else []

    monkeypatch.setattr(gpu_tts, "speak", speak)
    pool = AtOnce()
    part = Tts(replace(DRY, clients=3), lambda: None, pool)  # type: ignore[arg-type]
    replies, broken = part._listen([Reply(str(number), time.monotonic()) for number in range(7)], ["one", "two"])
    assert pool.shares == [3, 2, 2]
    assert sorted(urls) == ["one"] * 4 + ["two"] * 3
    assert sorted(reply.text for reply in replies) == list("0123456")
    assert all(reply.seconds == 1.0 for reply in replies)
    assert broken == ["4: a promise"]


def test_what_a_client_process_hears_does_not_end_with_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noted at its reply."""

    async def speak(url: str, reply: Reply) -> list[str]:
        if url == "broken":
            raise ConnectionResetError
        reply.hear(1.0)
        return []

    monkeypatch.setattr(gpu_tts, "speak", speak)
    replies, _ = listen([("broken", Reply("", time.monotonic())), ("sound", Reply("", time.monotonic()))])
    assert [reply.failure for reply in replies] == ["ConnectionResetError", None]


def test_failures_and_broken_promises_are_complained_of_wherever_they_were() -> None:
    """A listener who is late is a result, not a complaint."""
    part = Tts(DRY, lambda: None, AtOnce())  # type: ignore[arg-type]
    failed = replace(HEARD, failures={"hung up": 2})
    part.results = [RESULT, replace(RESULT, alone=failed), replace(RESULT, broken=["a promise"])]
    assert part.complaints() == ["2 replicas of tts: 2 × hung up", "2 replicas of tts: a promise"]
    part.results = [replace(RESULT, tried=[Level(3, replace(HEARD, first_p95=9.0, gaps=4), [])])]
    assert part.complaints() == []
    assert "| 2 | 50 | 60 | 10.0 | 50 |  | 2 |" in part.report()
