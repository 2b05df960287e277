"""Records of runs that never were, for tests of the report: like real ones in number, order and spread."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from loadtest.events import (
    Breach,
    Connected,
    Event,
    Failed,
    Heard,
    Lag,
    Lost,
    Population,
    Refused,
    Replica,
    Run,
    Service,
    Spoken,
)

START = 1_800_000_000.0
INSTANCES: dict[Service, tuple[str, ...]] = {"asr": ("a1f0", "a2c9"), "tts": ("b17e", "b2d4")}
MACHINE: dict[str, str | int] = {"processor": "Example CPU @ 2.0 GHz", "cores": 2, "memory_gib": 24, "python": "3.13.5"}


def a_run(
    users: int = 60,
    minutes: float = 5,
    *,
    turn_every_s: float = 45.0,
    ramp_s: float = 30.0,
    seed: int = 0,
    killed_at: float | None = None,
    replicas: bool = True,
) -> list[Event]:
    """All goes well, but that the first recognition replica dies `killed_at` seconds after the start, if given."""
    chance = random.Random(seed)
    seconds = minutes * 60
    asr, tts = "2 × whisper-tiny.en, cpu, int8", "2 × en_US-joe-medium, cpu, float32"
    chosen = {"users": users, "turn_every_s": turn_every_s, "mix": "voice=1", "asr": asr, "tts": tts}
    events: list[Event] = [Run(at=START, settings=chosen, machine=MACHINE, seconds=seconds, users=users)]
    events += _load_generators(chance, users, seconds, ramp_s)
    for number in range(users):
        events += _person(chance, number, START + ramp_s * number / users, START + seconds, turn_every_s, killed_at)
    if replicas:
        events += _replicas(chance, users, seconds, ramp_s, killed_at)
    return sorted(events, key=lambda event: event.at)


def _load_generators(chance: random.Random, users: int, seconds: float, ramp_s: float) -> Iterator[Event]:
    for worker in (0, 1):
        name, mine = f"worker-{worker}", (users + 1 - worker) // 2
        for number in range(1, mine + 1):
            yield Population(at=START + ramp_s * number / mine, users=number, worker=name)
        for second in range(1, int(seconds) + 1):
            there = min(mine, math.ceil(mine * second / max(1.0, ramp_s)))
            late = 0.001 + chance.expovariate(1500)
            cpu = 0.02 + 0.004 * there + chance.uniform(0, 0.01)
            yield Lag(at=START + second, worker=name, users=there, late_p95=late, late_worst=3 * late, cpu=cpu)


def _person(
    chance: random.Random, number: int, begin: float, end: float, every_s: float, killed_at: float | None
) -> Iterator[Event]:
    user = f"voice-{number + 1}"
    where = {service: instances[number % len(instances)] for service, instances in INSTANCES.items()}
    ids: dict[Service, str] = {"asr": f"{user}-asr", "tts": f"{user}-tts"}

    def connected(service: Service, at: float, *, again: bool = False) -> Connected:
        took = chance.uniform(0.004, 0.03)
        connection, instance = ids[service], where[service]
        return Connected(
            at=at, user=user, service=service, connection_id=connection, instance=instance, took=took, again=again
        )

    yield connected("asr", begin)
    yield connected("tts", begin)
    due, dead = begin + chance.uniform(0, every_s / 2), killed_at is not None and number % 2 == 0
    while due + 20 < end:
        if dead and killed_at is not None and due >= START + killed_at:
            dead = False
            at = START + killed_at + chance.uniform(0, 0.02)
            yield Lost(
                at=at, user=user, service="asr", connection_id=ids["asr"], instance=where["asr"], what="1006 reset"
            )
            where["asr"], ids["asr"] = INSTANCES["asr"][1], f"{user}-asr-2"
            yield connected("asr", at + chance.uniform(0.3, 1.5), again=True)
        seconds = max(1.0, chance.gauss(5, 1.5))
        load = 0.1 * math.sin(due / 20) + 0.2
        final = 0.55 + chance.expovariate(1 / max(0.05, load)) * 0.5
        words, ended = round(seconds * 2.5), due + seconds
        yield Heard(
            at=ended + final,
            user=user,
            service="asr",
            connection_id=ids["asr"],
            instance=where["asr"],
            spoken="word " * words,
            heard="word " * words,
            words=words,
            errors=sum(chance.random() < 0.1 for _ in range(words)),
            seconds=seconds,
            final_s=final,
            partial_s=0.5 + chance.expovariate(5),
            turn_due=due,
        )
        asked, length = ended + final, chance.randint(8, 22)
        first, audio = 0.05 + chance.expovariate(12), length / 2.7
        barges_in = chance.random() < 0.1
        yield Spoken(
            at=asked + first + audio,
            user=user,
            service="tts",
            connection_id=ids["tts"],
            instance=where["tts"],
            text="word " * length,
            words=length,
            outcome="cancelled" if barges_in else "complete",
            first_audio_s=first,
            seconds=audio / 2 if barges_in else audio,
            gaps=0,
            gap_s=0.0,
            longest_gap_s=0.0,
            proof="unchecked" if barges_in else "same",
            asked_due=asked,
        )
        due += every_s * chance.uniform(0.8, 1.2)


def _replicas(
    chance: random.Random, users: int, seconds: float, ramp_s: float, killed_at: float | None
) -> Iterator[Event]:
    cpu = dict.fromkeys((*INSTANCES["asr"], *INSTANCES["tts"]), 3.0)
    engine, audio, waited, jobs = (dict.fromkeys(cpu, 1.0) for _ in range(4))
    for tick in range(int(seconds) // 5 + 1):
        at = START + 5 * tick
        share = min(1.0, 5 * tick / max(1.0, ramp_s))
        for service, instances in INSTANCES.items():
            for number, instance in enumerate(instances):
                if killed_at is not None and instance == "a1f0" and 0 <= at - START - killed_at < 12:
                    yield Replica(at=at, instance=instance, service=service, values={"up": 0.0})
                    continue
                cpu[instance] += 5 * share * chance.uniform(0.3, 0.5)
                engine[instance] += share * chance.uniform(0.5, 1.5)
                audio[instance] += 10 * share
                waited[instance] += share * chance.uniform(0, 0.4)
                jobs[instance] += 6
                values = {
                    "up": 1.0,
                    f"{service}_active_connections": float(round(users * share / 2)),
                    f"{service}_queue_depth": float(chance.choice((0, 0, 0, 1, 2))),
                    "process_resident_memory_bytes": (350 + 20 * share + number) * 2.0**20,
                    "process_cpu_seconds_total": cpu[instance],
                }
                if service == "asr":
                    values['asr_decode_seconds_sum{kind="final"}'] = engine[instance]
                    values['asr_decoded_audio_seconds_total{kind="final"}'] = audio[instance]
                    values['asr_queue_wait_seconds_sum{kind="final"}'] = waited[instance]
                    values['asr_queue_wait_seconds_count{kind="final"}'] = jobs[instance]
                else:
                    values["tts_chunk_seconds_sum"] = engine[instance]
                    values["tts_rendered_seconds_total"] = audio[instance]
                    values["tts_queue_wait_seconds_sum"] = waited[instance]
                    values["tts_queue_wait_seconds_count"] = jobs[instance]
                yield Replica(at=at, instance=instance, service=service, values=values)
        machine = {
            "machine_cpu_busy": 0.1 + 0.7 * share * chance.uniform(0.9, 1.1),
            "machine_memory_used_bytes": 3.0 * 2**30,
        }
        yield Replica(at=at, instance="machine", service="machine", values=machine)
        yield Replica(
            at=at, instance="nginx", service="nginx", values={"nginx_connections_active": 4 * users * share + 1}
        )


def refused(at: float, user: str = "voice-90", service: Service = "asr") -> Refused:
    """A 503 with `Retry-After`."""
    return Refused(at=at, user=user, service=service, took=0.004, status=503, retry_after=5.0)


def failed(at: float, what: str = "error: internal", user: str = "voice-1") -> Failed:
    """An error told by the service."""
    return Failed(at=at, user=user, service="asr", connection_id=f"{user}-asr", instance="a1f0", what=what)


def breach(at: float, what: str = "'apples and pears' was said by voice-2") -> Breach:
    """Words of voice-2 that voice-1 got."""
    return Breach(
        at=at,
        user="voice-1",
        service="asr",
        connection_id="voice-1-asr",
        instance="a1f0",
        whose="voice-2",
        other_connection_id="voice-2-asr",
        what=what,
    )
