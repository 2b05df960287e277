"""Synthesis with the real voice: chunks that equal the whole, every format, isolation, cancel."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from chorus.aio import connect_tts
from chorus.errors import Refused
from chorus.speech import Speech, speak
from chorus.tts import Audio
from chorus.wire import tts as wire
from serving.audio import decode
from tests.conftest import running
from tests.unit.decoders import by_ffmpeg
from tts import chunks
from tts.encoders import CONTAINERS
from tts.loudness import integrated_lufs
from tts.phonemes import MOST_PHONEMES
from tts.service import TtsService
from tts.settings import TtsSettings
from tts.voice import Manner, Voice, _session

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

EXACT = {"noise_scale": 0, "noise_w_scale": 0}
VARIED = Path(__file__).parents[1] / "data" / "sentences.txt"
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


async def test_chunks_equal_the_whole(voice: Voice, models_dir: Path) -> None:
    """Joined chunks have the uncut graph's length to the sample, and its sound: at least 60 dB, for 50 sentences."""
    uncut = _session(models_dir / "piper-en_US-joe-medium" / "en_US-joe-medium.onnx", "cpu", 2)
    still = Manner(noise_scale=0, noise_w_scale=0)
    texts = VARIED.read_text(encoding="utf-8").splitlines()
    assert len(texts) == 50
    for text in texts:
        for ids in voice.phonemize(text):
            whole = uncut.run(None, voice._front_inputs(ids, still))[0].reshape(-1)
            joined = np.concatenate(list(voice.render(ids, still)))
            assert len(joined) == len(whole), text
            assert snr_db(whole, joined) >= 60, text


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
    trained = voice._sound
    monkeypatch.setattr(voice, "_sound", lambda *arguments: trained(*arguments) * np.float32(factor))
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


async def test_a_hundred_at_once_get_their_own_bytes(models_dir: Path) -> None:
    """Far more than a machine can feed at once: some wait, and each gets exactly what it would get alone."""
    settings = TtsSettings(
        host="127.0.0.1", port=0, admin_port=0, MODELS_DIR=models_dir, max_connections=100, max_wait_s=600
    )
    texts = [f"Number {number}, please come in." for number in range(20)]
    async with running(TtsService(settings)) as replica:
        url = f"ws://127.0.0.1:{replica.stream_listener.port}"
        alone = [(await speak(text, url, **EXACT)).audio for text in texts]
        assert len(set(alone)) == 20
        together = await asyncio.gather(*(speak(text, url, **EXACT) for text in texts * 5))
    assert [spoken.audio for spoken in together] == alone * 5


async def test_chunks_of_any_size_sound_the_same(voice: Voice) -> None:
    """The engine cuts by what it has time for; nobody hears where."""
    (ids,) = voice.phonemize(SENTENCES[2])
    even = Manner(noise_scale=0, noise_w_scale=0)
    steady = np.concatenate(list(voice.render(ids, even)))
    for size in (24, 96, 200):
        utterance = voice.begin(ids, even)
        parts = []
        while utterance.left:
            parts += voice.go_on([utterance], size)
        assert len(np.concatenate(parts)) == len(steady)
        assert snr_db(steady, np.concatenate(parts)) >= 60


async def test_a_batch_gives_what_each_would_give_alone(voice: Voice) -> None:
    """Chunks of two sentences in one call of the model, as on a GPU."""
    even = Manner(noise_scale=0, noise_w_scale=0)
    runs = [voice.phonemize(text)[0] for text in SENTENCES[1:3]]
    batched, alone = ([voice.begin(ids, even) for ids in runs] for _ in range(2))
    for size in (24, 48):
        rows = voice.go_on(batched, size)
        for row, each in zip(rows, alone, strict=True):
            (single,) = voice.go_on([each], size)
            assert len(row) == len(single)
            assert snr_db(single, row) >= 60


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


WORDS = [
    "Well, I am going to be there in the morning, but it would be the first of the days that he has been with us.",
    "She paid 42 dollars for 3 of them; who, if not she, could have done that at the end of the day?",
    "The U.S. and the U.K. — of course — are in it, e.g. at 10:30, with [[ həlˈoʊ ]] or \u2603, which is odd.",
]


def words_of(spoken: Speech) -> list[wire.TimedWord]:
    """Every timed word of a speech, in order."""
    return [word for event in spoken.events if isinstance(event, wire.WordTimestamps) for word in event.words]


def in_order(words: list[wire.TimedWord], seconds: float) -> bool:
    """Whether no time runs backwards, and all lie within the audio."""
    edges = [0, *(edge for word in words for edge in (word.start, word.end)), seconds]
    return all(before <= after for before, after in pairwise(edges))


def onset(audio: NDArray[np.float32], rate: int, start: float, end: float) -> float:
    """The second between the two at which it becomes as loud as speech: within 35 dB of the loud parts."""
    frame = rate // 200
    power = np.mean(audio[: len(audio) // frame * frame].reshape(-1, frame) ** 2, axis=1) + 1e-12
    levels = 10 * np.log10(power)
    loud = levels >= np.percentile(levels, 95) - 35
    first = round(start * rate / frame)
    return (first + int(np.argmax(loud[first : round(end * rate / frame)]))) * frame / rate


async def test_phonemes_are_as_long_as_the_audio(voice: Voice) -> None:
    """To the sample: words and the silences between them are the whole sentence."""
    for text in (*SENTENCES, *WORDS):
        for ids in voice.phonemize(text):
            for manner in (Manner(), Manner(speed=0.6, noise_w_scale=0)):
                utterance = voice.begin(ids, manner)
                (samples,) = voice.go_on([utterance], utterance.frames)
                assert utterance.lengths is not None
                assert len(utterance.lengths) == len(ids)
                assert utterance.lengths.sum() == len(samples)


@pytest.mark.parametrize("settings", [{}, {"speed": 0.7}, {"sample_rate": 8000, "encoding": "mulaw", "speed": 1.6}])
async def test_every_written_word_is_timed(tts: str, settings: dict[str, Any]) -> None:
    """Numbers, merged words, symbols and phonemes: each word once, as written, in order, within the request."""
    spoken = await speak(" ".join(WORDS), tts, word_timestamps=True, sentence_silence_ms=300, **settings)
    words = words_of(spoken)
    expected = " ".join(WORDS).replace("[[ həlˈoʊ ]]", "[[həlˈoʊ]]").split()
    assert [word.word.replace(" ", "") for word in words] == expected
    assert in_order(words, spoken.seconds)
    silent = {word.word for word in words if word.end == word.start}
    assert silent <= {"—", "\u2603,"}
    starts = [event for event in spoken.events if isinstance(event, wire.AudioStart)]
    ends = [event.seconds for event in spoken.events if isinstance(event, wire.AudioEnd)]
    begins = np.cumsum([0, *ends])
    for at, start in enumerate(starts):  # each sentence's words within its audio, and none in the pause before it
        first = next(word for word in words if word.start >= begins[at] - 1e-6)
        assert first.word == start.text.split()[0]
        assert first.start >= begins[at] + (0.3 if at else 0)


async def test_merged_words_share_their_phonemes(tts: str) -> None:
    """espeak-ng says "of the" and "in the" as one; both words have their time, a number as long as its three words."""
    spoken = await speak("Most of the 342 dogs in the house.", tts, word_timestamps=True, **EXACT)
    times = {word.word: word.end - word.start for word in words_of(spoken)}
    assert min(times.values()) > 0.02
    assert times["342"] > 3 * times["of"]


async def test_words_after_pauses_begin_with_the_sound(tts: str) -> None:
    """After the pause between sentences and after commas, within 50 ms of where the audio becomes loud."""
    text = " ".join(WORDS[:2] * 3)
    spoken = await speak(text, tts, word_timestamps=True, sentence_silence_ms=400)
    audio, words = decode(spoken.audio, "pcm_s16le"), words_of(spoken)
    off = []
    for before, word in pairwise(words):
        if before.word[-1] in ",;.?":
            heard = onset(audio, spoken.sample_rate, (before.end + word.start) / 2, word.end)
            off.append(word.start - heard)
    assert len(off) == 6 * 3 + 5 - 3  # inner pauses and those between sentences
    assert max(map(abs, off)) <= 0.05


async def test_words_are_told_before_they_are_heard(tts: str) -> None:
    """The first with the first audio of their sentence; of a request that is cancelled those that were begun."""
    async with connect_tts(tts, word_timestamps=True) as stream:
        await stream.send(stream.protocol.synthesize(" ".join(WORDS * 5), "long"))
        heard, told = 0.0, list[wire.TimedWord]()
        async for event in stream:
            if isinstance(event, wire.WordTimestamps):
                assert event.words[0].start >= heard - 0.06
                told += event.words
            elif isinstance(event, Audio):
                assert told
                heard += event.seconds or 0
                if heard > 5:
                    await stream.send(stream.protocol.cancel("long"))
                    break
        assert in_order(told, 1000)
        await stream.send(stream.protocol.close())
        assert any(isinstance(event, wire.Cancelled) for event in [event async for event in stream])
