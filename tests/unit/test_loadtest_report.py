"""The report of a load test: what is measured, what holds, and what is told of it."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtest.events import Connected, Event, Heard, Lag, Lost, Population, Replica, Run, Spoken, encode
from loadtest.report.__main__ import main, write
from loadtest.report.capacity import Capacity, as_csv, as_page, headline, search, write_capacity
from loadtest.report.capacity import as_markdown as capacity_markdown
from loadtest.report.collect import Collected, collect
from loadtest.report.curves import People, grouped, step_of
from loadtest.report.measures import column, deviation, summary
from loadtest.report.page import page
from loadtest.report.report import Report, report
from loadtest.report.tables import as_csv as run_csv
from loadtest.report.tables import as_json, as_markdown
from loadtest.report.thresholds import PROFILES, BadThreshold, Thresholds, thresholds_from
from tests.unit.synthetic_run import INSTANCES, MACHINE, START, a_run, breach, failed, refused

pytestmark = pytest.mark.unit

E = TypeVar("E", bound=Event)

STRICT = msgspec.structs.replace(PROFILES["cpu"], proven=0.9, connect_p95_s=0.2, word_error_rate=0.15)
"""Every threshold is judged, but that of incidents, which judges nothing without one."""
CLEAN = a_run()


def collected(events: Sequence[Event]) -> Collected:
    return collect(encode(event) for event in events)


def reported(events: Sequence[Event], thresholds: Thresholds = STRICT) -> Report:
    return report(collected(events), thresholds)


def failing(found: Report) -> set[str]:
    return {verdict.name for verdict in found.verdicts if not verdict.holds}


def change(events: Sequence[Event], kind: type[E], edit: Callable[[E], Event], share: float = 1.0) -> list[Event]:
    """Edit that share of the records of a kind."""
    mine = [number for number, event in enumerate(events) if isinstance(event, kind)]
    chosen = set(random.Random(1).sample(mine, math.ceil(share * len(mine))))
    return [edit(event) if n in chosen and isinstance(event, kind) else event for n, event in enumerate(events)]


# Numbers


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6) | st.just(math.inf) | st.just(math.nan), max_size=200))
def test_percentiles_are_the_smallest_value_that_enough_do_not_exceed(values: list[float]) -> None:
    """Against the definition; what is not known does not count, what never came is above all."""
    known = [value for value in values if not math.isnan(value)]
    found = summary(column(values))
    assert found.count == len(known)
    for told, percent in ((found.p50, 50), (found.p95, 95), (found.p99, 99), (found.worst, 100)):
        enough = [value for value in known if 100 * sum(other <= value for other in known) >= percent * len(known)]
        assert told == min(enough, default=None)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3) | st.integers(0, 300), min_size=1, max_size=6))
@example([1, 3])
def test_deviation_from_even(counts: list[int]) -> None:
    """0 where whole numbers allow no better, otherwise the largest difference from even as a share of it."""
    found = deviation(counts)
    if not sum(counts):
        assert found is None
        return
    even = sum(counts) / len(counts)
    assert found is not None
    assert (found == 0) == (max(counts) - min(counts) <= 1)
    assert found == 0 or found == pytest.approx(max(abs(count - even) for count in counts) / even)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(0, 1)), max_size=50))
def test_values_are_grouped_by_their_key(pairs: list[tuple[int, float]]) -> None:
    """As a plain loop does it."""
    found = grouped([key for key, _ in pairs], column([value for _, value in pairs]))
    assert {key: list(values) for key, values in found.items()} == {
        wanted: [value for key, value in pairs if key == wanted] for wanted in sorted({key for key, _ in pairs})
    }


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50), st.sampled_from("ab")), max_size=20),
    st.integers(1, 7),
)
def test_people_over_time(told: list[tuple[float, int, str]], steps: int) -> None:
    """The mean of all steps is the whole, and whole seconds are what each load generator told last."""
    records = [Population(at=at, users=users, worker=worker) for at, users, worker in told]
    people = People(records, 120.0)
    edges = np.linspace(0, 120, steps + 1)
    assert float(people.mean(edges) @ np.diff(edges)) == pytest.approx(people.person_s)
    for second in (10.5, 60.5, 119.5):
        last = {each.worker: each.users for each in sorted(records, key=lambda each: each.at) if each.at <= second}
        assert people.at(column([second]))[0] == sum(last.values())


def test_steps_grow_with_the_run() -> None:
    """Ten seconds for five minutes, and no more than a page can draw for a day."""
    assert step_of(300) == 10
    assert step_of(86400) / 86400 >= 1 / 360


def test_word_errors_and_gaps_are_summed() -> None:
    """Over all, and by person; the worst first."""
    events = change(
        CLEAN, Heard, lambda each: msgspec.structs.replace(each, words=10, errors=1 + (each.user == "voice-7"))
    )
    events = change(
        events, Spoken, lambda each: msgspec.structs.replace(each, gaps=2, gap_s=0.3, longest_gap_s=0.2), 0.25
    )
    found = reported(events)
    heard = [event for event in events if isinstance(event, Heard)]
    replies = [event for event in events if isinstance(event, Spoken)]
    assert (found.words.words, found.words.errors) == (sum(e.words for e in heard), sum(e.errors for e in heard))
    assert next(iter(found.words_by_user)) == "voice-7"
    assert sum(each.errors for each in found.words_by_user.values()) == found.words.errors
    assert found.counts.replies_with_gap == sum(event.gaps > 0 for event in replies) == math.ceil(len(replies) / 4)
    assert found.counts.gap_s == pytest.approx(sum(event.gap_s for event in replies))
    assert found.measure("tts_gap_s").all.p50 == 0.2


def test_duty_cycle() -> None:
    """Speech and audio by the time that people were there."""
    events: list[Event] = [
        Population(at=START, users=2),
        Population(at=START + 50, users=4),
        *(event for event in CLEAN if isinstance(event, Heard | Spoken)),
    ]
    found = reported(events).duty_cycle
    assert found is not None
    assert found.person_s == pytest.approx(100 + 4 * (max(event.at for event in events) - START - 50))
    speech = sum(event.seconds for event in events if isinstance(event, Heard))
    assert found.speaking * found.person_s == pytest.approx(speech)


def test_what_is_counted_by_replica_and_minute_is_all() -> None:
    """Nothing falls between replicas or minutes."""
    found = reported(CLEAN)
    finals = found.measure("asr_final_s")
    assert set(finals.by_instance) == set(INSTANCES["asr"])
    assert sum(each.count for each in finals.by_instance.values()) == finals.all.count == found.counts.utterances
    assert sum(each.asr_final_s.count for each in found.minutes) == finals.all.count
    assert sum(each.connections for each in found.minutes) == sum(found.counts.connections.values())


# Thresholds


def test_a_clean_run_holds() -> None:
    """Every threshold is judged, on something."""
    found = reported(CLEAN)
    assert found.holds
    assert not found.invalid
    judged = {name for name in Thresholds.__struct_fields__ if not name.startswith("generator_")} - {"others_slower"}
    assert {verdict.name for verdict in found.verdicts} == judged
    assert all(verdict.found is not None for verdict in found.verdicts)


def test_a_slow_reader_that_is_cut_off_as_promised_has_lost_no_connection() -> None:
    """It is counted by itself, and makes no incident."""
    cut = Lost(at=START + 100, user="voice-1", service="tts", what="too_slow", promised=True)
    found = reported([*CLEAN, cut])
    assert found.holds
    assert (found.counts.lost_connections, found.counts.cut_off) == (0, 1)
    assert found.incidents == []


def slower(**fields: float | None) -> Callable[[Sequence[Event]], list[Event]]:
    return lambda events: change(events, Heard, lambda each: msgspec.structs.replace(each, **fields), 0.06)


def spoken(share: float, **fields: object) -> Callable[[Sequence[Event]], list[Event]]:
    return lambda events: change(events, Spoken, lambda each: msgspec.structs.replace(each, **fields), share)


def unproven(events: Sequence[Event]) -> list[Event]:
    """A tenth of the people and more say nothing that is checked."""
    silent = {f"voice-{number}" for number in range(1, 9)}
    return [event for event in events if not (isinstance(event, Heard | Spoken) and event.user in silent)]


def skewed(events: Sequence[Event]) -> list[Event]:
    """A third more connections than even at one synthesis replica."""
    first, second = INSTANCES["tts"]

    def move(each: Connected) -> Connected:
        moved = each.instance == second and int(each.user.partition("-")[2]) <= 20
        return msgspec.structs.replace(each, instance=first) if moved else each

    return change(events, Connected, move)


LOST = Lost(at=START + 99, user="voice-3", service="tts", connection_id="voice-3-tts", instance="b17e", what="1006")
BROKEN: dict[str, Callable[[Sequence[Event]], list[Event]]] = {
    "asr_final_p95_s": slower(final_s=1.6),
    "tts_first_audio_p95_s": spoken(0.06, first_audio_s=0.9),
    "replies_without_gap": spoken(0.02, gaps=1, gap_s=0.1, longest_gap_s=0.1),
    "lost_utterances": lambda events: change(
        events, Heard, lambda each: msgspec.structs.replace(each, final_s=None), 0.001
    ),
    "errors": lambda events: [*events, failed(START + 100)],
    "lost_connections": lambda events: [*events, LOST],
    "refusals": lambda events: [*events, refused(START + 100, "voice-1")],
    "breaches": lambda events: [*events, breach(START + 100)],
    "proven": unproven,
    "spread": skewed,
    "connect_p95_s": lambda events: change(
        events, Connected, lambda each: msgspec.structs.replace(each, took=0.3), 0.06
    ),
    "word_error_rate": lambda events: change(
        events, Heard, lambda each: msgspec.structs.replace(each, errors=each.words), 0.1
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_fails_its_threshold_and_no_other(name: str) -> None:
    """In a run that is clean otherwise, and valid."""
    found = reported(BROKEN[name](CLEAN))
    assert failing(found) == {name}
    assert not found.invalid
    assert not found.holds
    assert report(collected(BROKEN[name](CLEAN)), msgspec.structs.replace(STRICT, **{name: None})).holds


def test_a_breach_of_nobody_known_is_one_persons() -> None:
    """Of audio that belongs to nobody, or words of another worker's person."""
    found = reported([*CLEAN, msgspec.structs.replace(breach(START + 100), whose="", other_connection_id="")])
    assert failing(found) == {"breaches"}
    assert (found.isolation.breaches, found.isolation.breached) == (1, ["voice-1"])
    assert "| voice-1 | voice-1-asr | not known | – |" in as_markdown(found)


def test_a_person_of_another_load_generator_is_found_by_its_words_or_its_name() -> None:
    """With its connection, from the records of both: each generator knows its own people alone."""
    mine = next(event for event in CLEAN if isinstance(event, Heard) and event.user == "voice-8")
    said = msgspec.structs.replace(mine, spoken="bring me the green book", heard="")
    events = [said if event is mine else event for event in CLEAN]
    words = msgspec.structs.replace(
        breach(mine.at + 1), whose="", other_connection_id="", heard="bring me a green book"
    )
    audio = msgspec.structs.replace(breach(mine.at + 1), service="tts", whose="voice-8", other_connection_id="")
    found = reported([*events, words, audio]).isolation
    assert [(each.whose, each.other_connection_id) for each in found.named] == [
        ("voice-8", "voice-8-asr"),
        ("voice-8", "voice-8-tts"),
    ]
    assert found.breached == ["voice-1", "voice-8"]
    nobody = msgspec.structs.replace(words, heard="something that no one here has said")
    assert reported([*events, nobody]).isolation.named[0].whose == ""


def test_a_refused_reply_is_a_refusal_and_no_error() -> None:
    """`overloaded` within a stream."""
    found = reported(spoken(0.001, outcome="overloaded", first_audio_s=None)(CLEAN))
    assert failing(found) == {"refusals"}
    assert found.counts.failures == 0


def test_what_never_came_is_waited_for_without_end() -> None:
    """Lost utterances are the slowest, not absent; a reply cancelled before its first sound tells nothing."""
    lost = reported(slower(final_s=None)(CLEAN))
    assert lost.measure("asr_final_s").all.p95 == math.inf
    assert failing(lost) == {"asr_final_p95_s", "lost_utterances"}
    mute = reported(spoken(0.06, first_audio_s=None, outcome="complete")(CLEAN))
    assert mute.measure("tts_first_audio_s").all.p95 == math.inf
    cancelled = reported(spoken(0.06, first_audio_s=None, outcome="cancelled")(CLEAN))
    assert cancelled.holds


def test_a_replica_that_nobody_gets_counts() -> None:
    """It tells its metrics, and every connection goes to the other."""
    only = INSTANCES["asr"][0]
    events = change(
        CLEAN, Connected, lambda each: msgspec.structs.replace(each, instance=only) if each.service == "asr" else each
    )
    events = [event for event in events if not (isinstance(event, Heard) and event.instance != only)]
    assert "spread" in failing(reported(events))
    share = next(each for each in reported(events).shares if each.service == "asr")
    assert share.deviation == 1.0
    assert share.connections[INSTANCES["asr"][1]] == 0


@pytest.mark.parametrize("kind", [Heard, Spoken, Connected])
def test_a_threshold_without_data_fails(kind: type[Event]) -> None:
    """And says so; it does not where it is off."""
    found = reported([event for event in CLEAN if not isinstance(event, kind)])
    missing = {verdict.name for verdict in found.verdicts if verdict.found is None}
    expected = {
        Heard: {"asr_final_p95_s", "lost_utterances", "word_error_rate"},
        Spoken: {"tts_first_audio_p95_s", "replies_without_gap"},
        Connected: {"errors", "lost_connections", "refusals", "spread", "connect_p95_s"},
    }[kind]
    assert missing == expected
    assert missing <= failing(found)
    assert all("no data" in verdict.note for verdict in found.verdicts if verdict.found is None)
    off = msgspec.structs.replace(STRICT, **dict.fromkeys(expected), proven=None)
    still = [event for event in CLEAN if not isinstance(event, kind)]
    assert reported(still, off).holds


def test_a_run_without_records_fails() -> None:
    """Every threshold and the run itself, and it can be told of all the same."""
    found = reported([])
    assert found.invalid == ["there is no record"]
    assert not any(verdict.holds for verdict in found.verdicts)
    assert "invalid" in page(found)
    assert "invalid" in as_markdown(found)


def test_thresholds_as_words() -> None:
    """A profile, then what differs from it."""
    assert thresholds_from([]) == PROFILES["gpu"] == Thresholds()
    assert thresholds_from(["cpu"]).asr_final_p95_s == 1.5
    found = thresholds_from(["cpu", "refusals=off", "asr_final_p95_s=1.25", "errors=2"])
    assert (found.refusals, found.asr_final_p95_s, found.errors) == (None, 1.25, 2)
    assert found.tts_first_audio_p95_s == 0.8


@pytest.mark.parametrize(
    "word",
    ["fast", "refusals", "errors=1.5", "spread=-1", "spread=much", "spread=inf", "x=1", "generator_late_share=off"],
)
def test_a_bad_threshold_is_named(word: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(BadThreshold, match=re.escape(word.partition("=")[0])):
        thresholds_from(["cpu", word])


# Validity


def late(share: float, worker: str = "worker-1") -> list[Event]:
    """The p95 of that load generator is over its limit in so many of its seconds."""
    others = [event for event in CLEAN if not (isinstance(event, Lag) and event.worker == worker)]
    mine = [event for event in CLEAN if isinstance(event, Lag) and event.worker == worker]
    return others + change(mine, Lag, lambda each: msgspec.structs.replace(each, late_p95=0.02), share)


def test_a_load_generator_that_lags_makes_a_run_invalid() -> None:
    """One of two, in more than a hundredth of its seconds; the thresholds are judged all the same."""
    assert reported(late(0.009)).holds
    found = reported(late(0.03))
    assert len(found.invalid) == 1
    assert "worker-1" in found.invalid[0]
    assert not failing(found)
    assert not found.holds
    assert reported(late(0.03), msgspec.structs.replace(STRICT, generator_late_share=0.1)).holds
    assert reported(late(0.03), msgspec.structs.replace(STRICT, generator_late_p95_s=0.05)).holds


def test_a_load_generator_that_froze_lagged_for_all_of_that_time() -> None:
    """One record in place of ten seconds of them counts as ten."""
    hole = (START + 100, START + 110)
    events = [event for event in CLEAN if not (isinstance(event, Lag) and hole[0] < event.at < hole[1])]
    events = change(
        events, Lag, lambda each: msgspec.structs.replace(each, late_p95=9.0) if each.at == hole[1] else each
    )
    found = reported(events)
    assert [round(each.lagged_s) for each in found.generators] == [10, 10]
    assert len(found.invalid) == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda events: [event for event in events if not isinstance(event, Lag)], "no load generator told"),
        (
            lambda events: [
                event
                for event in events
                if not (isinstance(event, Lag) and event.worker == "worker-0" and event.at > START + 200)
            ],
            "worker-0 told nothing over the last 100 s",
        ),
        (lambda events: [event for event in events if event.at < START + 200], "ended after 200 of 300 s"),
        (
            lambda events: [
                e for e in events if not (isinstance(e, Population) and e.worker == "worker-0" and e.users > 10)
            ],
            "only 40 of 60 people came",
        ),
    ],
)
def test_a_run_is_invalid(broken: Callable[[Sequence[Event]], list[Event]], reason: str) -> None:
    """Where it did not do what it was to do, or can't tell."""
    found = reported(broken(CLEAN))
    assert any(reason in each for each in found.invalid), found.invalid
    assert not found.holds


def test_lines_that_are_no_record_make_a_run_invalid() -> None:
    """As that of a run whose end is missing; the first is named."""
    lines = [encode(event) for event in CLEAN]
    found = report(collect([*lines[:-1], b"", lines[-1][:-9]]), STRICT)
    assert len(found.invalid) == 1
    assert f"line {len(lines) + 1}" in found.invalid[0]


# Isolation, incidents, load


def test_isolation_names_who_is_clean_breached_and_not_proven() -> None:
    """Both sides of a breach are not clean; who was checked too little is not proven."""
    assert len(reported(CLEAN).isolation.clean) == 60
    idle = Connected(at=START + 5, user="idle-1", service="asr", connection_id="i", instance="a1f0", took=0.01)
    found = reported([*CLEAN, breach(START + 100), idle, refused(START + 6, "voice-99"), failed(START + 7, user="x-1")])
    assert found.isolation.breached == ["voice-1", "voice-2"]
    assert list(found.isolation.not_proven) == ["idle-1"]
    assert len(found.isolation.clean) == 58
    for told in (page(found), as_markdown(found)):
        assert "voice-1-asr" in told
        assert "voice-2-asr" in told
        assert "58 of 61 people" in told


def test_a_lost_replica_is_an_incident() -> None:
    """Who was on it, whether they came back, and that nobody else noticed."""
    found = reported(a_run(40, killed_at=150.0), thresholds_from(["cpu", "lost_connections=off", "spread=off"]))
    assert found.holds
    (incident,) = found.incidents
    assert incident.instances == ["a1f0"]
    assert incident.lost == incident.reconnected == len(incident.people) > 15
    assert incident.at_s == pytest.approx(150, abs=0.1)
    assert incident.away_s.worst is not None
    assert 0.3 < incident.away_s.worst < 2
    assert all(other.before.count and other.during.count for other in incident.others)
    assert "others_slower" in {verdict.name for verdict in found.verdicts}
    assert "a1f0 were lost" in page(found)


def test_others_who_notice_a_lost_replica_fail_the_run() -> None:
    """Their p95 in the minute after is more than twice that of the minute before; those on the replica don't count."""
    limits = thresholds_from(["cpu", "lost_connections=off", "spread=off", "asr_final_p95_s=off"])
    events = a_run(40, killed_at=150.0)

    def delay(of_hurt: bool) -> list[Event]:
        hurt = {event.user for event in events if isinstance(event, Lost)}

        def later(each: Heard) -> Heard:
            ended = each.turn_due + each.seconds - START
            slow = (each.user in hurt) == of_hurt and 150 <= ended < 210
            return msgspec.structs.replace(each, final_s=3.0) if slow else each

        return change(events, Heard, later)

    assert failing(reported(delay(of_hurt=False), limits)) == {"others_slower"}
    assert reported(delay(of_hurt=True), limits).holds


def test_the_load_curve_is_of_runs_whose_people_vary() -> None:
    """Levels rise, and hold every answer that is of a level with enough of them."""
    assert reported(a_run(60, ramp_s=0.1)).load_curve == []
    found = reported(a_run(100, 10, ramp_s=500, turn_every_s=15, replicas=False)).load_curve
    users = [each.users for each in found]
    assert users == sorted(users)
    assert users[-1] > 90
    assert len(users) > 8


def test_curves_of_the_server() -> None:
    """Rates come from counters of two readings; a restart or a replica that is down is no rate."""
    name, service = "a1f0", "asr"

    def reading(after: float, cpu: float, **more: float) -> Replica:
        values = {"up": 1.0, "process_cpu_seconds_total": cpu, **more}
        return Replica(at=START + after, instance=name, service=service, values=values)

    down = Replica(at=START + 25, instance=name, service=service, values={"up": 0.0})
    readings = [reading(0, 10), reading(10, 15), reading(20, 16), down, reading(30, 0.5), reading(40, 8.5)]
    run = collected([Population(at=START, users=1), *readings, Population(at=START + 50, users=1)])
    cpu = run.server.readings[service, name].values["cpu"]
    assert list(cpu) == pytest.approx([0.5, 0.1, 0.8])
    assert list(run.server.readings[service, name].values["up"]) == [1, 1, 1, 0, 1, 1]
    told = report(run, STRICT).curves
    assert told is not None
    assert told.server["cpu"][0].name == "asr a1f0"


# What is written


class Strict(HTMLParser):
    """Tags that are closed in order, and what could load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.suspicious: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta"}:
            self.open.append(tag)
        loads = {"src", "href", "srcset", "onload", "onerror", "xlink:href"} & {name for name, _ in attributes}
        if loads or tag in {"script", "link", "img", "iframe", "object"}:
            self.suspicious.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)


EVIL = "<script>alert('x')</script>\"|`& <img src=x onerror=y>"


def evil_run() -> list[Event]:
    """Wherever a text comes from a server or a person, it is markup."""
    run = a_run(4, 2, killed_at=60.0)

    def named(each: Event) -> Event:
        names = {
            name: EVIL + getattr(each, name)[:9]
            for name in ("user", "instance", "worker", "what")
            if hasattr(each, name)
        }
        return msgspec.structs.replace(each, **names)

    run = change(run, Lag, lambda each: msgspec.structs.replace(each, late_p95=1.0))  # the verdict names the worker
    run = [*run, failed(START + 30), breach(START + 31), refused(START + 32)]
    changed = [named(event) for event in run if not isinstance(event, Run)]
    return [Run(at=START, settings={EVIL: EVIL}, machine={EVIL: EVIL}), *changed]


@pytest.mark.parametrize(
    "events", [CLEAN, [], evil_run(), a_run(3, 1, replicas=False)], ids=["clean", "none", "evil", "small"]
)
def test_the_page_is_whole_and_loads_nothing(events: Sequence[Event]) -> None:
    """Tags are closed in order, and no text from a run becomes markup."""
    found = reported(events)
    parser = Strict()
    parser.feed(page(found))
    parser.close()
    assert parser.open == []
    assert parser.suspicious == []
    assert "url(" not in page(found)
    assert "<script" not in as_markdown(found)
    assert "<img" not in as_markdown(found)
    json.loads(as_json(found))


def test_a_capacity_page_escapes_its_titles() -> None:
    """And what runs told."""
    parser = Strict()
    parser.feed(as_page([Capacity(EVIL, 4, list(search(EVIL, lambda _: reported(evil_run()), 4, 4).attempts), False)]))
    assert parser.suspicious == []


def test_the_same_records_give_the_same_report() -> None:
    """In every form, whatever their order (readings of a replica keep theirs)."""
    shuffled = [event for event in CLEAN if not isinstance(event, Replica)]
    random.Random(3).shuffle(shuffled)
    shuffled += [event for event in CLEAN if isinstance(event, Replica)]
    first, second, third = reported(CLEAN), reported(CLEAN), reported(shuffled)
    for told in (page, as_markdown, as_json, run_csv):
        assert told(first) == told(second)
    assert first.verdicts == third.verdicts
    assert first.minutes == third.minutes


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its exit status is the verdict; it writes four files either way."""
    run, out = tmp_path / "run.jsonl", tmp_path / "out"

    def status(events: Sequence[Event], *thresholds: str) -> int:
        run.write_bytes(b"".join(encode(event) + b"\n" for event in events))
        return main([str(run), "--out", str(out), "--thresholds", *thresholds])

    assert status(CLEAN, "cpu") == 0
    assert {path.name for path in out.iterdir()} == {"report.html", "report.md", "report.json", "report.csv"}
    assert json.loads((out / "report.json").read_text())["holds"] is True
    assert status([*CLEAN, failed(START + 9)], "cpu") == 1
    assert "FAILS  errors: 1" in capsys.readouterr().out
    assert status([*CLEAN, failed(START + 9)], "cpu", "errors=off") == 0
    assert status(late(0.5), "cpu") == 1
    assert "invalid" in capsys.readouterr().out
    assert status([], "cpu") == 1
    assert status(CLEAN, "cpu", "nonsense=1") == 2
    assert main([str(tmp_path / "none.jsonl"), "--out", str(out)]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_csv_has_a_row_for_each_measure_and_minute() -> None:
    """And numbers that can be read back."""
    found = reported(CLEAN)
    rows = [line.split(",") for line in run_csv(found).splitlines()]
    assert len({len(row) for row in rows}) == 1
    assert len({(row[0], row[1]) for row in rows[1:] if row[0]}) == 5 * 9
    told = {(row[1], row[3]): row for row in rows if not row[0]}
    assert told["reconnects", ""][5] == told["refusals", ""][5] == "0"
    assert int(told["utterances", ""][5]) == found.counts.utterances
    assert int(told["connections", "a1f0"][5]) == found.shares[0].connections["a1f0"]
    assert float(told["server_real_time_factor", "a1f0"][5]) > 0
    assert 0 < float(told["generator_cpu", "worker-0"][5]) <= float(told["generator_cpu", "worker-0"][9])
    final = next(row for row in rows if row[1] == "asr_final_s" and not row[0] and not row[3])
    assert float(final[7]) == pytest.approx(found.measure("asr_final_s").all.p95)


def test_what_the_server_told_of_itself_is_beside_what_people_met() -> None:
    """In the page, in Markdown and in JSON: mean and most of each replica, and of the machine."""
    found = reported(CLEAN)
    mine = next(each for each in found.server if each.instance == "a1f0")
    assert {"cpu", "memory_bytes", "queue", "queue_wait_s", "real_time_factor"} <= mine.mean.keys() == mine.most.keys()
    cpu = [
        event.values["process_cpu_seconds_total"]
        for event in CLEAN
        if isinstance(event, Replica) and event.instance == "a1f0"
    ]
    assert mine.mean["cpu"] == pytest.approx((cpu[-1] - cpu[0]) / 300, rel=0.01)
    for text in (page(found), as_markdown(found)):
        for what in ("CPU in cores", "jobs in the queue", "engine time for a second of audio", "this machine"):
            assert what in text
    assert json.loads(as_json(found))["server"][0]["instance"] == "a1f0"


def test_markdown_has_the_first_errors() -> None:
    """With the connection of each, and how many more there are."""
    text = as_markdown(reported([*CLEAN, *(failed(START + 9, f"error {number}") for number in range(30))]))
    assert "The first 20 of 30." in text
    assert "| voice-1 | recognition | voice-1-asr | error 19 |" in text
    assert "error 20" not in text


# Capacity


def at(users: int, holds: int, lagging: int = 10**6) -> Report:
    """A run that holds up to so many, whose load generator lags from so many on."""
    events = a_run(min(users, 3), 1, replicas=False)
    if users >= lagging:
        events = change(events, Lag, lambda each: msgspec.structs.replace(each, late_p95=1.0))
    return reported([*events, *[failed(START + 9)] * (users > holds)], PROFILES["cpu"])


def test_capacity_is_what_holds_in_the_longer_run_too() -> None:
    """Where that does not, the next lower number is confirmed."""
    found = search("a turn every 45 s", lambda users: at(users, 44), 8, 128)
    assert 42 <= found.users <= 44
    confirmed = search("a turn every 45 s", lambda users: at(users, 44), 8, 128, lambda users: at(users, 38))
    assert 36 <= confirmed.users <= 38
    assert not confirmed.limited_by_generator
    assert search("none", lambda users: at(users, 0), 8, 128).users == 0
    assert [each.users for each in found.attempts] == sorted(each.users for each in found.attempts)
    assert "errors" in headline(found)


def test_capacity_that_the_load_generator_limits_says_so() -> None:
    """More than it can make is not more than the stack holds."""
    found = search("a turn every 45 s", lambda users: at(users, 1000, lagging=50), 8, 128)
    assert found.limited_by_generator
    assert found.users < 50
    assert "the load generator lagged" in headline(found)


def test_capacity_that_the_replicas_settings_limit_says_so() -> None:
    """It is not what the machine holds."""

    def run_at(users: int) -> Report:
        events = a_run(min(users, 3), 1, replicas=False)
        return reported([*events, *[refused(START + 9, "voice-1")] * (users > 100)], PROFILES["cpu"])

    found = search("a turn every 45 s", run_at, 64, 128)
    assert 94 <= found.users <= 100
    assert "refusals (the replicas took no more; ASR_MAX_CONNECTIONS" in headline(found)


def test_capacity_is_written_in_four_forms(tmp_path: Path) -> None:
    """Each names both settings and their numbers."""
    found = [search(f"a turn every {every} s", lambda users: at(users, 20), 8, 32) for every in (15, 45)]
    write_capacity(found, tmp_path)
    for name in ("capacity.html", "capacity.md", "capacity.json", "capacity.csv"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "a turn every 15 s" in text
        assert "a turn every 45 s" in text
    assert str(found[0].users) in capacity_markdown(found)
    for text in (capacity_markdown(found), as_page(found)):
        assert MACHINE["processor"] in text
    assert len(as_csv(found).splitlines()) == 1 + sum(len(a.report.verdicts) for each in found for a in each.attempts)
    write(found[0].attempts[0].report, tmp_path / "one")
    assert (tmp_path / "one" / "report.html").exists()


def test_the_page_of_thresholds_is_complete() -> None:
    """Every one is in the docs, with its defaults."""
    text = (Path(__file__).parents[2] / "docs" / "loadtest-report.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line.split("|")[2:4] for line in text.splitlines() if line.startswith("| `")}
    for name in Thresholds.__struct_fields__:
        if name.startswith("generator_"):
            assert f"`{name}`" in text
            continue
        told = [cell.strip() for cell in rows[name]]
        defaults = [getattr(PROFILES[profile], name) for profile in ("gpu", "cpu")]
        assert told == ["off" if each is None else f"{each:g}" for each in defaults]
