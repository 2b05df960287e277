"""How many people a machine holds, how many replicas and how much memory that takes: arithmetic on what was measured.

    python -m benchmarks.sizing [--people 100] [--turn-every 45] [--reply 6] [--limit 1.0]
    python -m benchmarks.sizing --check

Recognition is a queue: a person waits for whoever is before its final. On a CPU each decoding occupies a core (Erlang
C); on a GPU whoever waits is decoded in one batch, after the one that runs. Partials are left out, since they give way
to finals. Utterances are of about 5 s, as those that were measured. Synthesis is work: seconds of a server for a second
of audio, and a share of the servers that may be busy. Several GPUs are as many queues: a replica stays on its own.

What stands in `benchmarks/results/` is measured. `GPUS` is not: it is estimated from public figures, and says so. For
your own GPU give `--decode` and `--gpu-replica-gib`.

`--check` shows what the arithmetic says of the measured levels beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
SHARE_OF_CONNECTIONS = 0.8
"""Of a replica's places that are filled on purpose; beyond it the alert ConnectionsNearCapacity fires."""
SHARE_OF_WORK = 0.75
"""Of the servers' time that may be taken; so much was measured with synthesis and no gap (`tts_busy`)."""
SHARE_OF_GPU_MEMORY = 0.9
"""Beyond it the alert GpuMemoryFull fires."""
STREAMS_A_CORE = 100
"""That are read and scored in time on one core of the host, beside a GPU."""
BATCH = 16
"""`ASR_MAX_BATCH` on a GPU."""
PLACES = 50
"""`ASR_MAX_CONNECTIONS`, `TTS_MAX_CONNECTIONS`."""
MOST_REPLICAS = 6
"""Of a service on one machine: nginx has ports for so many."""
STREAM_MIB = {"asr": 21, "tts": 17}
"""The most that one stream may hold; docs/architecture.md, Bounds."""


@dataclass(frozen=True)
class Talk:
    """What a person does, in seconds."""

    turn_every: float = 45.0
    """From one utterance to the next."""
    reply: float = 6.0
    """Of audio, for each utterance."""


@dataclass(frozen=True)
class Machine:
    """What computes, and what it costs."""

    name: str
    measured: bool
    servers: int
    """Decodings at once, and calls of synthesis at once: cores of a CPU; 1 of a GPU."""
    batched: float
    """What one more utterance adds to a batch, in decodings of one alone; 1 where batches gain nothing (a CPU)."""
    decode_s: float
    """One decoding of an utterance."""
    decodings: float
    """For each utterance: a final asked for at a pause is in vain where speech goes on."""
    base_p95_s: float
    """95th percentile from the true end of speech to the final with nobody else there, endpointing included."""
    synthesis: float
    """Seconds of a server for a second of audio."""
    listening: float
    """Seconds of a server for a second of an open recognition stream without its words; 0 where the host does it."""
    asr_replica_gib: float = 0.0
    """GPU memory of a replica; 0 on a CPU."""
    tts_replica_gib: float = 0.0


def cpu() -> Machine:
    """The CPU of `benchmarks/results`: one speaker alone, and 24 listeners with a reply every 6 s."""
    alone = _levels("asr_speakers_200_alone")[0]
    counters = alone["counters"]
    kind = "speculation"
    count = counters[f"asr_decode_seconds_count,{kind}"]
    return Machine(
        name="2 cores of a Xeon (AMX), whisper-tiny.en int8, en_US-joe-medium",
        measured=True,
        servers=2,
        batched=1.0,
        decode_s=counters[f"asr_decode_seconds_sum,{kind}"] / count,
        decodings=count / counters["asr_final_latency_seconds_count"],
        base_p95_s=alone["p95"],
        synthesis=_levels("tts_busy")[0]["cpu_per_audio_second"],
        listening=0.0064,  # `asr_serving`: 100 take 64 % of a core
    )


GPUS = {
    # 0.263 and 0.196 s an utterance at beam 5 alone, peak 1224 and 2184 MB, for weights of that size on an RTX PRO 4500
    # (https://github.com/OHF-Voice/wyoming-faster-whisper/pull/122); 2 GiB more here for batches, CUDA and torch. Eight
    # at once took 16 s where one after the other took 59, so one more in a batch adds a sixth of one alone
    # (faster-whisper's README: large-v2, RTX 3070 Ti). Synthesis is taken to be no faster than on the two cores above:
    # nobody publishes figures for it. Its memory, 1.5 GiB, is a guess too.
    "int8_float16": Machine(
        "a GPU, whisper-large-v3-turbo int8_float16", False, 1, 1 / 6, 0.263, 1.6, 0.75, 0.037, 0, 3.2, 1.5
    ),
    "float16": Machine("a GPU, whisper-large-v3-turbo float16", False, 1, 1 / 6, 0.196, 1.6, 0.75, 0.037, 0, 4.2, 1.5),
}


def _levels(result: str) -> list[dict[str, Any]]:
    """What was measured of Chorus itself."""
    levels = json.loads((RESULTS / f"{result}.json").read_text(encoding="utf-8"))["levels"]
    return [level for level in levels if level["system"] == "chorus"]


def must_wait(servers: int, offered: float) -> float:
    """Erlang C: the share of those who come who find all servers busy; `offered` is the work that comes, in servers."""
    if offered >= servers:
        return 1.0
    term, rest = 1.0, 0.0
    for busy in range(servers):
        rest += term
        term *= offered / (busy + 1)
    waiting = term * servers / (servers - offered)
    return waiting / (rest + waiting)


def final_p95(machine: Machine, utterances_a_second: float) -> float:
    """95th percentile from the true end of speech to the final, seconds; infinite beyond what can be decoded."""
    rate = utterances_a_second * machine.decodings
    if machine.batched < 1:
        return machine.base_p95_s + _batched_delay(machine, rate)
    offered = rate * machine.decode_s
    waiting = must_wait(machine.servers, offered)
    if waiting >= 1:
        return math.inf
    return machine.base_p95_s + max(0.0, math.log(waiting / 0.05) if waiting else 0.0) * machine.decode_s / (
        machine.servers - offered
    )


def _batched_delay(machine: Machine, rate: float) -> float:
    """What a decoding takes longer (95th percentile) than one alone, where whoever waits is decoded together."""
    alone, more = machine.decode_s, machine.batched
    if rate * alone * more >= 1:
        return math.inf
    # In equilibrium a batch has as many as come while one is decoded; with few, one each.
    size = max(1.0, rate * alone * (1 - more) / (1 - rate * alone * more))
    if size > BATCH:
        return math.inf
    batch_s = alone * (1 + (size - 1) * more)
    busy = min(1.0, rate * alone)
    # Who comes while one runs waits for the rest of it, any part of it as likely as another.
    return batch_s - alone + (batch_s * (1 - 0.05 / busy) if busy > 0.05 else 0.0)


def recognised(machine: Machine, talk: Talk, limit_s: float) -> int:
    """The most people on one machine, or GPU, whose finals come within the limit (95th percentile)."""
    # Many in a batch are less work than as many alone.
    most = int(SHARE_OF_WORK * machine.servers / (_hearing(machine, talk) * machine.batched))
    people = 0
    while people < most and final_p95(machine, (people + 1) / talk.turn_every) <= limit_s:
        people += 1
    return people


def spoken_to(machine: Machine, talk: Talk) -> int:
    """The most people on one machine, or GPU, whose replies are made in time."""
    return int(SHARE_OF_WORK * machine.servers / _speaking(machine, talk))


def both(machine: Machine, talk: Talk) -> int:
    """The most people on a machine that does both for them."""
    return int(SHARE_OF_WORK * machine.servers / (_hearing(machine, talk) + _speaking(machine, talk)))


def _hearing(machine: Machine, talk: Talk) -> float:
    """Of one person's recognition, in servers."""
    return machine.decodings * machine.decode_s / talk.turn_every + machine.listening


def _speaking(machine: Machine, talk: Talk) -> float:
    """Of one person's replies, in servers."""
    return machine.synthesis * talk.reply / talk.turn_every


def replicas(people: int) -> int:
    """Of a service, so that their places are filled to `SHARE_OF_CONNECTIONS`."""
    return max(1, math.ceil(people / (PLACES * SHARE_OF_CONNECTIONS)))


@dataclass(frozen=True)
class Gpu:
    """So many GPUs with so many replicas on each, all of one service."""

    gpus: int
    each: int
    places: int
    """Connections that are let in."""
    people: int
    """What to plan with: the places at `SHARE_OF_CONNECTIONS`, or what is computed in time if that is less."""
    bound: str
    """Which of the two that is: `places` or `compute`."""
    memory_gib: float
    """What each GPU must have for it."""
    cores: int
    """Of the host, for the streams' audio and the replicas' processes."""


def gpus(count: int, each: int, on_one: int, replica_gib: float) -> Gpu:
    """`on_one` people are what one GPU computes in time."""
    places = count * each * PLACES
    planned = int(places * SHARE_OF_CONNECTIONS)
    people = min(planned, count * on_one)
    cores = max(count * each, math.ceil(people / STREAMS_A_CORE))
    bound = "places" if planned <= count * on_one else "compute"
    return Gpu(count, each, places, people, bound, each * replica_gib / SHARE_OF_GPU_MEMORY, cores)


def check() -> list[tuple[str, float, float]]:
    """What, by the arithmetic, and as measured: 95th percentiles of finals, and throughput when all are busy."""
    machine = cpu()
    rows = []
    for level in _levels("asr_speakers_200_alone") + _levels("asr_speakers_200"):
        counters = level["counters"]
        # Speakers say clips back to back, at the speed of speech.
        rate = level["speakers"] * counters["asr_final_latency_seconds_count"] / counters["asr_audio_seconds_total"]
        rows.append((f"{level['speakers']} speakers: p95 of finals, s", final_p95(machine, rate), level["p95"]))
    for level in _levels("tts_listeners"):
        if level["scenario"] == "at the same moment" and level["listeners"] == 16:
            cost = level["cpu_per_audio_second"]
            rows.append(("16 listeners at once: audio s per s", machine.servers / cost, level["throughput"]))
    busy = _levels("tts_busy")[0]
    share = busy["throughput"] * machine.synthesis / machine.servers
    rows.append(("24 listeners, every 6 s: share of the cores, no gap", SHARE_OF_WORK, share))
    return rows


def report(people: int, talk: Talk, limit_s: float, machines: list[Machine]) -> str:
    """Markdown."""
    lines = [
        f"People who speak and hear {talk.reply:g} s every {talk.turn_every:g} s; finals within {limit_s:g} s of the "
        "true end of speech (p95, endpointing included).",
        "",
        "| what | its costs | people recognised | or spoken to | or both |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for machine in machines:
        costs = "measured" if machine.measured else "estimated"
        recognising, speaking = recognised(machine, talk, limit_s), spoken_to(machine, talk)
        shared = "" if machine.asr_replica_gib else str(both(machine, talk))
        lines.append(f"| {machine.name} | {costs} | {recognising} | {speaking} | {shared} |")
    count = replicas(people)
    memory = {service: people * mib / 1024 for service, mib in STREAM_MIB.items()}
    lines += [
        "",
        f"{people} people, by connections ({PLACES} places a replica, {SHARE_OF_CONNECTIONS:.0%} filled): {count} "
        f"replicas of each service, on at least {math.ceil(count / MOST_REPLICAS)} machine(s). Host memory of their "
        f"streams: at most {memory['asr']:.1f} GiB (recognition) and {memory['tts']:.1f} GiB (synthesis).",
    ]
    for machine in machines:
        if machine.asr_replica_gib:
            lines += ["", *_gpu_table(machine, talk, limit_s)]
    return "\n".join(lines)


def _gpu_table(machine: Machine, talk: Talk, limit_s: float) -> list[str]:
    costs = "" if machine.measured else " (estimated)"
    lines = [
        f"{machine.name}{costs}: so many GPUs for one service.",
        "",
        "| GPUs | replicas on each | places | recognised | bound by | or spoken to | bound by "
        "| GiB a GPU, ASR | or TTS | host cores |",
        "| ---: | ---: | ---: | ---: | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for count in range(1, 9):
        for each in (4, 5, 6):
            asr = gpus(count, each, recognised(machine, talk, limit_s), machine.asr_replica_gib)
            tts = gpus(count, each, spoken_to(machine, talk), machine.tts_replica_gib)
            lines.append(
                f"| {count} | {each} | {asr.places} | {asr.people} | {asr.bound} | {tts.people} | {tts.bound} "
                f"| {asr.memory_gib:.0f} | {tts.memory_gib:.0f} | {max(asr.cores, tts.cores)} |"
            )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """The tables; exits with 2 where a number makes no sense."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="benchmarks.sizing", description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--turn-every", type=float, default=Talk.turn_every, help="seconds from turn to turn")
    parser.add_argument("--reply", type=float, default=Talk.reply, help="seconds of audio")
    parser.add_argument("--limit", type=float, default=1.0, help="finals' p95, seconds from the true end of speech")
    parser.add_argument("--decode", type=float, help="seconds of one decoding on your GPU: asr_decode_seconds, mean")
    parser.add_argument("--gpu-replica-gib", type=float, help="GPU memory of a recognition replica, as measured")
    parser.add_argument("--check", action="store_true", help="the arithmetic beside what was measured")
    given = parser.parse_args(arguments)
    numbers = (given.people, given.turn_every, given.reply, given.limit, given.decode, given.gpu_replica_gib)
    if any(number is not None and number <= 0 for number in numbers):
        parser.error("every number must be above 0")
    if given.check:
        print("| what | by arithmetic | measured |\n| --- | ---: | ---: |")
        for what, by_arithmetic, measured in check():
            print(f"| {what} | {by_arithmetic:.2f} | {measured:.2f} |")
        return 0
    machines = [cpu(), *GPUS.values()]
    if given.decode or given.gpu_replica_gib:
        gpu = GPUS["int8_float16"]
        machines.append(
            replace(
                gpu,
                name="your GPU, by what you gave",
                decode_s=given.decode or gpu.decode_s,
                asr_replica_gib=given.gpu_replica_gib or gpu.asr_replica_gib,
            )
        )
    print(report(given.people, Talk(given.turn_every, given.reply), given.limit, machines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
