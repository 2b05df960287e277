"""Whether anybody notices a roll-out: live speakers and listeners while `make rollout` replaces the replicas.

    python -m benchmarks.rollout [FOLDER] [--speakers 20] [--listeners 20] [--times 5] [--minutes 8]
        [--pause 1.2] [--alone]

Speakers say clips at the speed of speech over `chorus.aio.reconnecting_asr`, with a pause after each. Listeners ask
for one reply after the other, each so long after the one before has been played, and connect again where their
connection was closed between two. A machine that can't serve so many who never pause is asked with a longer `--pause`.
Somebody else connects to each service every 0.2 s and leaves again. Meanwhile ASR and TTS are rolled out, so many
times each, in turn.

What must be zero: connects that failed, connections that ended without a close frame or with another code than 1012,
utterances that were open when their connection ended, replies of which something had been heard when it did or that
were `cancelled`, audio that a speaker lost or that is in no final or in two, promises of the protocol broken. With
`--alone` the same is said once more without roll-outs, and words near the seams are compared as
`benchmarks.asr_reconnect` does: none may be lost or doubled.

Exit status: 0 when all of that is so, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import asr_reconnect, machine
from benchmarks.asr_reconnect import Heard
from benchmarks.listening import REPLIES
from benchmarks.speech import CLIPS, PAUSE_S, Speech, speeches
from chorus.aio import TtsStream, connect_asr, connect_tts, reconnecting_asr
from chorus.connect import ASR_URL, TTS_URL
from chorus.errors import ChorusError, ConnectionLost
from chorus.reconnect import Event, Interrupted, Resumed
from chorus.sources import FRAME_S, from_bytes
from chorus.tasks import send_and_receive
from chorus.tts import Audio
from chorus.wire import asr as wire
from chorus.wire import tts as tts_wire
from chorus.wire.common import CloseCode, Error
from loadtest.clips import SAMPLE_RATE, Clip, read, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
KNOCK_S = 0.2
PATIENCE_S = 180.0
"""For so long a listener asks for a reply that is `overloaded`, or whose connection ended before it was begun."""
GOING_AWAY = f"close code {int(CloseCode.GOING_AWAY)}"

RollOut = Callable[[str], Awaitable[None]]
"""Replaces the replicas of a service; raises where it fails."""


@dataclass
class Noticed:
    """What anybody noticed of the roll-outs."""

    connects: int = 0
    failed_connects: list[str] = field(default_factory=list)
    moved_speakers: int = 0
    """Connections of speakers that were closed with 1012."""
    moved_listeners: int = 0
    abnormal_closes: list[str] = field(default_factory=list)
    cut_utterances: list[str] = field(default_factory=list)
    replies: int = 0
    cut_replies: list[str] = field(default_factory=list)
    refused_replies: int = 0
    """`overloaded`, and asked for again: no fault, but a machine that has little left while a replica starts."""
    utterances: int = 0
    lost_audio: list[str] = field(default_factory=list)
    """Of a speaker: lost, not accounted for, or in two finals."""
    broken: list[str] = field(default_factory=list)
    """Promises of the protocol."""
    away_s: list[float] = field(default_factory=list)
    """From the end of a speaker's connection to the next one's `ready`."""
    rollout_s: dict[str, list[float]] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        return [
            *self.failed_connects, *self.abnormal_closes, *self.cut_utterances, *self.cut_replies, *self.lost_audio,
            *self.broken,
        ]  # fmt: skip


def spoken_for(clips: list[Clip], speakers: int, seconds: float, pause_s: float = PAUSE_S) -> list[Speech]:
    """What so many speakers say, each for about so many seconds."""
    mean = sum(len(read(clip)) for clip in clips) / len(clips) / SAMPLE_RATE + pause_s
    return speeches(clips, speakers, speakers * math.ceil(seconds / mean), pause_s=pause_s)


async def speak(speech: Speech, url: str, name: str, noticed: Noticed, stop: asyncio.Event) -> tuple[Speech, Heard]:
    """Say clip after clip until `stop`; what was said, and what was heard. Raises `ChorusError`, `OSError`."""
    heard = Heard()
    interrupted_at = 0.0
    open_utterances: set[int] = set()
    said = speech

    async with reconnecting_asr(url, strict=False, sample_rate=SAMPLE_RATE) as stream:
        noticed.connects += 1
        retry_in = stream.protocol.retry_in

        def retry(error: ChorusError | OSError, now: float) -> float:
            # An outage's first failure is the connection's own end, which `Interrupted` tells; others are connects.
            if interrupted_at > 0:
                noticed.failed_connects.append(f"{name}: {error}")
            return retry_in(error, now)

        stream.protocol.retry_in = retry  # type: ignore[method-assign]

        async def say() -> None:
            nonlocal said
            started, sent, ends = time.monotonic(), 0.0, (each.end for each in speech.spoken)
            end = next(ends)
            for frame in from_bytes(speech.samples.tobytes()).frames:
                if sent > end + PAUSE_S - FRAME_S:
                    if stop.is_set():
                        break
                    end = next(ends, math.inf)
                sent += FRAME_S
                await asyncio.sleep(max(0.0, started + sent - time.monotonic()))
                await stream.send(stream.protocol.audio(frame))
            told = [each for each in speech.spoken if each.end <= sent]
            said = Speech(told, speech.samples[: round(sent * SAMPLE_RATE)])
            await stream.send(stream.protocol.close())

        def note(event: Event) -> None:
            nonlocal interrupted_at
            if isinstance(event, wire.SpeechStart):
                open_utterances.add(event.utterance)
            elif isinstance(event, wire.Final):
                open_utterances.discard(event.utterance or 0)
            elif isinstance(event, Interrupted):
                if GOING_AWAY in event.reason:
                    noticed.moved_speakers += 1
                else:
                    noticed.abnormal_closes.append(f"{name}: {event.reason}")
                if open_utterances:
                    noticed.cut_utterances.append(f"{name}: utterances {sorted(open_utterances)}")
                    open_utterances.clear()
                interrupted_at = time.monotonic()
            elif isinstance(event, Resumed):
                noticed.connects += 1
                noticed.away_s.append(time.monotonic() - interrupted_at)
                interrupted_at = 0.0
                heard.seams.append(event.time)
                heard.lost_seconds += event.lost_seconds

        async def listen() -> None:
            async for event in stream:
                note(event)

        await send_and_receive(say(), listen())
        heard.finals = stream.protocol.finals
        heard.broken += stream.protocol.violations
        done = stream.protocol.done
    noticed.utterances += len(heard.finals)
    noticed.broken += [f"{name}: {line}" for line in heard.broken]
    if heard.lost_seconds or done is None or abs(done.audio_seconds - said.seconds) > 0.001:
        noticed.lost_audio.append(f"{name}: {said.seconds:.3f} s were said, {heard.lost_seconds} s lost; {done}")
    for one, other in itertools.pairwise(heard.finals):
        if other.start_time < one.end_time - 0.001:
            noticed.lost_audio.append(f"{name}: {other.start_time} to {one.end_time} s is in two finals")
    return said, heard


class Listener:
    """Asks for replies, over as many connections as it takes."""

    def __init__(self, url: str, name: str, noticed: Noticed, stop: asyncio.Event, pause_s: float) -> None:
        self._url = url
        self._pause_s = pause_s
        self._name = name
        self._noticed = noticed
        self._stop = stop
        self._begun = False
        """Whether something of the present reply has been heard."""
        self._refused = ""
        """Why a reply was not to be had, the last time."""

    async def listen(self, replies: AsyncIterator[str]) -> None:
        """Hear one reply after the other."""
        waiting: str | None = None
        asked = time.monotonic()
        while not self._stop.is_set():
            try:
                async with connect_tts(self._url, strict=False) as stream:
                    self._noticed.connects += 1
                    while not self._stop.is_set():
                        if waiting is None:
                            waiting, asked = await anext(replies), time.monotonic()
                        await stream.send(stream.protocol.synthesize(waiting))
                        self._begun = False
                        heard, wait = await self._hear(stream)
                        if heard:
                            waiting = None
                        else:
                            self._be_patient(asked)
                        await self._pause(stream, wait)
                    self._noticed.broken += [f"{self._name}: {line}" for line in stream.protocol.violations]
            except ConnectionLost as error:
                if error.close_code == CloseCode.GOING_AWAY:
                    self._noticed.moved_listeners += 1
                else:
                    self._noticed.abnormal_closes.append(f"{self._name}: {error}")
                if self._begun:
                    self._noticed.cut_replies.append(f"{self._name}: {error}")
                    waiting = None
            except (ChorusError, OSError) as error:
                self._noticed.failed_connects.append(f"{self._name}: {error}")
                await asyncio.sleep(1)
            if waiting is not None:
                self._be_patient(asked)

    def _be_patient(self, since: float) -> None:
        """Raises `SystemExit` for a reply that was not to be had for too long."""
        if time.monotonic() - since > PATIENCE_S:
            raise SystemExit(f"{self._name}: no reply was to be had in {PATIENCE_S:.0f} s: {self._refused}")

    async def _hear(self, stream: TtsStream) -> tuple[bool, float]:
        """To the end of the reply: whether it was spoken, and seconds to wait before the next."""
        started = time.monotonic()
        while True:
            event = await stream.receive()
            if isinstance(event, Audio):
                self._begun = True
            elif isinstance(event, tts_wire.SynthesisComplete):
                self._noticed.replies += 1
                self._begun = False
                return True, event.seconds - (time.monotonic() - started) + self._pause_s
            elif isinstance(event, tts_wire.Cancelled):
                self._noticed.cut_replies.append(f"{self._name}: cancelled after {event.seconds_sent} s")
                self._begun = False
                return True, 0.0
            elif isinstance(event, Error):
                if event.code != "overloaded":
                    self._noticed.broken.append(f"{self._name}: {event.code}: {event.message}")
                self._refused = event.message
                self._noticed.refused_replies += 1
                return False, (event.retry_after_ms or 1000) / 1000

    async def _pause(self, stream: TtsStream, seconds: float) -> None:
        """While the reply is played, and after it; a close that comes meanwhile raises `ConnectionLost`."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                while True:
                    await stream.receive()
        except TimeoutError:
            pass


async def knock(
    connect: Callable[[], AbstractAsyncContextManager[object]], name: str, noticed: Noticed, stop: asyncio.Event
) -> None:
    """Open a stream and leave again, until `stop`."""
    while not stop.is_set():
        try:
            async with connect():
                noticed.connects += 1
        except ConnectionLost as error:
            # Opened and closed at once by a replica that went just then: its client is told to come again.
            if error.close_code != CloseCode.GOING_AWAY:
                noticed.failed_connects.append(f"{name}: {error}")
        except (ChorusError, OSError) as error:
            noticed.failed_connects.append(f"{name}: {error}")
        await asyncio.sleep(KNOCK_S)


async def forever(items: list[str], first: int) -> AsyncIterator[str]:
    """All of them again and again, from one of them on."""
    for number in itertools.count(first):
        yield items[number % len(items)]


async def make_rollout(service: str) -> None:
    """`make rollout SERVICE=service` in this project."""
    process = await asyncio.create_subprocess_exec(
        "make", "rollout", f"SERVICE={service}", cwd=HERE.parent, stdout=sys.stderr, stderr=subprocess.PIPE
    )
    _, told = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"make rollout SERVICE={service}: {told.decode()}")


async def measure(
    told: list[Speech],
    listeners: int,
    times: int,
    *,
    pause_s: float = PAUSE_S,
    roll_out: RollOut = make_rollout,
    asr_url: str = ASR_URL,
    tts_url: str = TTS_URL,
) -> tuple[Noticed, list[tuple[Speech, Heard]]]:
    """Roll out so many times each under live streams; what was noticed, said and heard. Raises what a stream raises."""
    noticed, stop = Noticed(), asyncio.Event()

    async def speak_by_turns(speech: Speech, number: int) -> tuple[Speech, Heard]:
        await asyncio.sleep(pause_s * number / len(told))  # nobody's pauses are everybody's
        return await speak(speech, asr_url, f"speaker {number + 1}", noticed, stop)

    replies = REPLIES.read_text(encoding="utf-8").splitlines()
    async with asyncio.TaskGroup() as tasks:
        speakers = [tasks.create_task(speak_by_turns(speech, number)) for number, speech in enumerate(told)]
        for number in range(listeners):
            listener = Listener(tts_url, f"listener {number + 1}", noticed, stop, pause_s)
            tasks.create_task(listener.listen(forever(replies, 7 * number)))
        tasks.create_task(knock(lambda: connect_asr(asr_url), "ASR", noticed, stop))
        tasks.create_task(knock(lambda: connect_tts(tts_url), "TTS", noticed, stop))
        await asyncio.sleep(2 + pause_s)
        for number in range(times):
            for service in ("asr", "tts"):
                started = time.monotonic()
                await roll_out(service)
                noticed.rollout_s.setdefault(service, []).append(round(time.monotonic() - started, 1))
                print(f"  {service} {number + 1} of {times}: {len(noticed.faults)} faults", file=sys.stderr, flush=True)
                if any(task.done() for task in speakers):
                    print("\n".join(noticed.faults), file=sys.stderr)
                    raise SystemExit("a speaker had nothing more to say before all was rolled out: raise --minutes")
        stop.set()
    return noticed, [task.result() for task in speakers]


async def compare_alone(pairs: list[tuple[Speech, Heard]], url: str) -> asr_reconnect.Result:
    """Say all once more while nothing is rolled out, and compare the words."""
    result = asr_reconnect.Result()
    alone = await asyncio.gather(*(asr_reconnect.hear(speech, url, []) for speech, _ in pairs))
    for number, ((speech, heard), undisturbed) in enumerate(zip(pairs, alone, strict=True), 1):
        asr_reconnect.compare(speech, undisturbed, heard, f"speaker {number}", result)
    return result


def table(noticed: Noticed, words: asr_reconnect.Result | None) -> str:
    """The result as Markdown."""
    took = "; ".join(f"{service.upper()} {', '.join(map(str, each))} s" for service, each in noticed.rollout_s.items())
    rows: list[tuple[str, object]] = [
        ("roll-outs", took),
        ("connects", noticed.connects),
        ("connects that failed", len(noticed.failed_connects)),
        ("connections closed with 1012, speakers / listeners", f"{noticed.moved_speakers} / {noticed.moved_listeners}"),
        ("connections that ended otherwise", len(noticed.abnormal_closes)),
        ("utterances / cut", f"{noticed.utterances} / {len(noticed.cut_utterances)}"),
        ("replies / cut", f"{noticed.replies} / {len(noticed.cut_replies)}"),
        ("replies `overloaded`, and asked for again", noticed.refused_replies),
        ("speakers' audio lost or heard twice, places", len(noticed.lost_audio)),
        ("promises of the protocol broken", len(noticed.broken)),
        (
            "close to the next `ready`, speakers, p50 / worst",
            f"{percentile(noticed.away_s, 0.5) or 0:.2f} / {max(noticed.away_s, default=0):.2f} s",
        ),
    ]
    if words is not None:
        rows += [
            ("words lost or doubled at seams", len(words.slips)),
            ("audio in no final that is in one without roll-outs, places", len(words.uncovered)),
        ]
    return "\n".join(["| | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether anybody noticed."""
    parser = argparse.ArgumentParser(description="What live speakers and listeners notice of roll-outs.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--asr-url", default=ASR_URL)
    parser.add_argument("--tts-url", default=TTS_URL)
    parser.add_argument("--speakers", type=int, default=20)
    parser.add_argument("--listeners", type=int, default=20)
    parser.add_argument("--times", type=int, default=5, help="roll-outs of each service")
    parser.add_argument("--minutes", type=float, default=8, help="the most that a speaker has to say")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="seconds after each utterance, and each reply")
    parser.add_argument("--alone", action="store_true", help="say the same once more without roll-outs, compare words")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "rollout", help="without suffix")
    asked = parser.parse_args()

    if asked.pause < PAUSE_S:
        parser.error(f"--pause {asked.pause:g}: an utterance ends with {PAUSE_S} s of silence at least")
    told = spoken_for(read_manifest(asked.folder), asked.speakers, asked.minutes * 60, asked.pause)
    noticed, pairs = asyncio.run(
        measure(told, asked.listeners, asked.times, pause_s=asked.pause, asr_url=asked.asr_url, tts_url=asked.tts_url)
    )
    words = asyncio.run(compare_alone(pairs, asked.asr_url)) if asked.alone else None
    text = (
        f"{asked.speakers} speakers, {asked.listeners} listeners, {asked.pause:g} s after each utterance and reply, "
        f"{asked.times} roll-outs of each service; "
        f"{machine.in_words()}\n\n{table(noticed, words)}"
    )
    faults = noticed.faults + ([*words.slips, *words.uncovered] if words else [])
    print(text, end="")
    print("\n".join(faults), file=sys.stderr)
    machine.write_result(asked.output, text, {**asdict(noticed), "words": asdict(words) if words else None})
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
