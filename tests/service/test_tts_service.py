"""Synthesis with the real voice: chunks that equal the whole, every format, isolation, cancel."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from chorus.aio import connect_tts
from chorus.errors import Refused
from chorus.speech import speak
from chorus.tts import Audio
from chorus.wire import tts as wire
from serving.audio import decode
from tests.unit.decoders import by_ffmpeg
from tts import chunks
from tts.encoders import CONTAINERS
from tts.loudness import integrated_lufs
from tts.phonemes import MOST_PHONEMES
from tts.voice import Manner, Voice

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

EXACT = {"noise_scale": 0, "noise_w_scale": 0}
SENTENCES = [
    "Yes.",
    "Hello there, how are you today?",
    "The quick brown fox jumps over the lazy dog, and runs away into the dark forest.",
    "On the 3rd of May, 1999, Dr. Jones paid $12.50 for 7 apples at the corner shop near St. James's Park.",
]


def snr_db(signal: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How much louder the signal is than its difference from the other."""
    return float(10 * np.log10((signal**2).mean() / max(1e-30, float(((signal - other) ** 2).mean()))))


@pytest.fixture(scope="module")
def voice(models_dir: Path) -> Voice:
    return Voice(models_dir / "piper-en_US-joe-medium", "en_US-joe-medium", device="cpu", threads=2)


@pytest.mark.parametrize("text", SENTENCES)
async def test_chunks_equal_the_whole(voice: Voice, text: str) -> None:
    """Joined chunks have the whole rendering's length to the sample, and its sound: at least 60 dB."""
    assert voice._cut is not None
    for ids in voice.phonemize(text):
        manner = Manner(noise_scale=0, noise_w_scale=0)
        names = [voice._cut.latent, *voice._cut.others]
        front = voice._run(voice._front, names, voice._front_inputs(ids, manner))
        whole = voice._run(voice._back, None, dict(zip(names, front, strict=True)))[0].reshape(-1)
        joined = np.concatenate(list(voice.render(ids, manner)))
        assert len(joined) == len(whole)
        assert snr_db(whole, joined) >= 60


async def test_a_voice_whose_chunks_differ_is_rendered_whole(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warming up compares; a voice that hears further than the overlap reaches is not spoilt by it."""
    voice.warm_up()
    assert voice._plan is chunks.plan
    monkeypatch.setattr(chunks, "OVERLAP_FRAMES", 2)
    voice.warm_up()
    assert voice._plan is chunks.whole
    (ids,) = voice.phonemize(SENTENCES[1])
    assert len(list(voice.render(ids, Manner()))) == 1
    monkeypatch.undo()
    voice.warm_up()
    assert voice._plan is chunks.plan


async def test_text_without_an_end_never_becomes_one_long_call(voice: Voice) -> None:
    """A word of 2,000 letters or digits takes the encoder several calls, each of a length it can bear."""
    for text in ("word " * 400, "a" * 2000, "9" * 2000):
        assert max(len(ids) for ids in voice.phonemize(text)) <= 2 * MOST_PHONEMES + 3


async def test_the_cut_voice_sounds_as_pipers_own(voice: Voice, models_dir: Path) -> None:
    """The same samples as PiperVoice's, up to the loudness that it normalises."""
    from piper import PiperVoice
    from piper.config import SynthesisConfig

    path = models_dir / "piper-en_US-joe-medium" / "en_US-joe-medium.onnx"
    piper = PiperVoice.load(path)
    config = SynthesisConfig(noise_scale=0, noise_w_scale=0, normalize_audio=False)
    theirs = np.concatenate([chunk.audio_float_array for chunk in piper.synthesize(SENTENCES[2], config)])
    (ids,) = voice.phonemize(SENTENCES[2])
    ours = np.concatenate(list(voice.render(ids, Manner(noise_scale=0, noise_w_scale=0))))
    assert len(ours) == len(theirs)
    assert snr_db(theirs, ours) >= 60


async def test_every_encoding_sounds_the_same(tts: str) -> None:
    """G.711 and float at the voice's rate are the 16-bit samples within what the format can hold."""
    plain = await speak(SENTENCES[1], tts, **EXACT)
    reference = decode(plain.audio, "pcm_s16le")
    assert plain.sample_rate == 22050
    for encoding, least in (("pcm_f32le", 70), ("mulaw", 30), ("alaw", 30)):
        spoken = await speak(SENTENCES[1], tts, encoding=encoding, **EXACT)
        samples = decode(spoken.audio, encoding)  # type: ignore[arg-type]
        assert len(samples) == len(reference)
        assert snr_db(reference, samples) > least


@pytest.mark.parametrize("encoding", CONTAINERS)
async def test_a_reply_is_one_stream_that_plays(tts: str, encoding: str) -> None:
    """Several sentences and pauses in one container: as long as told, and the sound of the plain samples."""
    text, settings = " ".join(SENTENCES[1:3]), EXACT | {"sentence_silence_ms": 150}
    plain = await speak(text, tts, **settings)
    spoken = await speak(text, tts, encoding=encoding, **settings)
    starts = [event for event in spoken.events if isinstance(event, wire.AudioStart)]
    assert {(each.encoding, each.sample_rate) for each in starts} == {(encoding, spoken.sample_rate)}
    assert [each.sentence for each in starts] == [1, 2]
    assert spoken.sample_rate == (24000 if encoding == "opus" else 22050)
    assert spoken.seconds == pytest.approx(plain.seconds, abs=1e-3)
    samples, rate = by_ffmpeg(spoken.audio)
    reference = decode(plain.audio, "pcm_s16le")
    if encoding == "flac":
        assert np.array_equal(samples, reference)
        return
    samples = soxr.resample(samples, rate, 22050)[1105 if encoding == "mp3" else 0 :]
    assert len(samples) == pytest.approx(len(reference), abs=1152 if encoding == "mp3" else 30)
    length = min(len(samples), len(reference))
    assert snr_db(reference[:length], samples[:length]) > 10


@pytest.mark.parametrize("encoding", CONTAINERS)
async def test_a_stream_cut_off_by_a_cancel_plays_its_beginning(tts: str, encoding: str) -> None:
    """What was sent opens, and lasts as long as `cancelled` says."""
    async with connect_tts(tts, encoding=encoding, **EXACT) as stream:
        await stream.send(stream.protocol.synthesize(" ".join(SENTENCES[1:] * 5), "long"))
        heard, cancelled = b"", None
        while cancelled is None:
            event = await stream.receive()
            if isinstance(event, Audio):
                if len(heard) < 20000 <= len(heard) + len(event.data):
                    await stream.send(stream.protocol.cancel("long"))
                heard += event.data
            elif isinstance(event, wire.Cancelled):
                cancelled = event
    samples, rate = by_ffmpeg(heard)
    late = 1105 / 22050 if encoding == "mp3" else 0
    assert cancelled.seconds_sent > 0.5
    assert len(samples) / rate - late == pytest.approx(cancelled.seconds_sent, abs=1e-3)


@pytest.mark.parametrize("encoding", CONTAINERS)
@pytest.mark.parametrize("speed", [0.25, 4])
async def test_every_speed_in_every_container(tts: str, encoding: str, speed: float) -> None:
    """The ends of the range last as long as they do in plain samples."""
    plain = await speak(SENTENCES[1], tts, speed=speed, **EXACT)
    spoken = await speak(SENTENCES[1], tts, speed=speed, encoding=encoding, **EXACT)
    assert spoken.seconds == pytest.approx(plain.seconds, abs=1e-3)
    samples, rate = by_ffmpeg(spoken.audio)
    assert len(samples) / rate == pytest.approx(plain.seconds, abs=0.15)


@pytest.mark.parametrize("factor", [0.25, 1.6])
async def test_a_voice_of_any_level_is_made_as_loud_as_others(
    voice: Voice, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A voice that was trained softer or louder speaks at the wanted loudness; chunks stay what the whole is."""
    trained = voice._run

    def at_another_level(*arguments: Any) -> list[NDArray[np.float32]]:
        results = trained(*arguments)
        return results if arguments[1] else [results[0] * np.float32(factor)]

    monkeypatch.setattr(voice, "_run", at_another_level)
    monkeypatch.setattr(voice, "_gain", None)
    voice.level_to(-21)
    spoken = {}
    for plan in (chunks.plan, chunks.whole):
        monkeypatch.setattr(voice, "_plan", plan)
        ids = [each for text in SENTENCES[1:] for each in voice.phonemize(text)]
        rendered = [part for each in ids for part in voice.render(each, Manner(noise_scale=0, noise_w_scale=0))]
        spoken[plan] = np.concatenate(rendered)
    assert integrated_lufs(spoken[chunks.plan], voice.sample_rate) == pytest.approx(-21, abs=1)
    assert len(spoken[chunks.plan]) == len(spoken[chunks.whole])
    assert snr_db(spoken[chunks.whole], spoken[chunks.plan]) >= 60
    assert np.abs(spoken[chunks.plan]).max() < 1


async def test_replies_have_the_loudness_that_is_set(tts: str) -> None:
    """-19 LUFS where nothing else is."""
    spoken = await speak(" ".join(SENTENCES), tts, **EXACT)
    assert integrated_lufs(decode(spoken.audio, "pcm_s16le"), 22050) == pytest.approx(-19, abs=1)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
async def test_every_sample_rate_lasts_as_long(tts: str, rate: int) -> None:
    """The same seconds at each rate, as announced."""
    native = await speak(SENTENCES[1], tts, **EXACT)
    spoken = await speak(SENTENCES[1], tts, sample_rate=rate, **EXACT)
    assert spoken.sample_rate == rate
    assert len(spoken.audio) / 2 / rate == pytest.approx(native.seconds, abs=2 / rate)
    assert spoken.seconds == pytest.approx(native.seconds, abs=2 / rate)


async def test_speed_changes_the_length(tts: str) -> None:
    """Twice as fast is nearly half as long: a phoneme lasts whole frames, rounded up."""
    slow, fast = [await speak(SENTENCES[2], tts, speed=speed, **EXACT) for speed in (1, 2)]
    assert 0.5 <= fast.seconds / slow.seconds < 0.7


async def test_sixteen_at_once_get_their_own_bytes(tts: str) -> None:
    """With noise 0 the bytes are those of a rendering made alone."""
    alone = [(await speak(text, tts, **EXACT)).audio for text in SENTENCES]
    together = await asyncio.gather(*(speak(text, tts, **EXACT) for text in SENTENCES * 4))
    assert [spoken.audio for spoken in together] == alone * 4


async def test_cancel_ends_a_request_in_its_middle(tts: str) -> None:
    """What was sent is what `cancelled` says, and the next request is whole."""
    async with connect_tts(tts, **EXACT) as stream:
        await stream.send(stream.protocol.synthesize(" ".join(SENTENCES * 5), "long"))
        heard = 0
        async for event in stream:
            if isinstance(event, Audio):
                heard += len(event.data)
                await stream.send(stream.protocol.cancel("long"))
                break
        cancelled = None
        while cancelled is None:
            event = await stream.receive()
            if isinstance(event, Audio):
                heard += len(event.data)
            elif isinstance(event, wire.Cancelled):
                cancelled = event
        assert cancelled.seconds_sent == pytest.approx(heard / 2 / 22050, abs=1e-5)
        await stream.send(stream.protocol.synthesize(SENTENCES[1], "next"))
        await stream.send(stream.protocol.close())
        events = [event async for event in stream]
    after = b"".join(event.data for event in events if isinstance(event, Audio))
    assert after == (await speak(SENTENCES[1], tts, **EXACT)).audio
    assert isinstance(events[-1], wire.Done)
    assert (events[-1].requests, events[-1].cancelled) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"encoding": "aac"}, "bad_config"),
        ({"encoding": "opus", "sample_rate": 22050}, "bad_config"),
        ({"encoding": "mp3", "sample_rate": 10000}, "bad_config"),
        ({"encoding": "flac", "speed": 0.2}, "bad_config"),
        ({"encoding": "opus", "speed": 4.1}, "bad_config"),
        ({"encoding": "mp3", "sentence_silence_ms": -1}, "bad_config"),
        ({"word_timestamps": True}, "bad_config"),
        ({"voice": "nobody"}, "unknown_voice"),
        ({"speaker": 5}, "bad_config"),
    ],
)
async def test_what_is_not_served_is_refused(tts: str, settings: dict[str, object], code: str) -> None:
    """400 with its code."""
    with pytest.raises(Refused) as refused:
        async with connect_tts(tts, **settings):
            pass
    assert (refused.value.status, refused.value.code) == (400, code)


async def test_raw_phonemes_and_odd_text_are_spoken(tts: str) -> None:
    """`[[ phonemes ]]` pass through; symbols that nobody can say cost nothing."""
    spoken = await speak("Say [[ həlˈoʊ ]] to \u0000 the ☃ world ∑ now.", tts)
    assert spoken.seconds > 0.5
