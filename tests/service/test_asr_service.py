"""Recognition with the real models: words in every format, and none where nobody speaks."""

from __future__ import annotations

import asyncio
import json

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

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


def typing(seconds: float, keys_per_second: float, seed: int) -> Audio:
    """A keyboard: short noise bursts with a resonance, press and release, at uneven times."""
    random = np.random.default_rng(seed)
    audio = np.zeros(int(seconds * RATE), np.float32)
    time = 0.2
    while time < seconds - 0.3:
        for delay, loudness in (
            (0.0, random.uniform(0.1, 0.5)),
            (random.uniform(0.05, 0.12), random.uniform(0.05, 0.2)),
        ):
            length = int(RATE * random.uniform(0.005, 0.03))
            t = np.arange(length) / RATE
            ring = np.sin(2 * np.pi * random.uniform(800, 4500) * t)
            burst = (random.normal(0, 1, length) * 0.6 + ring * 0.4) * np.exp(-t * random.uniform(150, 500))
            start = int((time + delay) * RATE)
            audio[start : start + length] += (burst * loudness).astype(np.float32)
        time += random.exponential(1 / keys_per_second)
    return np.clip(audio, -1, 1)


def noise(kind: str) -> Audio:
    """Thirty seconds in which nobody speaks."""
    random = np.random.default_rng(7)
    count = 30 * RATE
    white = random.normal(0, 1, count).astype(np.float32)
    if kind == "silence":
        return np.zeros(count, np.float32)
    if kind.startswith("white"):
        return white * {"white quiet": 0.003, "white": 0.05, "white loud": 0.3}[kind]
    if kind == "brown":
        spectrum = np.fft.rfft(white) / np.maximum(np.arange(count // 2 + 1), 50)
        brown = np.fft.irfft(spectrum, count)
        return (brown / np.abs(brown).max() * 0.3).astype(np.float32)
    if kind == "hum":
        t = np.arange(count) / RATE
        return (0.2 * np.sin(2 * np.pi * 50 * t) + 0.05 * np.sin(2 * np.pi * 150 * t)).astype(np.float32)
    return typing(30, {"typing slow": 3.0, "typing": 6.0, "typing fast": 10.0}[kind], seed=len(kind))


@pytest.mark.parametrize(
    "kind",
    ["silence", "white quiet", "white", "white loud", "brown", "hum", "typing slow", "typing", "typing fast"],
)
async def test_where_nobody_speaks_there_are_no_words(asr: str, kind: str) -> None:
    """30 seconds of it yield no final with text."""
    finals, done = await hear(asr, encode(noise(kind), "pcm_s16le"))
    assert [final.text for final in finals if final.text] == []
    assert done.audio_seconds == 30.0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"task": "translate"}, "task"),
        ({"endpointing": "adaptive"}, "endpointing"),
        ({"word_timestamps": True}, "word_timestamps"),
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


async def test_a_hundred_utterances_leave_memory_bounded(asr: str) -> None:
    """RSS of this whole test process grows by less than 60 MB over a hundred utterances."""

    def memory_mb() -> float:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096 / 1e6

    data = encode(clip(CLEAR), "pcm_s16le")
    for _ in range(10):
        await hear(asr, data)
    before = memory_mb()
    for _ in range(25):
        await asyncio.gather(*(hear(asr, data, interim_results=False) for _ in range(4)))
    assert memory_mb() < before + 60
