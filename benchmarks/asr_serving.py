"""How much the recognition service costs before its words: many live streams to one replica on one core.

    python -m benchmarks.asr_serving [FOLDER] [--connections 100 200] [--seconds 30]

A replica with the real voice detector and a recogniser that answers at once (`benchmarks.instant_asr`) gets one core,
the client another. Each connection sends speech in frames of 20 ms at the speed of speech, each from another place of
the same recording, beginning at a random moment.

The delay is measured from outside. The same detector and endpointer, run beforehand on the same audio, tell in which
hop (32 ms) each `speech_start` and `speech_end` is decided, so in which frame; the time runs from that frame's due
time (a client that is late does not flatter the server) to the arrival of the message. That is a frame's way to its
speech probability, and the way back to the client besides. Counted from the hop's first frame, it includes the wait
until the hop is whole, which no server can shorten. The replica's own histogram, from hops handed to the detector to
their probabilities, stands beside it.

Exit status: 0 when nothing was lost, every message came as foretold, the client itself was not late, and for up to
100 connections the 95th percentile of the delay, counted from the hop's first frame, is at most 60 ms; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from asr.endpointer import Endpointer, SpeechEnded, SpeechStarted
from asr.vad import HOP, SileroVad
from benchmarks import machine
from benchmarks.replica import ROOT, Replica
from benchmarks.speech import CLIPS, speeches
from chorus.asr import AsrProtocol
from chorus.wire import asr as wire
from loadtest.clips import SAMPLE_RATE, Pcm, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
FRAME = SAMPLE_RATE // 50
"""Samples of a frame, 20 ms."""
FRAME_S = FRAME / SAMPLE_RATE
CYCLE_S = 0.16
"""Frames and hops come together again after so long: beginnings are spread over it."""
JUDGED = 100
"""Connections up to which the delay is judged; more are reported."""
LIMIT_S = 0.06
CLIENT_LIMIT_S = 0.01
"""95th percentile of the client's own lateness beyond which the figures are not the server's."""
ANSWER_S = 30.0
"""How long the replica may take to greet, or to finish."""


@dataclass(frozen=True)
class Decision:
    """A message of the server that the audio foretells."""

    starts: bool
    """`speech_start`, else `speech_end`."""
    time: float
    """As the message tells it, seconds."""
    first: int
    """The frame that begins the hop in which it is decided."""
    last: int
    """The frame that completes that hop."""


@dataclass(frozen=True)
class Level:
    """The result for so many connections."""

    connections: int
    decisions: int
    delay: list[float | None]
    """p50, p95, p99 from the frame that completes the hop, seconds."""
    whole_delay: list[float | None]
    """The same from the hop's first frame."""
    own_within: float
    """Share of hops that took the replica at most `LIMIT_S` by its own histogram."""
    own_mean: float
    server_cpu: float
    """Share of its core."""
    client_cpu: float
    client_late: float | None
    """95th percentile of a frame's sending after its due time, seconds."""
    broken: list[str] = field(default_factory=list)
    """What was lost, came otherwise than foretold, or broke a promise of the protocol."""

    @property
    def sound(self) -> bool:
        """Whether the run held what is asked of it."""
        whole = self.whole_delay[1]
        in_time = self.connections > JUDGED or (whole is not None and whole <= LIMIT_S)
        return in_time and not self.broken and self.client_late is not None and self.client_late <= CLIENT_LIMIT_S


class Caller(asyncio.Protocol):
    """One connection. Its frames are made beforehand, so that sending costs next to nothing."""

    def __init__(self, url: str, frames: list[bytes], begins: float) -> None:
        """`begins` is the due time of the first frame, seconds after the common start."""
        self.frames = frames
        self.begins = begins
        self.arrived: list[tuple[float, wire.SpeechStart | wire.SpeechEnd]] = []
        self.contract = AsrProtocol(strict=False)
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.transport: asyncio.Transport
        self._protocol = ClientProtocol(parse_uri(url + wire.PATH))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Note when what came; the protocol object answers pings."""
        now = time.monotonic()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._heard(now, bytes(event.data).decode())
            elif isinstance(event, Response) and event.status_code != 101:
                self.contract.violations.append(f"refused with {event.status_code}")
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more will come."""
        if not self.contract.finished:
            why = error or self.contract.failure or self._protocol.close_code
            self.contract.violations.append(f"lost before done: {why}")
        self.ready.set()
        self.ended.set()

    def close(self) -> None:
        """Ask for what is still due."""
        if self.ended.is_set():
            return
        self._protocol.send_text(self.contract.close().encode())
        self._flush()

    def _heard(self, now: float, text: str) -> None:
        message = self.contract.receive(text)
        if isinstance(message, wire.SpeechStart | wire.SpeechEnd):
            self.arrived.append((now, message))
        elif self.contract.ready is message:
            self.ready.set()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()


def prepare(payload: bytes) -> bytes:
    """A client's binary WebSocket frame (RFC 6455 5.2). The key is zero, so masking leaves the payload as it is."""
    return bytes((0x82, 0x80 | 126)) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def decisions(audio: list[Pcm], models: Path) -> list[list[Decision]]:
    """What the service has to say to each stream, by the same detector and endpointer in the same order."""
    vad = SileroVad(models / "silero-vad")
    states = [vad.new_state() for _ in audio]
    endpointers = [Endpointer() for _ in audio]
    found: list[list[Decision]] = [[] for _ in audio]
    sound = np.stack(audio).astype(np.float32) / np.float32(32768)
    for hop in range(sound.shape[1] // HOP):
        scores = vad.step(states, sound[:, hop * HOP : (hop + 1) * HOP]).tolist()
        first, last = hop * HOP // FRAME, ((hop + 1) * HOP - 1) // FRAME
        for mine, endpointer, score in zip(found, endpointers, scores, strict=True):
            for event in endpointer.feed(score):
                if isinstance(event, SpeechStarted | SpeechEnded):
                    starts = isinstance(event, SpeechStarted)
                    mine.append(Decision(starts, event.sample / SAMPLE_RATE, first, last))
    return found


async def send_all(callers: list[Caller], begin: float) -> list[float]:
    """Send every frame when it is due; returns how late each was sent."""
    plan = sorted(
        (begin + caller.begins + number * FRAME_S, index, number)
        for index, caller in enumerate(callers)
        for number in range(len(caller.frames))
    )
    late = []
    for due, index, number in plan:
        while (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if not callers[index].ended.is_set():  # else it has its complaint, and the others go on
            callers[index].transport.write(callers[index].frames[number])
        late.append(time.monotonic() - due)
    return late


def delays(caller: Caller, foretold: list[Decision], begin: float) -> list[tuple[float, float]]:
    """Of each decision, from the frame that completes its hop and from the one that begins it; notes what differs."""
    if len(caller.arrived) < len(foretold):
        caller.contract.violations.append(f"{len(caller.arrived)} starts and ends of {len(foretold)} foretold")
    found = []
    for (at, message), decision in zip(caller.arrived, foretold, strict=False):  # what follows came of `close`
        if isinstance(message, wire.SpeechStart) != decision.starts or abs(message.time - decision.time) > 0.001:
            caller.contract.violations.append(f"{message} where {decision} was foretold")
            continue
        spoken = at - begin - caller.begins
        found.append((spoken - decision.last * FRAME_S, spoken - decision.first * FRAME_S))
    return found


async def measure(replica: Replica, audio: list[Pcm], foretold: list[list[Decision]]) -> Level:
    """Connect everybody, let them speak, and collect."""
    loop, seed = asyncio.get_running_loop(), random.Random(0)
    address = urlsplit(replica.url)
    callers: list[Caller] = []
    made: dict[bytes, bytes] = {}
    """Connections share their frames, since they speak from the same recording."""
    for samples in audio:
        payloads = [piece.tobytes() for piece in samples.reshape(-1, FRAME)]
        frames = [made.setdefault(payload, prepare(payload)) for payload in payloads]
        caller = Caller(replica.url, frames, seed.uniform(0, CYCLE_S))
        await loop.create_connection(lambda caller=caller: caller, address.hostname, address.port)  # type: ignore[misc]
        callers.append(caller)
        async with asyncio.timeout(ANSWER_S):
            await caller.ready.wait()
        if caller.ended.is_set():
            raise SystemExit(f"no stream: {caller.contract.violations[-1]}")
        for payload in payloads:
            caller.contract.audio(payload)
    before, cpu = replica.metrics(), time.process_time()
    begin = time.monotonic() + 1.0
    await asyncio.sleep(0.9)
    late = await send_all(callers, begin)
    spent = time.monotonic() - begin
    client_cpu = (time.process_time() - cpu) / spent
    after = replica.metrics()
    change = {name: value - before.get(name, 0.0) for name, value in after.items()}
    for caller in callers:
        caller.close()
    async with asyncio.timeout(ANSWER_S):
        for caller in callers:
            await caller.ended.wait()
    found = [pair for caller, mine in zip(callers, foretold, strict=True) for pair in delays(caller, mine, begin)]
    hops = change["asr_vad_delay_seconds_count"]
    return Level(
        connections=len(callers),
        decisions=len(found),
        delay=shares(delay for delay, _ in found),
        whole_delay=shares(whole for _, whole in found),
        own_within=change[f"asr_vad_delay_seconds_bucket,{LIMIT_S}"] / hops,
        own_mean=change["asr_vad_delay_seconds_sum"] / hops,
        server_cpu=change["process_cpu_seconds_total"] / spent,
        client_cpu=client_cpu,
        client_late=percentile(late, 0.95),
        broken=[line for caller in callers for line in complaints(caller)],
    )


def shares(values: Iterable[float]) -> list[float | None]:
    """p50, p95 and p99."""
    known = list(values)
    return [percentile(known, share) for share in (0.5, 0.95, 0.99)]


def complaints(caller: Caller) -> list[str]:
    """What went wrong on a connection."""
    missing = caller.contract.missing_finals
    return caller.contract.violations + ([f"{missing} utterances without a final"] if missing else [])


def table(levels: list[Level]) -> str:
    """The result as Markdown."""
    lines = [
        "| connections | decisions | delay p50 / p95 / p99 ms | from the hop's first frame "
        "| replica's own: at most 60 ms | mean ms | replica's core | client's core | client late p95 ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {level.connections} | {level.decisions} | {_ms(level.delay)} | {_ms(level.whole_delay)} "
        f"| {level.own_within:.3%} | {1000 * level.own_mean:.1f} | {level.server_cpu:.0%} "
        f"| {level.client_cpu:.0%} | {_ms([level.client_late])} |"
        for level in levels
    ]
    return "\n".join(lines) + "\n"


def _ms(values: list[float | None]) -> str:
    return " / ".join("" if value is None else f"{1000 * value:.1f}" for value in values)


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether it is as it has to be."""
    parser = argparse.ArgumentParser(description="The serving layer by itself: delay of live streams on one core.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--connections", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--seconds", type=int, default=30, help="of speech for each")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_serving", help="without suffix")
    asked = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("two cores are needed: one for the replica, one for the client", file=sys.stderr)
        return 1
    clips = read_manifest(asked.folder)
    recording = speeches(clips, 1, len(clips))[0].samples
    levels = []
    for connections in asked.connections:
        print(f"  {connections} connections, {asked.seconds} s …", file=sys.stderr)
        starts = [index * len(recording) // connections for index in range(connections)]
        length = asked.seconds * SAMPLE_RATE
        audio = [np.take(recording, range(start, start + length), mode="wrap") for start in starts]
        foretold = decisions(audio, Path(os.environ.get("MODELS_DIR", ROOT / ".models")))
        # A process keeps the core that its parent had when it was started.
        os.sched_setaffinity(0, {cores[0]})
        with Replica("benchmarks.instant_asr", max_connections=connections) as replica:
            os.sched_setaffinity(0, {cores[1]})
            levels.append(uvloop.run(measure(replica, audio, foretold)))
        os.sched_setaffinity(0, set(cores))
        print(table(levels[-1:]), end="")
    text = f"{machine.in_words()}\n\n{table(levels)}"
    print(text, end="")
    machine.write_result(asked.output, text, {"levels": [asdict(level) for level in levels]})
    for line in (line for level in levels for line in level.broken):
        print(line, file=sys.stderr)
    return 0 if all(level.sound for level in levels) else 1


if __name__ == "__main__":
    sys.exit(main())
