"""Several voices in one replica: the real one and synthetic ones made from it (tests/service/synthetic_voices.py)."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from chorus.aio import connect_tts
from chorus.errors import Refused
from chorus.speech import speak
from chorus.wire import tts as wire
from chorus.wire.common import Error
from serving.audio import encode
from tests.conftest import eventually, running
from tests.service.synthetic_voices import REAL, make_voice
from tts import chunks
from tts.service import TtsService
from tts.settings import TtsSettings
from tts.voice import Manner, Voice

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

EXACT = {"noise_scale": 0, "noise_w_scale": 0}
TEXT = "The quick brown fox jumps over the lazy dog, and runs away."
RED, GREEN, CHOIR = "en_GB-red-medium", "en_GB-green-medium", "en_GB-choir-medium"
SPEAKERS = ("alto", "tenor", "bass")
TWO_VOICES_MB = 190


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """A models folder with the real voice, three synthetic ones, and some that are broken."""
    folder = tmp_path_factory.mktemp("models")
    real = models_dir / f"piper-{REAL}"
    (folder / real.name).symlink_to(real)
    make_voice(folder, RED, real, seed=1)
    make_voice(folder, GREEN, real, seed=2)
    make_voice(folder, CHOIR, real, seed=3, speakers=SPEAKERS)
    described = json.loads((real / f"{REAL}.onnx.json").read_text(encoding="utf-8"))
    whole = (real / f"{REAL}.onnx").read_bytes()
    broken = {
        "truncated": (whole[: len(whole) // 2], described),
        "empty": (b"", described),
        "no-graph": (b"not a graph", described),
        "no-language": (whole, described | {"espeak": {"voice": "xx-nowhere"}}),
        "no-speaker-input": (whole, described | {"num_speakers": 2}),
        "no-phonemes": (whole, {key: value for key, value in described.items() if key != "phoneme_id_map"}),
        "no-rate": (whole, described | {"audio": {"sample_rate": 1}}),
    }
    for name, (onnx, text) in broken.items():
        (folder / f"piper-{name}").mkdir()
        (folder / f"piper-{name}" / f"{name}.onnx").write_bytes(onnx)
        (folder / f"piper-{name}" / f"{name}.onnx.json").write_text(json.dumps(text), encoding="utf-8")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(models: Path) -> AsyncIterator[TtsService]:
    settings = TtsSettings(host="127.0.0.1", port=0, admin_port=0, voice_memory_mb=TWO_VOICES_MB, MODELS_DIR=models)
    made = TtsService(settings)
    async with running(made) as replica:
        made.url = f"ws://127.0.0.1:{replica.stream_listener.port}"  # type: ignore[attr-defined]
        yield made


@pytest.fixture(scope="module")
def url(service: TtsService) -> str:
    """Address of a replica that has room for two voices."""
    return str(service.url)  # type: ignore[attr-defined]


@functools.cache
def loaded(models: Path, voice_id: str) -> Voice:
    """A voice of our own."""
    return Voice(models / f"piper-{voice_id}", voice_id, device="cpu", threads=2)


def expected(models: Path, voice_id: str, speaker: int = 0) -> bytes:
    """What a voice says, loaded here and rendered alone."""
    voice = loaded(models, voice_id)
    voice.level_to(TtsSettings().loudness_lufs)
    manner = Manner(speaker=speaker, noise_scale=0, noise_w_scale=0)
    parts = [part for ids in voice.phonemize(TEXT) for part in voice.render(ids, manner)]
    return encode(np.concatenate(parts), "pcm_s16le")


def figure(service: TtsService, name: str) -> float:
    """A metric's value."""
    return service.registry.get_sample_value(name) or 0.0


def nearly(one: bytes, other: bytes) -> bool:
    """The same audio, but for what the number of threads changes."""
    difference = np.frombuffer(one, "<i2").astype(np.int32) - np.frombuffer(other, "<i2")
    return int(np.abs(difference).max()) <= 1


async def test_two_voices_at_once_have_each_their_own_audio(url: str, models: Path) -> None:
    """Six streams, two voices: every byte is its own voice's, as when it speaks alone."""
    alone = {voice: (await speak(TEXT, url, voice=voice, **EXACT)).audio for voice in (REAL, RED)}
    together = await asyncio.gather(*(speak(TEXT, url, voice=voice, **EXACT) for voice in (REAL, RED) * 3))
    assert [each.audio for each in together] == [alone[REAL], alone[RED]] * 3
    assert not nearly(alone[REAL], alone[RED])
    for voice, audio in alone.items():
        assert nearly(audio, expected(models, voice))


async def test_one_stream_may_change_its_voice(url: str) -> None:
    """From request to request, also to one that has to be loaded first; in order."""
    async with connect_tts(url, **EXACT) as stream:
        for number, voice in enumerate((GREEN, REAL, RED, GREEN)):
            await stream.send(stream.protocol.synthesize(TEXT, f"{number}", voice=voice))
            if number == 1:  # three in use at once have no room
                while not isinstance(await stream.receive(), wire.SynthesisComplete):
                    pass
        await stream.send(stream.protocol.close())
        events = [event async for event in stream]
    assert [each.request_id for each in events if isinstance(each, wire.SynthesisComplete)] == ["1", "2"]
    (error,) = [each for each in events if isinstance(each, Error)]
    assert (error.code, error.request_id) == ("overloaded", "3")


async def test_a_voice_that_went_comes_back_the_same(service: TtsService, url: str) -> None:
    """Room for the default and one more: they take turns, and what is spoken does not change by it."""
    before = figure(service, "tts_voice_evictions_total")
    heard = [(await speak(TEXT, url, voice=voice, **EXACT)).audio for voice in (RED, GREEN, RED, GREEN)]
    assert heard[:2] == heard[2:]
    assert not nearly(heard[0], heard[1])
    assert figure(service, "tts_voice_evictions_total") >= before + 3
    assert set(service.describe()["voices"]["loaded"]) == {REAL, GREEN}
    assert figure(service, "tts_voices_loaded") == 2
    assert 0 < figure(service, "tts_voice_memory_bytes") <= TWO_VOICES_MB * 2**20


async def test_speakers_are_chosen_by_name_or_number(url: str, models: Path) -> None:
    """Each has a voice of its own, in chunks too, and is listed."""
    choir = loaded(models, CHOIR)
    choir.warm_up()
    assert choir._cut is not None
    assert len(choir._cut.others) == 2
    assert choir._plan is chunks.plan
    by_name = [(await speak(TEXT, url, voice=CHOIR, speaker=name, **EXACT)).audio for name in SPEAKERS]
    by_number = [(await speak(TEXT, url, voice=CHOIR, speaker=number, **EXACT)).audio for number in ("0", 1, 2)]
    assert by_name == by_number
    assert (await speak(TEXT, url, voice=CHOIR, **EXACT)).audio == by_name[0]
    for number, audio in enumerate(by_name):
        assert nearly(audio, expected(models, CHOIR, number))
        assert not nearly(audio, by_name[number - 1])
    with pytest.raises(Refused, match="alto, tenor, bass"):
        await speak(TEXT, url, voice=CHOIR, speaker="soprano")


@pytest.mark.parametrize("name", ["truncated", "empty", "no-graph", "no-language", "no-speaker-input"])
async def test_a_voice_that_cannot_be_loaded_leaves_the_others(service: TtsService, url: str, name: str) -> None:
    """The request that asks first is told why, later ones are refused, others hear nothing of it."""
    async with connect_tts(url, **EXACT) as stream:
        await stream.send(stream.protocol.synthesize(TEXT, "a", voice=name))
        await stream.send(stream.protocol.synthesize(TEXT, "b"))
        await stream.send(stream.protocol.close())
        events = [event async for event in stream]
    (error,) = [each for each in events if isinstance(each, Error)]
    assert (error.code, error.request_id, error.recoverable) == ("unknown_voice", "a", True)
    assert [each.request_id for each in events if isinstance(each, wire.SynthesisComplete)] == ["b"]
    with pytest.raises(Refused) as refused:
        await speak(TEXT, url, voice=name)
    assert (refused.value.status, refused.value.code) == (400, "unknown_voice")
    assert name in service.describe()["voices"]["failed"]


@pytest.mark.parametrize(("name", "why"), [("no-phonemes", "phoneme_id_map"), ("no-rate", "sample_rate")])
async def test_a_voice_whose_description_is_broken_is_told(url: str, name: str, why: str) -> None:
    """Without trying to load it."""
    with pytest.raises(Refused, match=why) as refused:
        await speak(TEXT, url, voice=name)
    assert refused.value.code == "unknown_voice"


async def listed(url: str) -> dict[str, wire.Voice]:
    """What `list_voices` answers, by id."""
    async with connect_tts(url) as stream:
        await stream.send(stream.protocol.list_voices())
        answer = await stream.receive()
    assert isinstance(answer, wire.VoiceList)
    return {voice.id: voice for voice in answer.voices}


async def test_a_voice_installed_meanwhile_is_spoken_with(url: str, models: Path, service: TtsService) -> None:
    """Without a restart; what a running stream has open goes on."""
    new = "en_GB-new-medium"
    async with connect_tts(url, **EXACT) as stream:
        await stream.send(stream.protocol.append("Once upon a time", "a"))
        assert new not in await listed(url)
        staged = models / "staged"
        make_voice(staged, new, models / f"piper-{REAL}", seed=4)
        shutil.move(staged / f"piper-{new}", models / f"piper-{new}")
        await eventually(lambda: new in service._voices.installed.cards)  # type: ignore[union-attr]
        voice = (await listed(url))[new]
        assert (voice.language, voice.sample_rate, voice.speakers) == ("en_GB", 22050, ["0"])
        assert (await listed(url))[CHOIR].speakers == list(SPEAKERS)
        spoken = await speak(TEXT, url, voice=new, **EXACT)
        assert nearly(spoken.audio, expected(models, new))
        await stream.send(stream.protocol.close())
        assert "a" in [event.request_id async for event in stream if isinstance(event, wire.SynthesisComplete)]
