"""Sends a hundred thousand inputs that nobody should send, and judges what comes back.

    python -m abuse.fuzz                                   100,000 inputs a service, direct, and 20,000 through nginx
    python -m abuse.fuzz --services tts --via direct --inputs 5000 --seed 7

An input is one thing sent on a stream (a message, a frame that is none, a flood of them), one opening of a stream with
a query of its own, or one request by HTTP. A failure is shrunk by hypothesis, and stands in the result with its seed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from abuse import frames
from abuse.inputs import TOKEN, HttpRequest, Session, requests, sessions
from abuse.peer import BrokenAnswer, Heard, Peer
from abuse.report import table, told_targets, write
from abuse.stage import opened
from abuse.targets import SERVICES, Target
from abuse.vitals import RSS_SLACK_MB, Vitals, health, lost, settled
from serving.errors import CODES, MAX_MESSAGE_CHARS

ANSWER_S = 120.0
"""For an answer: a safety net, as a machine may be slow; a stream that hangs does so for ever."""
UNANSWERED_S = 0.5
"""For what need not be answered."""
ROUND = 40
"""Sessions and requests between two looks at the replica."""
MOST_FAILURES = 5
NO_PONG = (1011, "keepalive ping timeout")
"""How a service ends a stream whose client answers no ping."""
TRACES = re.compile(r'Traceback|File "|site-packages|\.py\b|/usr/|/app/|uvicorn|starlette|0x[0-9a-f]{8}')
"""What a client must not see of how we are made."""


class Wrong(AssertionError):
    """An answer that breaks a promise of the protocol."""


@dataclass
class Tally:
    """What was sent to one target, and what became of it."""

    inputs: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    vitals: list[dict[str, float]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """Inputs so far."""
        return self.inputs.total()


def run_session(target: Target, session: Session, tally: Tally) -> None:
    """One stream from its opening to its end. Raises `Wrong`."""
    tally.inputs["opening with a query" if session.query else "opening"] += 1
    with Peer(target.host, target.port, timeout_s=ANSWER_S) as peer:
        answer = peer.upgrade(target.path + (f"?{session.query}" if session.query else ""))
        tally.answers[f"HTTP {answer.status}"] += 1
        if answer.status != 101:
            _judge_refusal(answer.status, answer.body, answer.error)
            return
        if peer.read_until("ready", ANSWER_S) is None:
            raise Wrong(f"no ready: {peer.heard}")
        for action in session.actions:
            tally.inputs[action.kind] += action.count
            if not peer.send(action.data):
                break
            if len(action.data) > 10_000:
                peer.next_frame(0.001)  # so that nobody waits for the other to read
        if session.end == "rst":
            peer.drop()
            tally.answers["dropped by us"] += 1
            return
        if session.end == "fin":
            peer.finish()
        elif session.end == "close":
            peer.send(frames.close(1000))
        else:
            _probe(peer, session)
        heard = peer.read_to_close(ANSWER_S)
        if heard.close == NO_PONG:
            # It is we who were too slow, on a machine that has other things to do: nothing can be said of the stream.
            tally.answers["we answered no ping in time"] += 1
            return
        _judge(session, heard)
        for message in heard.messages:
            tally.answers[f"error {message['code']}" if message["type"] == "error" else str(message["type"])] += 1
        tally.answers[f"close {heard.close[0] if heard.close else heard.end}"] += 1


def _probe(peer: Peer, session: Session) -> None:
    """Ask for a sign that all has been read, then end the stream in order."""
    peer.send(frames.text(json.dumps({"type": TOKEN})))
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until:
        if peer.next_frame(max(0.001, until - time.monotonic())) is None:
            return
        newest = peer.heard.messages[-1]
        if newest["type"] == "error" and TOKEN in str(newest.get("message")):
            break
    peer.send(frames.close(1000, "probed"))


def _judge(session: Session, heard: Heard) -> None:
    for message in heard.messages:
        if TRACES.search(json.dumps(message)):
            raise Wrong(f"shows how we are made: {message}")
        if message["type"] == "error":
            _judge_error(message)
    codes = [action.codes for action in session.actions if action.codes is not None]
    allowed = frozenset[int]().union(*codes)
    if heard.close is None and heard.end == "timeout":
        raise Wrong(f"neither an answer nor an end within {ANSWER_S:.0f} s: {heard}")
    if session.end == "probe" and not codes:
        if heard.close != (1000, "probed"):
            raise Wrong(f"the stream did not go on: {heard.close} {heard.end}; {heard.messages[-2:]}")
        errors = sum(message["type"] == "error" for message in heard.messages) - 1
        if errors < (wanted := sum(action.errors for action in session.actions)):
            raise Wrong(f"{errors} errors for {wanted} mistakes: {heard.messages}")
    elif heard.close is None:
        if session.end != "fin" and heard.end != "reset":
            raise Wrong(f"ended without a close frame: {heard.end}")
    elif heard.close[0] not in allowed | {1000, 1008}:
        raise Wrong(f"closed with {heard.close}, allowed are {sorted(allowed)}")


def _judge_error(message: dict[str, Any]) -> None:
    if message.get("code") not in CODES or not message.get("message") or "recoverable" not in message:
        raise Wrong(f"an error that names nothing: {message}")
    if message["code"] == "internal":
        raise Wrong(f"our own fault: {message}")
    if len(message["message"]) > MAX_MESSAGE_CHARS:
        raise Wrong(f"an error of {len(message['message'])} characters")


def _judge_refusal(status: int, body: bytes, error: dict[str, Any] | None) -> None:
    if status >= 500 and status != 503:
        raise Wrong(f"HTTP {status}: {body[:500]!r}")
    if status == 503:
        raise Wrong(f"refused though nobody else is here: {body[:500]!r}")
    if error is None or error.get("code") not in CODES or not error.get("message"):
        raise Wrong(f"HTTP {status} that names nothing: {body[:500]!r}")
    if TRACES.search(body.decode("latin-1")):
        raise Wrong(f"HTTP {status} shows how we are made: {body[:500]!r}")


def run_request(target: Target, request: HttpRequest, tally: Tally) -> None:
    """One request by HTTP. Raises `Wrong`."""
    tally.inputs["HTTP request" if request.whole else "HTTP that is none"] += 1
    port = target.admin_port if request.admin else target.port
    with Peer(target.host, port, timeout_s=ANSWER_S if request.whole else UNANSWERED_S) as peer:
        peer.send(request.data)
        try:
            answer = peer.answer(head=request.data.startswith(b"HEAD "))
        except ConnectionError as error:
            if request.whole:
                raise Wrong(f"ended without an answer: {error}") from None
            return
        except TimeoutError:
            if request.whole:
                raise Wrong("no answer") from None
            return
        tally.answers[f"HTTP {answer.status}"] += 1
        if answer.status >= 400 and not request.data.startswith(b"HEAD "):
            _judge_refusal(answer.status, answer.body, answer.error)
        elif answer.status >= 500:
            raise Wrong(f"HTTP {answer.status}")


def fuzz(
    target: Target,
    count: int,
    start: int,
    *,
    go_on: Callable[[], bool] = lambda: True,
    tell: Callable[[str], None] = lambda _: None,
) -> Tally:
    """So many inputs, in rounds with a seed each from `start` on, as long as `go_on` says so."""
    tally = Tally()
    began = time.monotonic()
    _round(target, start - 1, 5, Tally())  # what is opened once stays open
    first = settled(target)
    number = 0
    while tally.count < count and go_on() and len(tally.failures) < MOST_FAILURES:
        this = start + number
        number += 1
        known = len(tally.failures)
        try:
            _round(target, this, ROUND, tally)
            for failure in tally.failures[known:]:
                tell(f"{target.name}: {json.dumps(failure, ensure_ascii=False)}")
            now = settled(target, first)
            if problems := lost(first, now):
                tally.failures.append({"seed": this, "wrong": f"after the round: {'; '.join(problems)}"})
                first = now
            tally.vitals.append({"inputs": tally.count, **now.as_dict()})
        except OSError as error:
            tally.failures.append({"seed": this, "wrong": f"the replica does not answer: {error}"})
            break
        if number % 2 == 0:
            rate = tally.count / (time.monotonic() - began)
            tell(f"{target.name}: {tally.count} inputs, {rate:.0f} a second, {len(tally.failures)} failures")
    tally.left = _left(target, first, tally)
    tally.seconds = time.monotonic() - began
    return tally


def _left(target: Target, first: Vitals, tally: Tally) -> list[str]:
    """What remains at the end: also memory, against a tenth of the way."""
    try:
        last = settled(target, first)
    except OSError as error:
        return [f"the replica does not answer: {error}"]
    found = lost(first, last)
    if tally.vitals:
        early = tally.vitals[len(tally.vitals) // 10]["rss_mb"]
        if last.rss_mb > early + RSS_SLACK_MB:
            found.append(f"memory: {last.rss_mb:.0f} MB, {early:.0f} MB after a tenth of the inputs")
    return found


def _round(target: Target, this_seed: int, examples: int, tally: Tally) -> None:
    """One run of hypothesis; a failure is noted, shrunk."""
    noted: list[dict[str, Any]] = []
    either: st.SearchStrategy[Session | HttpRequest] = st.one_of(
        sessions(target.service), sessions(target.service), requests(target.path)
    )

    @seed(this_seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @given(either)
    def send(tried_now: Session | HttpRequest) -> None:
        try:
            if isinstance(tried_now, Session):
                run_session(target, tried_now, tally)
            else:
                run_request(target, tried_now, tally)
        except (Wrong, BrokenAnswer, OSError) as error:
            told = f"{type(error).__name__}: {error}"
            noted.append({"seed": this_seed, "wrong": told[:2000], "input": repr(tried_now)[:4000]})
            raise Wrong(told) from error

    try:
        send()
    except (Wrong, BaseExceptionGroup, hypothesis.errors.HypothesisException):
        # The last one is the smallest; where it did not happen again, that is told too.
        last = noted[-1] if noted else {"seed": this_seed, "wrong": traceback.format_exc()[-2000:]}
        tally.failures.append({**last, "times": len(noted)})
        health(target)


def main() -> None:
    """The whole of it, with a report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--services", nargs="*", default=list(SERVICES), choices=SERVICES)
    parser.add_argument("--via", nargs="*", default=["direct", "nginx"], choices=["direct", "nginx"])
    parser.add_argument("--inputs", type=int, default=100_000, help="a service, direct")
    parser.add_argument("--nginx-inputs", type=int, default=20_000, help="a service, through nginx")
    parser.add_argument("--minutes", type=float, default=120, help="for each of them at most")
    parser.add_argument("--seed", type=int, help="of the first round; each after it has the next one")
    parser.add_argument("--output", type=Path, default=Path("abuse/results/fuzz"), help="files without suffix")
    options = parser.parse_args()
    start = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {start}")
    tallies: dict[str, Tally] = {}
    stopped = threading.Event()

    def abuse(target: Target) -> Tally:
        count = options.inputs if target.via == "direct" else options.nginx_inputs
        until = time.monotonic() + 60 * options.minutes
        return fuzz(
            target,
            count,
            start,
            go_on=lambda: time.monotonic() < until and not stopped.is_set(),
            tell=lambda line: print(line, flush=True),
        )

    with opened(options.via, options.services) as targets:
        with ThreadPoolExecutor(len(targets)) as pool:
            running = [pool.submit(abuse, target) for target in targets]
            try:
                wait(running)
            except KeyboardInterrupt:
                stopped.set()  # what there is by now is written
        for target, each in zip(targets, running, strict=True):
            tally = tallies[target.name] = each.result()
            print(f"{target.name}: {tally.count} inputs in {tally.seconds:.0f} s; left: {tally.left}")
            for failure in tally.failures:
                print(json.dumps(failure, indent=2, ensure_ascii=False))
        described = told_targets(targets)
    write(options.output, _text(described, start, tallies), {"seed": start, "targets": _told(tallies)})
    if any(tally.failures or tally.left for tally in tallies.values()):
        raise SystemExit(1)


def _told(tallies: dict[str, Tally]) -> dict[str, object]:
    return {
        name: {
            "inputs": tally.count,
            "seconds": round(tally.seconds),
            "failures": tally.failures,
            "left": tally.left,
            "by_kind": dict(tally.inputs.most_common()),
            "answers": dict(tally.answers.most_common()),
            "vitals": tally.vitals[:: max(1, len(tally.vitals) // 50)],
        }
        for name, tally in tallies.items()
    }


def _text(described: str, start: int, tallies: dict[str, Tally]) -> str:
    rows: list[list[object]] = []
    for name, tally in tallies.items():
        vitals = tally.vitals
        early, late = (vitals[len(vitals) // 10], vitals[-1]) if vitals else ({}, {})
        rows.append(
            [
                name,
                f"{tally.count:,}",
                f"{sum(n for kind, n in tally.answers.items() if kind.startswith('error')):,}",
                len(tally.failures),
                tally.answers["HTTP 500"],
                f"{late.get('active', 0):.0f}, {late.get('descriptors', 0) - early.get('descriptors', 0):+.0f}",
                f"{early.get('rss_mb', 0):.0f}, {late.get('rss_mb', 0):.0f}",
                "; ".join(tally.left) or "none",
            ]
        )
    head = [
        "target",
        "inputs",
        "errors told",
        "failures",
        "HTTP 500",
        "slots held, descriptors",
        "MB at 10 %, at the end",
        "leaks",
    ]
    return "\n\n".join(["# Fuzzing", described, f"Seed {start}.", table(head, rows)])


if __name__ == "__main__":
    main()
