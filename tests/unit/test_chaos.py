"""The chaos suite's own parts: what it would not notice must not pass for held."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.asr_reconnect import Heard
from benchmarks.speech import CLIPS, Speech, speeches
from chaos import abrupt, report, stack
from chaos.abrupt import Ends
from chaos.checks import Process, grown
from chaos.clients import enter, open_wave
from chaos.fault import Row, judge, logs_kept
from chaos.overload import Load, Overload
from chaos.people import Listener, Noticed, speak
from chaos.relay import Relay
from chaos.stack import ChaosError, Stack
from chorus.errors import Refused
from chorus.tts import TtsProtocol
from chorus.wire import asr as wire
from loadtest.clips import read_manifest
from tests.conftest import eventually, running
from tests.unit.fakes import EchoService

pytestmark = pytest.mark.unit


def speech() -> Speech:
    return speeches(read_manifest(CLIPS)[:1], 1, 1)[0]


def final(text: str, start: float, end: float) -> wire.Final:
    return wire.Final(
        utterance=1, text=text, start_time=start, end_time=end, confidence=1.0, language="en", latency_ms=1,
        from_finalize=False,
    )  # fmt: skip


def heard(*finals: wire.Final, seams: tuple[float, ...] = ()) -> Heard:
    return Heard(finals=list(finals), seams=list(seams))


@pytest.mark.parametrize(
    ("disturbed", "told"),
    [
        (lambda said, end: heard(final(said, 0.5, end), seams=(1.0,)), None),
        (lambda said, _: heard(final(said, 0.5, 1.5), seams=(1.5,)), "only"),
        (lambda said, end: heard(final(said, 0.5, end), final("", end - 1, end), seams=(1.0,)), "speaker 1"),
        (lambda said, end: heard(final(said.split(" ", 1)[1], 0.5, end), seams=(0.0,)), "lost"),
    ],
    ids=["whole", "a part is missing", "a part is there twice", "a word is missing at the seam"],
)
def test_what_a_speaker_loses_is_noticed(disturbed: object, told: str | None) -> None:
    """By audio and by words, beside what is heard of the same speech while nothing happens."""
    said = speech()
    end = said.spoken[0].end
    alone = [(said, heard(final(said.spoken[0].clip.text, 0.5, end)))]
    noticed = Noticed(replies=1, heard=[(said, disturbed(said.spoken[0].clip.text, end))])  # type: ignore[operator]
    row = Row("test", "nothing")
    judge(row, noticed, alone)
    assert row.sound == (told is None), row.complaints
    assert told is None or any(told in line for line in row.complaints)


def test_what_is_accepted_and_forgotten_is_noticed() -> None:
    """So is a stack in which nobody heard anything."""
    for noticed, told in (
        (Noticed(replies=1, unseen=["listener 1: nothing"]), "listener 1: nothing"),
        (Noticed(replies=1, broken=["listener 1: 2 s announced"]), "listener 1: 2 s announced"),
        (Noticed(replies=1, lost_seconds=0.5), "speakers lost 0.50 s"),
        (Noticed(), "no listener heard a reply"),
    ):
        row = Row("test", "nothing")
        judge(row, noticed, [])
        assert row.complaints == [told]


def test_growth_is_noticed() -> None:
    """One descriptor, more than the allowed memory, and a process more or less."""
    before = {"a": [Process(200.0, 40)]}
    assert grown(before, {"a": [Process(210.0, 40)]}) == []
    assert "41 descriptors" in grown(before, {"a": [Process(200.0, 41)]})[0]
    assert "240 MiB" in grown(before, {"a": [Process(240.0, 40)]})[0]
    assert grown(before, {"a": [Process(240.0, 40)]}, more_mb=30) == []
    assert "0 processes" in grown(before, {"a": []})[0]


async def test_a_listener_who_is_forgotten_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that takes the text and says nothing more."""
    monkeypatch.setattr("chaos.people.SILENT_S", 0.2)

    class Mute:
        protocol = TtsProtocol()

        async def send(self, _frame: str) -> None:
            pass

        async def receive(self) -> None:
            await asyncio.Event().wait()

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[Mute]:
        yield Mute()

    monkeypatch.setattr("chaos.people.connect_tts", connect)
    noticed = Noticed()
    await Listener("ws://nowhere", "listener 1", noticed).listen(iter(["Hello."]), asyncio.Event())
    assert noticed.unseen == ["listener 1: nothing for 0 s of a reply that was accepted"]


async def test_a_speaker_whose_service_is_gone_gives_up_and_says_so() -> None:
    """Nobody listens on the port."""
    noticed = Noticed()
    await speak(speech(), "ws://127.0.0.1:1", "speaker 1", noticed)
    assert len(noticed.unseen) == 1
    assert "speaker 1: gave up" in noticed.unseen[0]
    assert noticed.heard == []


async def test_the_relay_delays_and_keeps_the_order() -> None:
    """Each chunk at least as late as asked for, both ways, and the end after everything before it."""
    relay = Relay(delay_s=0.05, jitter_s=0.05)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, relay.listening("127.0.0.1", server.sockets[0].getsockname()[1]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = b"".join(bytes([number]) * 999 for number in range(50))
        began = time.monotonic()
        for start in range(0, len(sent), 999):
            writer.write(sent[start : start + 999])
            await asyncio.sleep(0.001)
        assert await reader.readexactly(len(sent)) == sent
        assert time.monotonic() - began >= 0.1
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_guests_end_badly_and_hold_nothing() -> None:
    """A wave opens, a refused guest is told of, and after RST the replica counts nobody."""
    async with running(EchoService(port=0, admin_port=0, max_connections=3)) as replica:
        url = f"ws://127.0.0.1:{replica.stream_listener.port}"
        wave = await open_wave("asr", url, 4, blockable=False)
        assert len(wave.guests) == 3
        assert len(wave.refused) == 1
        assert "503" in wave.refused[0]
        with pytest.raises(Refused):
            await enter("asr", url)
        await eventually(lambda: replica.state.active_connections == 3)
        await abrupt.end_by_reset(wave)
        await eventually(lambda: replica.state.active_connections == 0)


def ends(first: Process, last: Process, **found: object) -> Ends:
    return Ends("asr", "direct", 10_000, first=first, last=last, **found)  # type: ignore[arg-type]


def test_what_abrupt_ends_leave_behind_is_noticed() -> None:
    """More than 5 % of memory, any descriptor, any stream that did not open."""
    at_first = Process(200.0, 40)
    assert abrupt.judge(ends(at_first, Process(209.0, 40))) == []
    assert "MiB" in abrupt.judge(ends(at_first, Process(211.0, 40)))[0]
    assert "descriptors" in abrupt.judge(ends(at_first, Process(200.0, 41)))[0]
    assert "did not open" in abrupt.judge(ends(at_first, at_first, refused=["503"]))[0]


def test_an_overload_that_hurts_is_noticed() -> None:
    """Slow refusals, slow service of the admitted, no refusal at all, and what is not as before."""
    good = Overload(
        "asr", 20, 5, alone_before_s=0.5, capacity=Load(latencies=[0.8] * 20),
        overload=Load(latencies=[1.5] * 20, refusals=[0.01] * 200), alone_after_s=0.6,
    )  # fmt: skip
    assert good.sound
    for change, told in (
        ({"overload": Load(latencies=[1.7] * 20, refusals=[0.01] * 200)}, "p95 of those admitted"),
        ({"overload": Load(latencies=[1.5] * 20, refusals=[0.2] * 200)}, "refusals took 200 ms"),
        ({"overload": Load(latencies=[1.5] * 20)}, "nobody was refused"),
        ({"overload": Load([], [1.5], [0.01], ["a clip without a final"])}, "a clip without a final"),
        ({"alone_after_s": None}, "not as before"),
        ({"alone_after_s": 1.1}, "not as before"),
        ({"restarted": ["asr-1"]}, "asr-1 was restarted"),
    ):
        bad = Overload(**{**vars(good), **change})  # type: ignore[arg-type]
        assert any(told in line for line in bad.complaints), told


def test_the_page_keeps_what_was_not_measured_now(tmp_path: Path) -> None:
    """Its prose, and the sections of other parts; a section measured anew is replaced."""
    page, figures = tmp_path / "page.md", tmp_path / "page.json"
    page.write_text(f"# Reliability\n\nProse.\n\n{report.BEGIN}\n", encoding="utf-8")
    first = Row("kill", "it is killed", noticed=Noticed(interruptions=Counter({"close code 1012": 2}), replies=3))
    assert report.write(page, figures, [first], [], []) == []
    whole = ends(Process(200, 40), Process(201, 40))
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert told["faults"]["rows"][0]["noticed"]["interruptions"] == {"close code 1012": 2}
    assert report.write(page, figures, [], [whole], []) == []
    again = Row("kill", "it is killed", complaints=["it was restarted"])
    assert report.write(page, figures, [again], [], []) == ["it was restarted"]
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Reliability\n\nProse.\n")
    assert text.count("## Faults") == text.count("## Abrupt ends") == text.count("| kill |") == 1
    assert "- kill: it was restarted" in text
    assert "200 → 201" in text
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert told["faults"]["rows"][0]["complaints"] == ["it was restarted"]
    assert told["abrupt_ends"]["rows"][0]["first"] == {"rss_mb": 200, "descriptors": 40}


@pytest.mark.parametrize("how", ["held", "did not hold", "broke off"])
async def test_what_containers_said_is_kept_where_something_did_not_hold(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the suite itself could not go on."""
    said = subprocess.CompletedProcess([], 0, "to stdout\n", "to stderr\n")
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    monkeypatch.setattr(stack, "run", lambda *_, **__: said)
    row = Row("clock", "the clock jumps")
    with contextlib.suppress(ChaosError):
        async with logs_kept(Stack(replicas=1, max_connections=1), row):
            if how == "did not hold":
                row.complaints.append("a replica was restarted")
            if how == "broke off":
                raise ChaosError("no")
    kept = tmp_path / ".build" / "chaos-clock.log"
    if how == "held":
        assert not kept.exists()
    else:
        assert kept.read_text(encoding="utf-8").count("<==\nto stdout\nto stderr\n") == 3
