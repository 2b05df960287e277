"""Real speech through nginx: the right words, and nobody's but one's own."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request

import jiwer
import pytest
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer

from chorus.aio import connect_asr, reconnecting_asr
from chorus.reconnect import Resumed
from chorus.speech import speak
from chorus.tasks import send_and_receive
from chorus.wire import asr as wire
from tests.conftest import DATA
from tests.stack.conftest import ASR, TTS, scale

pytestmark = pytest.mark.stack

CLIPS = [json.loads(line) for line in (DATA / "speech" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
SENTENCES = [
    "The first customer would like to order a large pizza.",
    "My second question is about the train to the airport.",
    "Please remind me to water the garden in the evening.",
    "The library closes at six and opens again on Monday.",
    "There were seven boats on the lake this morning.",
    "Her brother plays the piano and sings in a choir.",
    "The doctor will call you back before the weekend.",
    "A strong wind blew the hat across the river.",
]
normalise = EnglishTextNormalizer()


async def hear(audio: bytes, rate: int, frame_s: float = 0.1) -> tuple[str, wire.Done]:
    """The words of 16-bit mono audio, sent faster than it is spoken."""
    async with connect_asr(ASR, sample_rate=rate) as stream:
        size = int(rate * frame_s) * 2
        for start in range(0, len(audio), size):
            await stream.send(audio[start : start + size])
            await asyncio.sleep(frame_s / 4)
        await stream.send(stream.protocol.close())
        async for _ in stream:
            pass
        assert stream.protocol.done is not None
        return stream.protocol.text, stream.protocol.done


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


async def test_real_speech_gives_the_right_words() -> None:
    """The clips, four at once: fewer than one word in six wrong, every second of audio accounted for."""
    slots = asyncio.Semaphore(4)

    async def one(clip: dict[str, str]) -> str:
        async with slots:
            samples, rate = soundfile.read(DATA / "speech" / clip["audio"], dtype="int16")
            text, done = await hear(samples.tobytes(), rate)
            assert done.audio_seconds == pytest.approx(len(samples) / rate, abs=1e-4)
            return text

    heard = await asyncio.gather(*(one(clip) for clip in CLIPS))
    references = [normalise(clip["text"]) for clip in CLIPS]
    assert jiwer.wer(references, [normalise(text) for text in heard]) < 1 / 6


async def test_many_at_once_get_their_own_bytes_and_words() -> None:
    """Each of 24 listeners gets exactly the bytes that its text gives alone, each of 8 speakers its own words."""
    scale(asr=2, tts=2)
    exact = {"noise_scale": 0, "noise_w_scale": 0, "sample_rate": 16000}
    alone = [await speak(text, TTS, **exact) for text in SENTENCES]
    assert len({spoken.audio for spoken in alone}) == len(SENTENCES)
    together = await asyncio.gather(*(speak(text, TTS, **exact) for text in SENTENCES * 3))
    for number, spoken in enumerate(together):
        assert spoken.audio == alone[number % len(SENTENCES)].audio, SENTENCES[number % len(SENTENCES)]

    heard = await asyncio.gather(*(hear(spoken.audio, 16000) for spoken in alone))
    for text, (got, _) in zip(SENTENCES, heard, strict=True):
        errors = {other: jiwer.wer(" ".join(words(other)), " ".join(words(got))) for other in SENTENCES}
        assert min(errors, key=lambda each: errors[each]) == text
        assert errors[text] < 0.35, got
    scale()


async def test_a_connection_that_is_lost_costs_no_word() -> None:
    """Cut in the middle of each of two utterances, the client goes on by itself: the words are an unbroken stream's."""
    samples, rate = soundfile.read(DATA / "speech" / CLIPS[0]["audio"], dtype="int16")
    audio = (samples.tobytes() + bytes(2 * rate)) * 2
    whole, done = await hear(audio, rate)
    cut: set[int] = set()
    resumed: list[Resumed] = []

    async with reconnecting_asr(ASR, sample_rate=rate) as stream:

        async def say() -> None:
            size = rate // 10 * 2
            for start in range(0, len(audio), size):
                await stream.send(stream.protocol.audio(audio[start : start + size]))
                await asyncio.sleep(0.1)
            await stream.send(stream.protocol.close())

        async def listen() -> None:
            async for event in stream:
                if isinstance(event, wire.Partial) and event.utterance not in cut:
                    cut.add(event.utterance)
                    assert stream.socket is not None
                    stream.socket.transport.abort()
                elif isinstance(event, Resumed):
                    resumed.append(event)

        await send_and_receive(say(), listen())
    assert len(resumed) == 2
    assert resumed[1].time == stream.protocol.finals[0].end_time
    assert all(each.lost_seconds == 0 for each in resumed)
    assert words(stream.protocol.text) == words(whole)
    assert stream.protocol.done is not None
    assert stream.protocol.done.audio_seconds == pytest.approx(done.audio_seconds, abs=1e-3)
    assert stream.protocol.done.utterances == done.utterances


async def test_the_request_id_reaches_the_answer() -> None:
    """A sane X-Request-ID comes back, another one is replaced."""

    def ask(given: str) -> str:
        request = urllib.request.Request("http://127.0.0.1:8000/health", headers={"X-Request-ID": given})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["X-Request-ID"])

    assert await asyncio.to_thread(ask, "call-42") == "call-42"
    assert re.fullmatch(r"[0-9a-f]{32}", await asyncio.to_thread(ask, 'bad "id"'))
