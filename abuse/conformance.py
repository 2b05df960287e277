"""Runs the conformance cases against a service and says which were not kept.

python -m abuse.conformance                      replicas of this machine, and a stack of one's own behind nginx
python -m abuse.conformance --only 6.4 H         cases whose numbers begin so
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from abuse import frames
from abuse.cases import CONFIG, GOES_ON, SKIPS, Case, HandshakeCase, Slowly, Step, handshake_cases, stream_cases
from abuse.peer import BrokenAnswer, Heard, Peer
from abuse.report import table, told_targets, write
from abuse.stage import opened
from abuse.targets import Target
from abuse.vitals import lost, settled
from serving.errors import CODES

ANSWER_S = 60.0
"""For an answer to come, or a connection to end; a safety net, as machines are slow."""
AT_ONCE = 4
DROPPED_S = 45.0
"""In which a client that does not come to the end of its handshake is dropped."""


@dataclass
class Result:
    """What became of one case."""

    id: str
    section: str
    sends: str
    problems: list[str] = field(default_factory=list)


def run_case(target: Target, case: Case | HandshakeCase) -> Result:
    """One case on a connection of its own; never raises."""
    result = Result(case.id, case.section, case.sends)
    try:
        with Peer(target.host, target.port, timeout_s=ANSWER_S) as peer:
            if isinstance(case, Case):
                _run_stream(target, case, peer, result.problems)
            else:
                _run_handshake(case, peer, result.problems)
    except (BrokenAnswer, OSError) as error:
        result.problems.append(f"{type(error).__name__}: {error}")
    return result


def _send(peer: Peer, step: Step) -> bool:
    if isinstance(step, Slowly):
        return peer.send_slowly(step.data, size=step.size, pause_s=step.pause_s)
    return peer.send(step)


def _run_stream(target: Target, case: Case, peer: Peer, problems: list[str]) -> None:
    path = target.path + (f"?{case.query}" if case.query else "")
    answer = peer.upgrade(path, case.headers)
    if answer.status != 101:
        problems.append(f"the handshake was refused: {answer.status} {answer.body[:200]!r}")
        return
    if peer.read_until("ready", ANSWER_S) is None:
        problems.append(f"no ready: {peer.heard}")
        return
    for step in case.steps:
        if not _send(peer, step):
            break  # it has ended; what came back tells whether that is right
    expected = case.expected
    if expected.close is None or GOES_ON in expected.close:
        _probe(peer, len(expected.answers) + 1)
    problems += _judge(case, peer.read_to_end(ANSWER_S))


def _probe(peer: Peer, answers: int) -> None:
    """One more message; after so many answers an orderly end: the stream goes on."""
    peer.send(frames.text(CONFIG))
    while len(peer.heard.messages) <= answers and peer.next_frame(ANSWER_S) is not None:
        pass
    peer.send(frames.close(1000, "probed"))


def _judge(case: Case, heard: Heard) -> list[str]:
    expected = case.expected
    answers = tuple(_summary(message) for message in heard.messages[1:])
    problems = []
    goes_on = heard.close == (1000, "probed")
    if goes_on and (expected.close is None or GOES_ON in expected.close):
        if answers != (*expected.answers, "configured"):
            problems.append(f"answers {answers}, expected {(*expected.answers, 'configured')}")
        if tuple(heard.pongs) != expected.pongs:
            problems.append(f"pongs {heard.pongs}, expected {expected.pongs}")
    elif expected.close is None:
        problems.append(f"the stream did not go on: {heard.close}, {heard.end}, answers {answers}")
    elif heard.close is None:
        problems.append(f"no close frame; the connection's end: {heard.end}")
    elif heard.close[0] not in expected.close:
        problems.append(f"closed with {heard.close}, expected one of {sorted(expected.close)}")
    elif not _begins(answers, expected.answers) or not _begins(tuple(heard.pongs), expected.pongs):
        problems.append(f"answers {answers} and pongs {heard.pongs} before the end")
    if heard.close is not None and heard.end not in ("eof", "reset"):
        problems.append("the connection stayed open after the close frame")
    if expected.says and expected.says not in json.dumps(heard.messages, ensure_ascii=False):
        problems.append(f"nothing says {expected.says!r}: {heard.messages[1:]}")
    return problems


def _begins(found: Sequence[object], expected: Sequence[object]) -> bool:
    """Whether it is a beginning of what is expected: a connection that is failed may lose the rest."""
    return list(found) == list(expected[: len(found)])


def _summary(message: dict[str, object]) -> str:
    return f"error {message.get('code')}" if message["type"] == "error" else str(message["type"])


def _run_handshake(case: HandshakeCase, peer: Peer, problems: list[str]) -> None:
    began = time.monotonic()
    _send(peer, case.request)
    try:
        answer = peer.answer()
    except ConnectionError:
        if not case.slow:
            problems.append("the connection ended without an answer")
        elif (took := time.monotonic() - began) > DROPPED_S:
            problems.append(f"dropped after {took:.0f} s")
        return
    if answer.status not in case.statuses:
        problems.append(f"{answer.status} {answer.body[:200]!r}, expected one of {sorted(case.statuses)}")
    if answer.status >= 400:
        error = answer.error
        if error is None or error.get("code") not in CODES or not error.get("message"):
            problems.append(f"not the protocol's error: {answer.body[:200]!r}")
    for name, value in case.answer_headers.items():
        if answer.headers.get(name) != value:
            problems.append(f"{name}: {answer.headers.get(name)!r}, expected {value!r}")


def run_cases(
    target: Target, *, only: Sequence[str] = (), slow: bool = True, tell: Callable[[str], None] = lambda _: None
) -> list[Result]:
    """Every case, some at once, in their order."""
    cases: list[Case | HandshakeCase] = [*stream_cases(target.service), *handshake_cases(target.path)]
    wanted = [
        case
        for case in cases
        if (slow or not getattr(case, "slow", False)) and (not only or case.id.startswith(tuple(only)))
    ]
    results = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, result in enumerate(pool.map(lambda case: run_case(target, case), wanted), 1):
            results.append(result)
            if number % 100 == 0:
                tell(f"{target.name}: {number} of {len(wanted)} cases")
    return results


def groups(results: Iterable[Result]) -> dict[str, tuple[int, int]]:
    """Cases and failures by the first part of their numbers."""
    cases: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for result in results:
        group = result.id.split(".")[0]
        cases[group] += 1
        failed[group] += bool(result.problems)
    return {group: (count, failed[group]) for group, count in cases.items()}


GROUPS = {
    "1": "framing: lengths, masks, pieces",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "reserved opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "messages up to 1 MiB",
    "L": "messages beyond",
    "12": "compression",
    "H": "opening handshakes",
}


def main() -> None:
    """The whole of it, with a report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="cases whose numbers begin with one of these")
    parser.add_argument("--via", nargs="*", default=["direct", "nginx"], choices=["direct", "nginx"])
    parser.add_argument("--output", type=Path, default=Path("abuse/results/conformance"), help="files without suffix")
    options = parser.parse_args()
    began = time.monotonic()
    found: dict[str, list[Result]] = {}
    leaks: dict[str, list[str]] = {}
    with opened(options.via) as targets:
        for target in targets:
            before = settled(target)
            found[target.name] = run_cases(target, only=options.only, tell=print)
            leaks[target.name] = lost(before, settled(target, before))
            failures = [each for each in found[target.name] if each.problems]
            print(f"{target.name}: {len(found[target.name])} cases, {len(failures)} failed; left: {leaks[target.name]}")
            for failure in failures:
                print(f"  {failure.id} {failure.sends}: {'; '.join(failure.problems)[:400]}")
        described = told_targets(targets)
    rows = [
        [f"{group} {what}", *(_told(groups(results).get(group)) for results in found.values())]
        for group, what in GROUPS.items()
    ]
    rows.append(["all", *(_told((len(each), sum(bool(r.problems) for r in each))) for each in found.values())])
    failed = sum(bool(each.problems) for results in found.values() for each in results)
    text = "\n\n".join(
        [
            "# WebSocket conformance",
            described,
            table(["cases: kept of run", *found], rows),
            "Not run:",
            table(["Autobahn's cases", "what", "why"], [[each.ids, each.what, each.reason] for each in SKIPS]),
        ]
    )
    write(
        options.output,
        text,
        {
            "seconds": round(time.monotonic() - began),
            "targets": {
                name: {
                    "cases": len(results),
                    "failed": [vars(each) for each in results if each.problems],
                    "groups": {group: {"cases": c, "failed": f} for group, (c, f) in groups(results).items()},
                    "left": leaks[name],
                }
                for name, results in found.items()
            },
            "skipped": [vars(each) for each in SKIPS],
        },
    )
    if failed or any(leaks.values()):
        raise SystemExit(1)


def _told(counts: tuple[int, int] | None) -> str:
    return "" if counts is None else f"{counts[0] - counts[1]} of {counts[0]}"


if __name__ == "__main__":
    main()
