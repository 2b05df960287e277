"""Recognition with the real models: words in every format, and none where nobody speaks."""

from __future__ import annotations

import asyncio
import json

import jiwer
import msgspec
import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks import noises
from chorus.aio import connect_asr
from chorus.errors import Refused
from chorus.wire import asr as wire
from serving.audio import Pcm, encode
from tests.conftest import DATA

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

RATE = 16000
Audio = NDArray[np.float32]
CLIPS = {
    clip["audio"]: clip["text"]
    for clip in map(json.loads, (DATA / "speech" / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
}
CLEAR = "3331-159605-0001.flac"
normalise = EnglishTextNormalizer()


def clip(name: str) -> Audio:
    samples, rate = soundfile.read(DATA / "speech" / name, dtype="float32")
    assert rate == RATE
    return np.asarray(samples, np.float32)


async def hear(
    url: str, data: bytes, frame_bytes: int = 3200, **settings: object
) -> tuple[list[wire.Final], wire.Done]:
    """Finals and totals of a stream; the client itself checks order, stable prefixes and totals."""
    async with connect_asr(url, **settings) as stream:

        async def send() -> None:
            for start in range(0, len(data), frame_bytes):
                await stream.send(data[start : start + frame_bytes])
            await stream.send(stream.protocol.close())

        sender = asyncio.create_task(send())
        finals = [event async for event in stream if isinstance(event, wire.Final)]
        await sender
        assert stream.protocol.done is not None
        return finals, stream.protocol.done


def errors(finals: list[wire.Final], reference: str) -> float:
    return float(jiwer.wer(normalise(reference), normalise(" ".join(final.text for final in finals))))


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"),
    [
        ("pcm_s16le", 16000, 1),
        ("pcm_s16le", 8000, 1),
        ("pcm_s16le", 44100, 1),
        ("pcm_f32le", 48000, 2),
        ("mulaw", 8000, 1),
        ("alaw", 8000, 1),
    ],
)
async def test_every_format_gives_the_words(asr: str, encoding: Pcm, rate: int, channels: int) -> None:
    """The same clip in each encoding, rate and channel count, in frames that cut samples."""
    samples = soxr.resample(clip(CLEAR), RATE, rate)
    data = encode(np.repeat(samples, channels), encoding)
    finals, done = await hear(asr, data, frame_bytes=641, encoding=encoding, sample_rate=rate, channels=channels)
    assert errors(finals, CLIPS[CLEAR]) <= 0.2
    assert done.audio_seconds == pytest.approx(len(samples) / rate, abs=1e-4)


async def test_the_clips_are_understood(asr: str) -> None:
    """Fewer than one word in six wrong over the ten clips, each final with a confidence."""
    heard = []
    for name in CLIPS:
        finals, done = await hear(asr, encode(clip(name), "pcm_s16le"))
        assert len(finals) == done.utterances
        assert all(0 < final.confidence <= 1 and final.language == "en" for final in finals if final.text)
        heard.append(normalise(" ".join(final.text for final in finals)))
    assert jiwer.wer([normalise(text) for text in CLIPS.values()], heard) < 1 / 6


@pytest.mark.parametrize("kind", [*noises.STATIONARY, *noises.CHANGING])
async def test_where_nobody_speaks_there_are_no_words(asr: str, kind: str) -> None:
    """20 seconds of it yield no final with text."""
    noise = noises.sound(kind, 20)
    finals, done = await hear(asr, encode(noise, "pcm_s16le"))
    assert [final.text for final in finals if final.text] == []
    assert done.audio_seconds == pytest.approx(len(noise) / RATE, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"task": "translate"}, "task"),
        ({"endpointing": "patient"}, "endpointing"),
        ({"language": "fr"}, "language"),
        ({"sample_rate": 7999}, "sample_rate"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(asr: str, settings: dict[str, object], named: str) -> None:
    """400 with `bad_config`."""
    with pytest.raises(Refused) as refused:
        async with connect_asr(asr, **settings):
            pass
    assert (refused.value.status, refused.value.code) == (400, "bad_config")
    assert named in refused.value.message


async def test_words_have_their_times_and_endpoints_may_adapt(asr: str) -> None:
    """Both are served by the real models: the words are the text, in order, within their utterance."""
    data = encode(clip(CLEAR), "pcm_s16le")
    finals, _ = await hear(asr, data, word_timestamps=True, endpointing="adaptive")
    assert finals
    for final in finals:
        assert not isinstance(final.words, msgspec.UnsetType)
        assert " ".join(word.word for word in final.words) == final.text
        starts = [word.start for word in final.words]
        assert starts == sorted(starts)
        assert all(final.start_time <= word.start <= word.end <= final.end_time for word in final.words)


def memory_mb() -> float:
    """Of this whole test process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


async def test_a_hundred_utterances_leave_memory_bounded(asr: str) -> None:
    """It grows by less than 60 MB over a hundred utterances."""
    data = encode(clip(CLEAR), "pcm_s16le")
    for _ in range(10):
        await hear(asr, data)
    before = memory_mb()
    for _ in range(25):
        await asyncio.gather(*(hear(asr, data, interim_results=False) for _ in range(4)))
    assert memory_mb() < before + 60


async def test_a_long_stream_keeps_its_clock_and_forgets_its_audio(asr: str) -> None:
    """A clip said again after 20 minutes at 44100 Hz has the same times 20 minutes later, and memory has not grown."""
    rate, apart_s, silence_s = 44100, 1200, 16  # whole hops of the detector: it hears both times the same
    spoken = soxr.resample(clip(CLEAR), RATE, rate)
    tenth = encode(np.zeros(rate // 10, np.float32), "pcm_s16le")
    async with connect_asr(asr, sample_rate=rate) as stream:
        memory = [0.0]

        async def be_silent(samples: int) -> None:
            for left in range(2 * samples, 0, -len(tenth)):
                await stream.send(tenth[:left])

        async def send() -> None:
            await be_silent(silence_s * rate)
            await stream.send(encode(spoken, "pcm_s16le"))
            await be_silent(silence_s * rate)
            memory[0] = memory_mb()
            await be_silent((apart_s - silence_s) * rate - len(spoken))
            await stream.send(encode(spoken, "pcm_s16le"))
            await be_silent(rate)
            await stream.send(stream.protocol.close())

        sender = asyncio.create_task(send())
        times = [(event.start_time, event.end_time) async for event in stream if isinstance(event, wire.Final)]
        await sender
        assert stream.protocol.done is not None
        seconds = stream.protocol.done.audio_seconds
    assert seconds == pytest.approx(silence_s + apart_s + len(spoken) / rate + 1, abs=1e-6)
    first, second = times[: len(times) // 2], times[len(times) // 2 :]
    assert first
    assert second == [pytest.approx((start + apart_s, end + apart_s), abs=0.02) for start, end in first]
    assert memory_mb() < memory[0] + 25
