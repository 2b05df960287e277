"""The load test against real replicas: a small crew is served, and what is swapped on its way is found and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.replica import Replica
from loadtest import events, people
from loadtest.events import encode
from loadtest.report.__main__ import main
from loadtest.settings import LoadSettings
from tests.unit.loadtest_stack import at_once, of, relayed, told

pytestmark = pytest.mark.model

LIMITS = "cpu proven=1 word_error_rate=0.3 asr_final_p95_s=off tts_first_audio_p95_s=off replies_without_gap=off"
"""What does not depend on how fast this machine is."""
ANY_GENERATOR = "generator_late_p95_s=60"
OTHER = {"caption-1": "caption-2", "caption-2": "caption-1", "reader-1": "reader-2", "reader-2": "reader-1"}


@pytest.fixture(scope="module")
def stack() -> Iterator[dict[str, str]]:
    """Addresses of a replica of each service, in processes of their own."""
    # However slow the machine, nobody is refused here; admission has tests of its own.
    with Replica("asr", "ASR", threads=1) as asr, Replica("tts", "TTS", threads=1, max_wait_s=600) as tts:
        yield {"asr_url": asr.url, "tts_url": tts.url}


def settings(tmp_path: Path, stack: dict[str, str], **changes: Any) -> LoadSettings:
    usual = {"texts": 1, "sentences": 2, "reply_words": 5, "hang_up_share": 0, "barge_in_share": 0}
    usual |= {"final_within_s": 300, "reply_within_s": 300}  # however slow the machine
    return LoadSettings(**stack, references=tmp_path / "references", **usual | changes)


def reported(found: list[events.Event], folder: Path) -> tuple[int, str]:
    """The exit status of the report's command, and what it tells."""
    folder.mkdir(exist_ok=True)
    (folder / "run.jsonl").write_bytes(b"\n".join(map(encode, found)))
    limits = [*LIMITS.split(), ANY_GENERATOR]
    status = main([str(folder / "run.jsonl"), "--out", str(folder), "--thresholds", *limits])
    return status, (folder / "report.md").read_text(encoding="utf-8")


def everybody_twice(*who: tuple[str, type[events.Event]]) -> Any:
    """Whether each of them has two such records, of answers that could be checked."""

    def both(found: list[events.Event]) -> bool:
        checked = [*of(found, events.Heard), *(each for each in of(found, events.Spoken) if each.proof != "unchecked")]
        counts = Counter((each.user, type(each)) for each in checked)
        return all(counts[each] >= 2 for each in who)

    return both


async def test_people_are_understood_and_hear_their_own(stack: dict[str, str], tmp_path: Path) -> None:
    """A conversation, captions and a reader: few word errors, each proven to have got only what is theirs."""
    by = settings(tmp_path, stack, mix="voice=1,caption=1,reader=1", turn_every_s=20, utterance_s=3, seed=at_once(20))
    heard, spoken = events.Heard, events.Spoken
    who = [("voice-1", heard), ("voice-1", spoken), ("caption-1", heard), ("reader-1", spoken)]
    found = await told(by, 3, everybody_twice(*who))
    status, told_of = reported(found, tmp_path)
    assert status == 0, told_of
    assert "3 of 3 people are proven" in told_of


async def test_sentences_of_the_stack_itself_are_understood(stack: dict[str, str], tmp_path: Path) -> None:
    """Everybody says what only it says, in the voice and at the speed in which it was prepared."""
    by = settings(tmp_path, stack, mix="caption=1", speech_from="synthesis", utterance_s=3)
    found = await told(by, 2, everybody_twice(("caption-1", events.Heard), ("caption-2", events.Heard)))
    status, told_of = reported(found, tmp_path)
    assert status == 0, told_of
    said = [
        {each.spoken for each in of(found, events.Heard) if each.user == name} for name in ("caption-1", "caption-2")
    ]
    assert not said[0] & said[1]


async def test_swapped_connections_fail_the_run_and_are_named(
    stack: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recognition streams get each other's words, two synthesis streams each other's audio."""
    monkeypatch.setattr(people, "CLOSES_WITHIN_S", 1.0)  # who gets the other's end may not get its own
    async with relayed(stack["asr_url"]) as asr, relayed(stack["tts_url"]) as tts:
        changes = {"mix": "caption=1,reader=1", "speech_from": "synthesis", "sentences": 1, "utterance_s": 3}
        by = settings(tmp_path, {"asr_url": asr.url, "tts_url": tts.url}, **changes)

        def swap() -> None:
            asr.swap()
            tts.swap()

        def caught(found: list[events.Event]) -> bool:
            return {each.user for each in of(found, events.Breach)} == set(OTHER)

        found = await told(by, 4, caught, swap)
    status, told_of = reported(found, tmp_path)
    assert status == 1, told_of
    ids = {(each.user, each.service): each.connection_id for each in of(found, events.Connected)}
    for each in of(found, events.Breach):
        assert each.whose == OTHER[each.user]
    for user, service in ids:
        assert f"| {user} | {ids[user, service]} | {OTHER[user]} | {ids[OTHER[user], service]} |" in told_of
