"""Sample formats, the outbox, and settings from the environment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.settings import AsrSettings
from chorus.wire.common import CloseCode
from serving.audio import BYTES_PER_SAMPLE, Decoder, Pcm, UnsoundSamples, decode, encode
from serving.outbox import AudioFrame, CloseFrame, Outbox, OutboxFull, TextFrame
from serving.settings import read_settings
from tts.settings import TtsSettings

pytestmark = pytest.mark.unit

ENCODINGS: tuple[Pcm, ...] = ("pcm_s16le", "pcm_f32le", "mulaw", "alaw")


@pytest.mark.parametrize(
    ("encoding", "code", "value"),
    [
        # ITU-T G.711: largest positive and negative values, and those nearest to zero, on a 16-bit scale.
        ("mulaw", 0x80, 32124), ("mulaw", 0x00, -32124), ("mulaw", 0xFF, 0), ("mulaw", 0x7F, 0), ("mulaw", 0xFE, 8),
        ("alaw", 0xAA, 32256), ("alaw", 0x2A, -32256), ("alaw", 0xD5, 8), ("alaw", 0x55, -8),
    ],
)  # fmt: skip
def test_g711_decodes_by_the_standard(encoding: Pcm, code: int, value: int) -> None:
    """Landmarks of both laws."""
    assert decode(bytes([code]), encoding)[0] == value / 32768


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_g711_codes_survive_a_round_trip(encoding: Pcm) -> None:
    """Every code decodes to a value that is encoded as it (mu-law has two zeros)."""
    codes = np.arange(256, dtype=np.uint8)
    again = np.frombuffer(encode(decode(codes.tobytes(), encoding), encoding), np.uint8)
    assert np.array_equal(decode(again.tobytes(), encoding), decode(codes.tobytes(), encoding))


@given(st.sampled_from(ENCODINGS), st.binary(min_size=0, max_size=400), st.lists(st.integers(1, 7), max_size=200))
def test_frames_may_be_cut_anywhere(encoding: Pcm, data: bytes, cuts: list[int]) -> None:
    """Whatever the frames, the samples are those of the whole."""
    data = data[: len(data) - len(data) % (2 * BYTES_PER_SAMPLE[encoding])]
    if encoding == "pcm_f32le":
        data = np.frombuffer(data, "<i4").astype("<f4").tobytes()
    whole = Decoder(encoding, 16000, 2, 16000).feed(data)
    decoder = Decoder(encoding, 16000, 2, 16000)
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(decoder.feed(data[start : start + cut]))
        start += cut
    pieces.append(decoder.feed(data[start:]))
    assert np.array_equal(np.concatenate(pieces), whole)
    assert decoder.samples_received == len(whole)
    assert decoder.rest_bytes == 0


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_rates_are_converted_without_losing_time(rate: int) -> None:
    """A second stays a second, and a tone stays that tone."""
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) * 0.5
    decoder = Decoder("pcm_f32le", rate, 1, 16000)
    data = tone.tobytes()
    got = [decoder.feed(data[start : start + 1000]) for start in range(0, len(data), 1000)] + [decoder.flush()]
    samples = np.concatenate(got)
    assert abs(len(samples) - 16000) <= 1
    expected = np.sin(2 * np.pi * 440 * np.arange(len(samples)) / 16000) * 0.5
    assert np.abs(samples - expected)[400:-400].max() < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_must_be_numbers(bad: float) -> None:
    """NaN and infinities are refused."""
    with pytest.raises(UnsoundSamples):
        decode(np.array([0.0, bad], "<f4").tobytes(), "pcm_f32le")


async def test_an_outbox_is_bounded_and_can_still_say_why_it_ends() -> None:
    """Beyond its limit `put` raises; the close frame and the last words always fit."""
    outbox = Outbox(1000)
    outbox.put(AudioFrame(bytes(500), "a", 1.0))
    with pytest.raises(OutboxFull):
        outbox.put(AudioFrame(bytes(500), "a", 1.0))
    outbox.close(CloseFrame(CloseCode.POLICY), "why", discard=True)
    outbox.put(TextFrame("after the end"))
    assert await outbox.get() == TextFrame("why")
    assert await outbox.get() == CloseFrame(CloseCode.POLICY)
    assert outbox.bytes_waiting == 0


async def test_audio_can_be_taken_back_by_its_owner() -> None:
    """Only the owner's, with its seconds and what announces it; messages and others' audio stay in order."""
    outbox = Outbox(10000)
    mine, other = object(), object()
    outbox.put(AudioFrame(b"1", other, 1.0))
    outbox.put(TextFrame("message"))
    outbox.put(AudioFrame(b"2", mine, 2.0))
    outbox.put(TextFrame("that was it", mine))
    outbox.put(AudioFrame(b"3", mine, 0.5))
    assert outbox.take_back(mine) == 2.5
    assert [await outbox.get(), await outbox.get()] == [AudioFrame(b"1", other, 1.0), TextFrame("message")]
    assert outbox.bytes_waiting == 0


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("ASR_MAX_CONNECTIONS", "many", AsrSettings),
        ("ASR_BEAM_SIZE", "0", AsrSettings),
        ("ASR_DEVICE", "tpu", AsrSettings),
        ("TTS_VOICES", " , ", TtsSettings),
        ("TTS_AHEAD_S", "-1", TtsSettings),
    ],
)
def test_an_invalid_setting_stops_the_start_and_is_named(
    name: str, value: str, kind: type[AsrSettings | TtsSettings], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The message has the variable's name and what it was."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        read_settings(kind)
    message = capsys.readouterr().err
    assert name in message
    assert repr(value) in message
