"""The load test's people against small services: what they tell of answers that are right, late, lost or another's."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import islice, pairwise
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from chorus.wire.asr import Final
from chorus.wire.common import CloseCode, Error
from loadtest import events, people
from loadtest.crew import Crew
from loadtest.crew_process import CrewFailed, CrewProcess
from loadtest.metronome import FRAME_S
from loadtest.microphone import Microphone
from loadtest.people import texts_of
from loadtest.player import Player
from serving.outbox import CloseFrame
from tests.conftest import eventually
from tests.unit.loadtest_stack import at_once, of, recognition, relayed, settings, synthesis, told, voiced
from tests.unit.scripted import Server, refusing, serving

pytestmark = pytest.mark.unit

EVERY_S = 5.0


async def test_what_is_said_is_heard(tmp_path: Path) -> None:
    """Every word, with its latencies; nothing else is told but that people came, kept time and went."""
    async with recognition() as url:
        by = settings(tmp_path, asr_url=url, mix="caption=1")
        found = await told(by, 2, lambda found: len({each.user for each in of(found, events.Heard)}) == 2)
    heard = of(found, events.Heard)
    for each in heard:
        assert (each.errors, each.words, each.heard) == (0, 4, each.spoken)
        assert each.seconds == pytest.approx(1.0, abs=0.02)
        assert each.final_s is not None
        assert each.final_s > 0.3, "an utterance is over after 500 ms of silence"
        assert each.partial_s is not None
    assert [each.users for each in of(found, events.Population)] == [1, 2, 1, 0]
    assert of(found, events.Lag)
    assert of(found, events.Failed) + of(found, events.Lost) + of(found, events.Breach) == []


async def test_swapped_words_name_both(tmp_path: Path) -> None:
    """Two connections get each other's words: the one's person and the other's are told, with both connections."""
    async with recognition() as url, relayed(url) as relay:
        relay.swap()
        by = settings(tmp_path, asr_url=relay.url, mix="caption=1")
        found = await told(by, 2, lambda found: len({each.user for each in of(found, events.Breach)}) == 2)
    breaches = of(found, events.Breach)
    assert {(each.user, each.whose) for each in breaches} == {("caption-1", "caption-2"), ("caption-2", "caption-1")}
    connected = {each.user: each.connection_id for each in of(found, events.Connected)}
    for each in breaches:
        assert (each.connection_id, each.other_connection_id) == (connected[each.user], connected[each.whose])


async def test_a_lost_connection_loses_no_word(tmp_path: Path) -> None:
    """Cut while an utterance is being said: it is told, the person goes on over another, every word is heard."""
    async with recognition() as url, relayed(url) as relay:

        def cuts_at_the_first_partial(message: str | bytes) -> bool:
            if '"partial"' in str(message) and len(relay.clients) == 1:
                relay.cut()
            return True

        relay.passes = cuts_at_the_first_partial
        by = settings(tmp_path, asr_url=relay.url, mix="caption=1")
        found = await told(by, 1, lambda found: len(of(found, events.Heard)) >= 2)
    assert len(of(found, events.Lost)) == 1
    assert [each.again for each in of(found, events.Connected)] == [False, True]
    assert [each.errors for each in of(found, events.Heard)] == [0] * len(of(found, events.Heard))
    assert of(found, events.Failed) == []


async def test_an_utterance_without_its_final_is_lost(tmp_path: Path) -> None:
    """Finals that never come are told one by one, and what the protocol says of them as broken promises."""
    async with recognition() as url, relayed(url) as relay:
        relay.passes = lambda message: '"final"' not in str(message)
        by = settings(tmp_path, asr_url=relay.url, mix="caption=1", final_within_s=1)
        found = await told(by, 1, lambda found: of(found, events.Heard))
    heard = of(found, events.Heard)
    assert heard
    assert {(each.final_s, each.heard, each.errors) for each in heard} == {(None, "", 4)}
    assert any("no final" in each.what for each in of(found, events.Failed))


async def test_words_that_come_late_are_still_ones_own(tmp_path: Path) -> None:
    """The final of an utterance that was lost twenty utterances ago is no breach, and nothing that nobody said."""
    by, found = settings(tmp_path), list[events.Event]()
    crew = Crew(by, found.append)
    await crew.prepare({"caption": 1}, 0, lambda done, total: None)
    assert crew.scene.library is not None
    speaker = Microphone(crew.scene, "caption-1", random.Random(0))
    speaker._begin()
    speaker.opened.set()
    said = [speaker.say(each, 0.0) for each in islice(crew.scene.library.utterances(0, 1), 20)]
    for number in range(20 * 130):
        speaker._tick(number * FRAME_S)
    speaker.look(1e9)
    assert [each.final_s for each in of(found, events.Heard)] == [None] * 20
    first = said[0]
    assert first is not None
    text = " ".join(first.utterance.words)
    late = Final(
        utterance=1,
        text=text,
        start_time=first.speech_start,
        end_time=first.speech_end,
        confidence=1,
        language="en",
        latency_ms=1,
        from_finalize=False,
    )
    speaker._on_final(1e9, late)
    assert of(found, events.Breach) + of(found, events.Failed) == []


async def test_a_full_service_is_no_failure(tmp_path: Path) -> None:
    """A refusal is told as one; nobody else's words are missed for it."""
    async with refusing(503, b"{}", Retry_After="1") as url:
        by = settings(tmp_path, asr_url=url, mix="idle=1")
        found = await told(by, 1, lambda found: of(found, events.Refused))
    assert [(each.status, each.retry_after) for each in of(found, events.Refused)] == [(503, 1.0)]
    assert of(found, events.Failed) == []


async def test_a_service_that_does_not_greet_is_told(tmp_path: Path) -> None:
    """As a connection that failed, and the person tries again."""

    async def silence(server: Server, socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with serving(silence) as server:
        by = settings(tmp_path, asr_url=server.url, mix="idle=1", connect_within_s=0.1)
        found = await told(by, 1, lambda found: len(of(found, events.Failed)) >= 2)
    assert of(found, events.Failed)[0].what == "no connection: no greeting after 0.1 s"


async def test_replies_are_compared(tmp_path: Path) -> None:
    """Complete ones with the whole reference, which a second run takes from the folder."""
    async with synthesis() as server:
        by = settings(tmp_path, tts_url=server.url, mix="reader=1")
        found = await told(by, 2, lambda found: len({each.user for each in of(found, events.Spoken)}) == 2)
        rendered = len(server.asked)
        found += await told(by, 2, lambda found: True)
        assert len(server.asked) == rendered + 1, "one is rendered again, to see that it still sounds so"
    spoken = of(found, events.Spoken)
    assert len(spoken) >= 2
    for each in spoken:
        assert (each.outcome, each.proof, each.gaps) == ("complete", "same", 0)
        assert each.seconds == pytest.approx(len(voiced(each.text)) / 2 / 16000)
    assert of(found, events.Failed) == []


async def test_a_reader_that_is_far_behind_waits_for_each_reply(tmp_path: Path) -> None:
    """The time that a reply may take counts from its asking: what was due long ago is not given up at once."""
    async with synthesis() as server:
        server.pause_s = 0.4
        by, found = settings(tmp_path, tts_url=server.url, mix="reader=1", reply_within_s=5), list[events.Event]()
        crew = Crew(by, found.append)
        await crew.prepare({"reader": 1}, 0, lambda done, total: None)
        player = Player(crew.scene, "reader-1", random.Random(0), ("reader", 0))
        living = asyncio.create_task(player.run())
        await player.opened.wait()
        reply = player.ask(texts_of("reader", 0, by)[0], time.monotonic() - 60)
        player.look(time.monotonic())
        await reply.over
        await player.judged()
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
    (spoken,) = of(found, events.Spoken)
    assert (spoken.outcome, of(found, events.Failed)) == ("complete", [])
    assert spoken.first_audio_s >= 60


async def test_audio_of_another_names_both(tmp_path: Path) -> None:
    """One person's request is answered, under its own name, with samples of another's."""
    async with synthesis() as server:
        by, found = settings(tmp_path, tts_url=server.url, mix="reader=1"), list[events.Event]()
        crew = Crew(by, found.append)
        await crew.prepare({"reader": 2}, 0, lambda done, total: None)
        theirs = next(iter(wanted.text for wanted in crew.scene.references._paths if wanted.owner == ("reader", 1)))
        server.voiced = lambda text: voiced(theirs)
        for number in (1, 2):
            crew.start(f"reader-{number}", "reader")
        await eventually(lambda: of(found, events.Breach))
        await crew.stop_all()
    connected = {each.user: each.connection_id for each in of(found, events.Connected)}
    first = of(found, events.Breach)[0]
    assert (first.user, first.whose) == ("reader-1", "reader-2")
    assert (first.connection_id, first.other_connection_id) == (connected["reader-1"], connected["reader-2"])
    assert next(each.proof for each in of(found, events.Spoken) if each.user == "reader-1") == "other"


async def test_audio_of_nobody_is_a_breach(tmp_path: Path) -> None:
    """Noise in the place of a reply, on a connection that is named."""
    async with synthesis() as server:
        by = settings(tmp_path, tts_url=server.url, mix="reader=1")
        noise = lambda text: voiced(text)[::-1]  # noqa: E731
        found = await told(by, 1, lambda found: of(found, events.Breach), lambda: setattr(server, "voiced", noise))
    first = of(found, events.Breach)[0]
    assert (first.user, first.whose, first.other_connection_id) == ("reader-1", "", "")
    assert first.connection_id == of(found, events.Connected)[0].connection_id
    assert of(found, events.Failed) == []


async def test_swapped_replies_name_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections get each other's messages and audio."""
    monkeypatch.setattr(people, "CLOSES_WITHIN_S", 0.5)  # each waits for the end that the other got
    async with synthesis() as server, relayed(server.url) as relay:
        by = settings(tmp_path, tts_url=relay.url, mix="reader=1")
        found = await told(by, 2, lambda found: len(of(found, events.Breach)) >= 2, relay.swap)
    breaches = of(found, events.Breach)
    assert {(each.user, each.whose) for each in breaches} == {("reader-1", "reader-2"), ("reader-2", "reader-1")}


SLOW_BYTES_PER_S = 32_000
"""Half a paragraph takes longer than the longest pause."""


async def test_a_slow_reader_asks_again_once_it_has_read_all(tmp_path: Path) -> None:
    """So that its own slowness is neither a gap nor a wait for the service."""
    async with synthesis() as server:
        by = settings(tmp_path, tts_url=server.url, mix="slow=1", slow_bytes_per_s=SLOW_BYTES_PER_S)
        found = await told(by, 1, lambda found: len(of(found, events.Spoken)) >= 2)
    first, second = of(found, events.Spoken)[:2]
    assert {(each.outcome, each.proof, each.gaps) for each in (first, second)} == {("complete", "same", 0)}
    assert second.asked_due - first.asked_due >= len(voiced(first.text)) / SLOW_BYTES_PER_S
    assert of(found, events.Failed) + of(found, events.Lost) == []


TOO_SLOW = Error(code="too_slow", message="bytes are waiting", recoverable=False)
UNANSWERED = CloseFrame(CloseCode.INTERNAL, "keepalive ping timeout")


@pytest.mark.parametrize("how", [TOO_SLOW, UNANSWERED])
async def test_only_a_slow_reader_is_cut_off_as_promised(tmp_path: Path, how: Error | CloseFrame) -> None:
    """It comes back; the same end of anybody else's connection is a loss or an error."""

    def ended(found: list[events.Event]) -> bool:
        return {each.user for each in (*of(found, events.Lost), *of(found, events.Failed))} == {"slow-1", "reader-1"}

    async with synthesis() as server:
        by = settings(tmp_path, tts_url=server.url, mix="slow=1,reader=1", slow_bytes_per_s=4 * SLOW_BYTES_PER_S)
        found = await told(by, 2, ended, lambda: setattr(server, "cuts_off", how))
    promised = {each.user for each in of(found, events.Lost) if each.promised}
    assert promised == {"slow-1"}
    unexpected = [*of(found, events.Failed), *(each for each in of(found, events.Lost) if not each.promised)]
    assert {each.user for each in unexpected} == {"reader-1"}
    assert {each.outcome for each in of(found, events.Spoken)} == {"cut"}


async def test_whoever_barges_in_hears_no_more(tmp_path: Path) -> None:
    """Cancelled after the first audio: what came is a beginning of the reference, and nothing follows."""
    async with recognition() as asr, synthesis() as tts:
        tts.pause_s = 1.0
        by = settings(
            tmp_path, asr_url=asr, tts_url=tts.url, turn_every_s=EVERY_S, barge_in_share=1, seed=at_once(EVERY_S)
        )
        found = await told(by, 1, lambda found: of(found, events.Spoken))
    spoken = of(found, events.Spoken)
    assert {(each.outcome, each.proof) for each in spoken} == {("cancelled", "same")}
    assert spoken[0].seconds == pytest.approx(len(voiced(spoken[0].text)) // 4 * 2 / 2 / 16000)
    assert of(found, events.Failed) + of(found, events.Breach) == []


async def test_audio_after_cancelled_is_told(tmp_path: Path) -> None:
    """The service speaks on."""
    async with recognition() as asr, synthesis() as tts:
        tts.pause_s, tts.deaf = 1.0, True
        by = settings(
            tmp_path, asr_url=asr, tts_url=tts.url, turn_every_s=EVERY_S, barge_in_share=1, seed=at_once(EVERY_S)
        )
        found = await told(by, 1, lambda found: of(found, events.Failed))
    assert any("outside a sentence" in each.what for each in of(found, events.Failed))


async def test_who_hangs_up_comes_back(tmp_path: Path) -> None:
    """Without a word, and nothing is counted against the service."""
    async with recognition() as asr, synthesis() as tts:
        by = settings(
            tmp_path, asr_url=asr, tts_url=tts.url, turn_every_s=EVERY_S, hang_up_share=1, seed=at_once(EVERY_S)
        )
        found = await told(by, 1, lambda found: len([each for each in of(found, events.Connected) if each.again]) >= 2)
    assert {each.service for each in of(found, events.Connected) if each.again} == {"asr", "tts"}
    assert of(found, events.Lost) + of(found, events.Failed) == []


async def test_callers_arrive_and_leave(tmp_path: Path) -> None:
    """The open loop: at a rate, each for its turns, while nobody waits for anybody."""
    async with recognition() as asr, synthesis() as tts:
        by = settings(tmp_path, asr_url=asr, tts_url=tts.url, arrivals_per_minute=120, turns_per_caller=1)
        found = await told(by, 2, lambda found: falls(found) >= 3 and of(found, events.Heard))
    population = [each.users for each in of(found, events.Population)]
    assert population[-1] == 0
    assert max(population) > 1
    assert of(found, events.Failed) == []


def falls(found: list[events.Event]) -> int:
    """How often somebody has left."""
    return sum(after < before for before, after in pairwise(each.users for each in of(found, events.Population)))


async def test_a_crew_process_follows_its_parent(tmp_path: Path) -> None:
    """Orders go in, records come out; what can't be done is told, and it ends with its parent's wish."""
    found: list[events.Event] = []
    troubles: list[str] = []
    async with recognition() as url:
        by = settings(tmp_path, asr_url=url, mix="caption=1")
        crew = CrewProcess(found.append, by, "worker-1", troubles.append)
        try:
            crew.start("caption", "caption-1")
            await eventually(lambda: troubles)
            assert "nothing is prepared" in troubles[0]
            await asyncio.to_thread(crew.prepare, {"caption": 1})
            crew.start("caption", "caption-1")
            await eventually(lambda: of(found, events.Heard))
            await asyncio.to_thread(crew.stop_all)
            with pytest.raises(CrewFailed, match="No such file"):
                await asyncio.to_thread((tmp_path / "speech" / "manifest.jsonl").unlink)
                await asyncio.to_thread(crew.prepare, {"caption": 1})
        finally:
            await asyncio.to_thread(crew.close)
    assert not crew.alive
    assert {each.worker for each in of(found, events.Lag)} == {"worker-1"}
    assert [each.users for each in of(found, events.Population)] == [1, 0]
