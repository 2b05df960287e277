"""The arithmetic of sizes: textbook values, what was measured, and the bounds that it takes from elsewhere."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import yaml

from asr.settings import AsrSettings
from benchmarks import sizing
from benchmarks.sizing import GPUS, Talk
from tests.conftest import ROOT
from tts.settings import TtsSettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("servers", "offered", "share"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (2, 2.0, 1)]
)
def test_how_many_wait_is_erlangs(servers: int, offered: float, share: float) -> None:
    """Values by hand; with one server it is how busy that is."""
    assert sizing.must_wait(servers, offered) == pytest.approx(share)


def test_the_arithmetic_says_what_was_measured() -> None:
    """Finals within 0.2 s, and not more than 0.1 s sooner than they were; throughput within a tenth."""
    rows = sizing.check()
    assert [what.split()[0] for what, _, _ in rows] == ["1", "8", "16", "24", "16", "24"]
    for what, by_arithmetic, measured in rows:
        if "finals" in what:
            assert -0.1 <= by_arithmetic - measured <= 0.2, what
        else:
            assert by_arithmetic == pytest.approx(measured, rel=0.1), what


@pytest.mark.parametrize("machine", [sizing.cpu(), *GPUS.values()], ids=lambda machine: machine.name)
def test_who_is_more_waits_longer_until_nobody_is_served_in_time(machine: sizing.Machine) -> None:
    """The 95th percentile grows with the utterances, from that of one alone, and ends where they can't be decoded."""
    latencies = [sizing.final_p95(machine, rate) for rate in (0, 0.1, 1, 2, 4, 8)]
    assert latencies[0] == machine.base_p95_s
    assert latencies == sorted(latencies)
    assert sizing.final_p95(machine, 1000) == math.inf


@pytest.mark.parametrize("machine", [sizing.cpu(), *GPUS.values()], ids=lambda machine: machine.name)
def test_no_more_people_than_are_in_time(machine: sizing.Machine) -> None:
    """The limit holds for them, and a faster decoding, rarer turns or a later limit let in more."""
    people = sizing.recognised(machine, Talk(), 0.9)
    assert sizing.final_p95(machine, people / Talk().turn_every) <= 0.9
    assert sizing.recognised(replace(machine, decode_s=machine.decode_s / 2), Talk(), 0.9) > people
    assert sizing.recognised(machine, Talk(turn_every=90), 0.9) > people
    assert sizing.recognised(machine, Talk(), 1.2) >= people
    assert sizing.recognised(machine, Talk(), machine.base_p95_s / 2) == 0


def test_a_machine_that_does_both_holds_fewer() -> None:
    """Than of either alone, and their work is what may be taken."""
    machine, talk = sizing.cpu(), Talk()
    people = sizing.both(machine, talk)
    assert people < min(sizing.recognised(machine, talk, math.inf), sizing.spoken_to(machine, talk))
    work = people * (
        machine.decodings * machine.decode_s / talk.turn_every
        + machine.listening
        + machine.synthesis * talk.reply / talk.turn_every
    )
    assert work == pytest.approx(sizing.SHARE_OF_WORK * machine.servers, rel=0.02)


def test_gpus_are_filled_by_places_or_by_what_they_compute() -> None:
    """Whichever is less, on each; memory is of one GPU, cores of all."""
    few = sizing.gpus(2, 4, on_one=100, replica_gib=3)
    assert (few.places, few.people, few.bound, few.cores) == (400, 200, "compute", 8)
    assert few.memory_gib == pytest.approx(4 * 3 / 0.9)
    many = sizing.gpus(8, 6, on_one=1000, replica_gib=3)
    assert (many.places, many.people, many.bound, many.cores) == (2400, 1920, "places", 48)
    assert sizing.replicas(40) == 1
    assert sizing.replicas(41) == 2


def test_its_bounds_are_those_of_the_stack() -> None:
    """Places, batches, ports, alerts and worst cases are the ones that hold elsewhere."""
    assert AsrSettings().max_connections == TtsSettings().max_connections == sizing.PLACES
    assert AsrSettings(device="cuda").resolved_max_batch == sizing.BATCH
    ports = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    assert len(re.findall(r":80\d1:80\d1\"", ports)) == sizing.MOST_REPLICAS
    rules = yaml.safe_load((ROOT / "monitoring" / "rules" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    expressions = {rule.get("alert"): rule["expr"] for group in rules for rule in group["rules"]}
    for alert, share in (
        ("ConnectionsNearCapacity", sizing.SHARE_OF_CONNECTIONS),
        ("GpuMemoryFull", sizing.SHARE_OF_GPU_MEMORY),
    ):
        assert expressions[alert].strip().endswith(f"> {share:g}"), alert
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").replace("\n", " ")
    assert f"about {sizing.STREAM_MIB['asr']} MiB. Of one TTS" in architecture
    assert f"with FLAC {sizing.STREAM_MIB['tts']}." in architecture


def test_the_page_shows_what_the_program_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row of a table of docs/sizing.md that the program makes, as it is now; estimates are called so."""
    assert sizing.main([]) == 0
    assert sizing.main(["--check"]) == 0
    said = capsys.readouterr().out.splitlines()
    page = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
    made = re.findall(r"<!-- made -->\n(.*?)<!-- /made -->", page, re.S)
    assert len(made) == 3
    for block in made:
        for line in filter(None, block.splitlines()):
            assert line in said, line
    assert sum(line.startswith("| a GPU,") and "estimated" in line for line in said) == len(GPUS)
    assert sum(re.match(r"\| [1-8] \| [456] \|", line) is not None for line in said) == 24 * len(GPUS)


def test_nonsense_is_refused() -> None:
    """A turn every 0 s."""
    with pytest.raises(SystemExit) as ended:
        sizing.main(["--turn-every", "0"])
    assert ended.value.code == 2
