"""Whether a client whose connection is cut again and again hears every word once, as one that is left alone does.

    python -m benchmarks.asr_reconnect [FOLDER] [--streams 5] [--clips 50] [--drops 20] [--seed 1]

Each speaker says clips back to back with 1.2 s of silence between, at the speed of speech, over two streams at once:
one is left alone, the other's connection is cut (the socket reset, without a close frame) at random moments of a
seeded generator, and `chorus.aio.reconnecting_asr` goes on by itself. A seam is where it went on: the end of the
newest final. Near a seam, a word left out or put in that the undisturbed stream does not leave out or put in at the
same place counts as lost or doubled, unless it is beside a word heard wrongly. Beside the words, the audio is
compared: what the finals of the undisturbed stream cover must be covered by those of the other, by none of them twice.

Exit status: 0 when no word was lost or doubled at a seam, no audio was heard twice or not at all, no promise of the
protocol was broken, and the word error rate of the streams that were cut is at most a point above the others'; else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer  # type: ignore[import-untyped]

from benchmarks import machine
from benchmarks.speech import CLIPS, Errors, Speech, errors_of, said_live, speeches
from chorus.aio import ReconnectingAsrStream, reconnecting_asr
from chorus.commands.common import explain
from chorus.connect import ASR_URL
from chorus.errors import ChorusError
from chorus.reconnect import Event, Interrupted, Resumed
from chorus.tasks import send_and_receive
from chorus.wire import asr as wire
from loadtest.clips import SAMPLE_RATE, read_manifest
from loadtest.figures import percentile

HERE = Path(__file__).resolve().parent
NEAR_WORDS = 2
"""So many words on each side of a seam are near it."""
UNCOVERED_S = 0.3
"""Of a final of the undisturbed stream: less than this may be in no final of the other, as the detector hears the
same silence a little differently from its beginning and in the midst of a stream."""
SAME_TIME_S = 0.1
"""Finals whose ends are so near are the same."""
MORE_WER = 1.0
"""Percent points that the cuts may cost."""

normalise = EnglishTextNormalizer()


@dataclass
class Heard:
    """What one stream brought."""

    finals: list[wire.Final] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    """When its connection was cut, seconds of the stream."""
    seams: list[float] = field(default_factory=list)
    """From where it was heard anew, seconds of the stream."""
    away_s: list[float] = field(default_factory=list)
    """From each cut to the next connection's `ready`, seconds."""
    lost_seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    """Promises of the protocol that were."""

    @property
    def words(self) -> list[str]:
        """All words, normalised."""
        return [word for final in self.finals for word in normalise(final.text).split()]

    def words_until(self, time: float) -> int:
        """How many words are final at a time of the stream."""
        return sum(len(normalise(final.text).split()) for final in self.finals if final.end_time <= time + 0.001)


@dataclass(frozen=True)
class Slip:
    """A word left out or put in."""

    kind: str
    """`lost` or `doubled`."""
    place: int
    """Words of the reference before it."""
    word: str


@dataclass
class Result:
    """Of all speakers."""

    drops: int = 0
    wer_alone: Errors | None = None
    wer_cut: Errors | None = None
    slips: list[str] = field(default_factory=list)
    """Words lost or doubled near seams, told."""
    heard_twice: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)
    same_finals: int = 0
    finals: int = 0
    """Of the undisturbed streams; `same_finals` are those that the cut ones have at the same times."""
    time_apart_s: list[float] = field(default_factory=list)
    """Of each of those, the larger distance of its two ends."""
    away_s: list[float] = field(default_factory=list)
    lost_seconds: float = 0.0
    broken: list[str] = field(default_factory=list)

    @property
    def more_wer(self) -> float:
        """Percent points."""
        assert self.wer_alone is not None
        assert self.wer_cut is not None
        return self.wer_cut.wer_percent - self.wer_alone.wer_percent

    @property
    def sound(self) -> bool:
        """Whether the cuts cost nothing that they must not."""
        faults = self.slips or self.heard_twice or self.uncovered or self.broken or self.lost_seconds
        return not faults and self.more_wer <= MORE_WER


def cut(stream: ReconnectingAsrStream) -> bool:
    """Reset the connection under the stream; whether there was one."""
    assert stream.socket is not None
    transport = stream.socket.transport
    if transport.is_closing():
        return False
    # A linger of no seconds: what is on its way is dropped, and the server gets RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return True


async def hear(speech: Speech, url: str, cuts: list[float]) -> Heard:
    """Say all, with the connection cut at these seconds of it. Raises `ChorusError`, `OSError`."""
    heard = Heard(cuts=cuts)
    cut_at: list[float] = []

    async with reconnecting_asr(url, strict=False, sample_rate=SAMPLE_RATE) as stream:

        async def say() -> None:
            due_cuts = list(cuts)
            async for sent, frame in said_live(speech):
                await stream.send(stream.protocol.audio(frame))
                if due_cuts and due_cuts[0] <= sent and cut(stream):  # one that falls into an outage waits for its end
                    due_cuts.pop(0)
                    cut_at.append(time.monotonic())
            await stream.send(stream.protocol.close())

        async def listen() -> None:
            async for event in stream:
                note(event)

        def note(event: Event) -> None:
            if isinstance(event, Resumed):
                heard.seams.append(event.time)
                heard.away_s.append(time.monotonic() - cut_at[len(heard.away_s)])
                heard.lost_seconds += event.lost_seconds
            elif isinstance(event, Interrupted) and len(heard.seams) >= len(cut_at):
                heard.broken.append(f"a connection ended by itself: {event.reason}")

        await send_and_receive(say(), listen())
        heard.finals = stream.protocol.finals
        heard.broken += stream.protocol.violations
        done = stream.protocol.done
        if done is None or abs(done.audio_seconds - speech.seconds) > 0.001:
            heard.broken.append(f"{speech.seconds:.3f} s were sent, done tells {done}")
    return heard


def slips_of(said: list[str], heard: Heard) -> list[tuple[Slip, int]]:
    """Every word left out or put in, with how many words had been heard before it.

    Beside a wrong word it is none: "half a man" heard as "Hasaman" is misheard, whatever is counted as left out.
    """
    words = heard.words
    chunks = jiwer.process_words(" ".join(said), " ".join(words) or " ").alignments[0]
    found = []
    for number, chunk in enumerate(chunks):
        if any(beside.type == "substitute" for beside in chunks[max(0, number - 1) : number + 2]):
            continue
        if chunk.type == "delete":
            places = range(chunk.ref_start_idx, chunk.ref_end_idx)
            found += [(Slip("lost", place, said[place]), chunk.hyp_start_idx) for place in places]
        elif chunk.type == "insert":
            places = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
            found += [(Slip("doubled", chunk.ref_start_idx, words[place]), place) for place in places]
    return found


def compare(speech: Speech, alone: Heard, disturbed: Heard, name: str, result: Result) -> None:
    """Add what one speaker's two streams tell."""
    said = [word for spoken in speech.spoken for word in normalise(spoken.clip.text).split()]
    usual = {slip for slip, _ in slips_of(said, alone)}
    for seam in disturbed.seams:
        before = disturbed.words_until(seam)
        result.slips += [
            f"{name}, seam at {seam:.2f} s: {slip.word!r} {slip.kind} (word {slip.place})"
            for slip, place in slips_of(said, disturbed)
            if before - NEAR_WORDS <= place <= before + NEAR_WORDS and slip not in usual
        ]
    for one, other in zip(disturbed.finals, disturbed.finals[1:], strict=False):
        if other.start_time < one.end_time - 0.001:
            result.heard_twice.append(f"{name}: {other.start_time} s to {one.end_time} s")
    for final in alone.finals:
        covered = sum(
            max(0.0, min(final.end_time, other.end_time) - max(final.start_time, other.start_time))
            for other in disturbed.finals
        )
        if final.end_time - final.start_time - covered > UNCOVERED_S:
            result.uncovered.append(f"{name}: of {final.start_time} to {final.end_time} s only {covered:.2f} s")
        apart = min(
            (
                max(abs(final.start_time - other.start_time), abs(final.end_time - other.end_time))
                for other in disturbed.finals
            ),
            default=float("inf"),
        )
        if apart <= SAME_TIME_S:
            result.same_finals += 1
            result.time_apart_s.append(round(apart, 4))
    result.finals += len(alone.finals)
    result.drops += len(disturbed.seams)
    result.away_s += disturbed.away_s
    result.lost_seconds += disturbed.lost_seconds
    result.broken += [f"{name}: {line}" for heard in (alone, disturbed) for line in heard.broken]


async def measure(told: list[Speech], url: str, drops: int, seed: int) -> tuple[Result, list[tuple[Heard, Heard]]]:
    """Let everybody speak over both streams, and compare."""
    moments = random.Random(seed)
    shares = [drops // len(told) + (number < drops % len(told)) for number in range(len(told))]
    cuts = [
        sorted(round(moments.uniform(0.5, speech.seconds - 0.5), 2) for _ in range(share))
        for speech, share in zip(told, shares, strict=True)
    ]
    streams = [hear(speech, url, []) for speech in told]
    streams += [hear(speech, url, mine) for speech, mine in zip(told, cuts, strict=True)]
    running = [asyncio.create_task(stream) for stream in streams]
    started, longest = time.monotonic(), max(speech.seconds for speech in told)
    while not all(task.done() for task in running):
        await asyncio.wait(running, timeout=5)
        spent = time.monotonic() - started
        print(f"\r  {len(running)} streams: {spent:.0f} of about {longest:.0f} s ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    heard = [task.result() for task in running]
    pairs = list(zip(heard[: len(told)], heard[len(told) :], strict=True))
    result = Result()
    for number, (speech, (alone, disturbed)) in enumerate(zip(told, pairs, strict=True), 1):
        compare(speech, alone, disturbed, f"speaker {number}", result)
    said = [" ".join(spoken.clip.text for spoken in speech.spoken) for speech in told]
    result.wer_alone = errors_of(said, (" ".join(alone.words) for alone, _ in pairs))
    result.wer_cut = errors_of(said, (" ".join(disturbed.words) for _, disturbed in pairs))
    return result, pairs


def table(result: Result) -> str:
    """The result as Markdown."""
    assert result.wer_alone is not None
    assert result.wer_cut is not None
    away = f"{percentile(result.away_s, 0.5) or 0:.2f} / {max(result.away_s, default=0):.2f} s"
    apart = f"p95 {(percentile(result.time_apart_s, 0.95) or 0) * 1000:.0f} ms apart"
    rows = [
        ("connections cut", f"{result.drops}"),
        ("WER left alone", f"{result.wer_alone.wer_percent:.2f} % ({result.wer_alone.told})"),
        ("WER cut", f"{result.wer_cut.wer_percent:.2f} % ({result.wer_cut.told})"),
        ("words lost or doubled at seams", f"{len(result.slips)}"),
        ("audio heard twice / not heard, places", f"{len(result.heard_twice)} / {len(result.uncovered)}"),
        (
            f"finals at the same times within {SAME_TIME_S * 1000:.0f} ms",
            f"{result.same_finals} of {result.finals}; {apart}",
        ),
        ("promises of the protocol broken", f"{len(result.broken)}"),
        ("cut to ready again, p50 / worst", away),
    ]
    return "\n".join(["| | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def main() -> int:
    """Measure, print, write the result, and tell by the exit status whether anything was lost."""
    parser = argparse.ArgumentParser(description="Words of streams whose connections are cut, beside undisturbed ones.")
    parser.add_argument("folder", nargs="?", type=Path, default=CLIPS, help="with manifest.jsonl (default: the tests')")
    parser.add_argument("--url", default=ASR_URL)
    parser.add_argument("--streams", type=int, default=5, help="speakers at once; each speaks over two streams")
    parser.add_argument("--clips", type=int, default=50, help="of all speakers together")
    parser.add_argument("--drops", type=int, default=20, help="connections to cut, of all speakers together")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_reconnect", help="without suffix")
    parser.add_argument("--texts", type=Path, help="also write the finals and the cuts of every stream, as JSON")
    asked = parser.parse_args()

    told = speeches(read_manifest(asked.folder), asked.streams, asked.clips)
    try:
        result, pairs = asyncio.run(measure(told, asked.url, asked.drops, asked.seed))
    except (ChorusError, OSError) as error:
        print(explain(error, asked.url), file=sys.stderr)
        return 1
    text = (
        f"{sum(len(speech.spoken) for speech in told)} clips by {len(told)} speakers over two streams each; "
        f"seed {asked.seed}; {machine.in_words()}\n\n{table(result)}"
    )
    print(text, end="")
    machine.write_result(asked.output, text, {"seed": asked.seed, **asdict(result)})
    if asked.texts:
        texts = [
            {
                "said": [[round(spoken.start, 2), spoken.clip.text] for spoken in speech.spoken],
                "cuts": disturbed.cuts,
                "seams": disturbed.seams,
                **{
                    name: [[final.start_time, final.end_time, final.text] for final in heard.finals]
                    for name, heard in (("alone", alone), ("cut", disturbed))
                },
            }
            for speech, (alone, disturbed) in zip(told, pairs, strict=True)
        ]
        asked.texts.write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for line in (*result.slips, *result.heard_twice, *result.uncovered, *result.broken):
        print(line, file=sys.stderr)
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
