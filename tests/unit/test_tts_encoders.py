"""Encoders: what comes out plays, from the first byte, wherever it is cut, and lasts as long as what went in."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from chorus.wire import tts as wire
from serving.audio import Samples, decode, encode
from serving.errors import BadConfig
from tests.conftest import DATA
from tests.unit.decoders import Decode, by_ffmpeg, by_libsndfile
from tts.encoders import CONTAINERS, FRAME_BYTES, Encoder, Piece, check_rate, nearest_rate, new_encoder

pytestmark = pytest.mark.unit

VOICE_RATE = 22050
COMPRESSED: list[tuple[wire.Encoding, int]] = [
    ("opus", 8000),
    ("opus", 24000),
    ("opus", 48000),
    ("mp3", 8000),
    ("mp3", 22050),
    ("mp3", 48000),
    ("flac", 8000),
    ("flac", 22050),
    ("flac", 48000),
]
MP3_DELAY = 1105
"""Samples that every MP3 decoder hears before the first one, where nothing tells it to leave them out."""
each_decoder = pytest.mark.parametrize("decoder", [by_ffmpeg, by_libsndfile])


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Nearly five seconds of real speech at the voice's rate."""
    samples, rate = soundfile.read(DATA / "speech" / "3331-159605-0005.flac", dtype="float32")
    resampled: Samples = soxr.resample(samples, rate, VOICE_RATE)
    return resampled


def encoder(encoding: wire.Encoding, rate: int, serial: int = 1) -> Encoder:
    return new_encoder(wire.Settings(encoding=encoding, sample_rate=rate), VOICE_RATE, serial)


def chunks(samples: Samples) -> Iterator[Samples]:
    """As the engine makes them: small at first."""
    start, size = 0, 6144
    while start < len(samples):
        yield samples[start : start + size]
        start, size = start + size, min(2 * size, 49152)


def spoken(made: Encoder, *sentences: Samples) -> tuple[list[Piece], list[float]]:
    """The pieces of a whole request, and the seconds of each sentence."""
    pieces: list[Piece] = []
    seconds = []
    for sentence in sentences:
        encoded = [made.encode(chunk) for chunk in chunks(sentence)] + [made.encode(None)]
        seconds.append(sum(each.seconds for each in encoded))
        pieces += [piece for each in encoded for piece in each.pieces]
    return pieces + made.finish().pieces, seconds


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def at_rate(samples: Samples, rate: int) -> Samples:
    converted: Samples = soxr.resample(samples, VOICE_RATE, rate) if rate != VOICE_RATE else samples
    return converted


def db(samples: Samples) -> float:
    return 10 * float(np.log10((samples.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize(("encoding", "rate"), COMPRESSED)
@each_decoder
def test_a_request_lasts_as_long_as_its_samples(
    encoding: wire.Encoding, rate: int, decoder: Decode, speech: Samples
) -> None:
    """To the sample for Opus and FLAC; MP3 knows whole frames only, and a delay in front."""
    pieces, sentences = spoken(encoder(encoding, rate), speech[:30000], speech[30000:])
    samples, decoded_rate = decoder(joined(pieces))
    given = sum(len(at_rate(part, rate)) for part in (speech[:30000], speech[30000:]))
    told = sum(piece.seconds for piece in pieces)
    assert told == pytest.approx(given / rate, abs=2 / rate)
    assert told == pytest.approx(sum(sentences))
    if encoding == "mp3":
        assert MP3_DELAY <= len(samples) - told * rate <= MP3_DELAY + 1152
    else:
        assert len(samples) == pytest.approx(told * decoded_rate, abs=1e-3)


@pytest.mark.parametrize(("encoding", "rate"), COMPRESSED)
@each_decoder
def test_what_was_sent_can_be_heard(encoding: wire.Encoding, rate: int, decoder: Decode, speech: Samples) -> None:
    """After every piece, all the seconds told so far, and no more, come out of a decoder."""
    pieces, _ = spoken(encoder(encoding, rate), speech)
    delay = MP3_DELAY / rate if encoding == "mp3" else 0.0
    for count in range(2, len(pieces)):
        samples, decoded_rate = decoder(joined(pieces[:count]))
        heard = sum(piece.seconds for piece in pieces[:count])
        assert len(samples) / decoded_rate - delay == pytest.approx(heard, abs=1 / rate)


@pytest.mark.parametrize(("encoding", "rate"), COMPRESSED)
@each_decoder
def test_cut_anywhere_it_plays_its_beginning(
    encoding: wire.Encoding, rate: int, decoder: Decode, speech: Samples
) -> None:
    """A stream that breaks off at any byte after the first second gives what the whole one gives up to there."""
    pieces, _ = spoken(encoder(encoding, rate), speech)
    data = joined(pieces)
    whole, decoded_rate = decoder(data)
    ends = np.cumsum([len(piece.data) for piece in pieces])
    heard = np.cumsum([piece.seconds for piece in pieces])
    first_second = int(ends[np.searchsorted(heard, 1.0)])
    dice = random.Random(f"{encoding} {rate}")
    for cut in [first_second, len(data) - 1, *(dice.randrange(first_second, len(data)) for _ in range(12))]:
        least = heard[np.searchsorted(ends, cut, side="right") - 1]
        samples, _ = decoder(data[:cut])
        sure = int(least * decoded_rate)
        assert sure >= decoded_rate
        assert len(samples) >= sure
        assert np.array_equal(samples[:sure], whole[:sure])


@pytest.mark.parametrize("encoding", CONTAINERS)
def test_the_first_sound_comes_with_the_first_chunk(encoding: wire.Encoding, speech: Samples) -> None:
    """A first chunk of 0.28 s can be heard but for what the encoder holds, header and all."""
    rate = nearest_rate(encoding, VOICE_RATE)
    first = encoder(encoding, rate).encode(speech[:6144])
    assert first.seconds == pytest.approx(6144 / VOICE_RATE, abs=0.02)
    samples, decoded_rate = by_ffmpeg(joined(first.pieces))
    assert len(samples) / decoded_rate >= sum(piece.seconds for piece in first.pieces) > 0.15


@pytest.mark.parametrize(("encoding", "rate"), COMPRESSED)
def test_it_sounds_as_the_samples_do(encoding: wire.Encoding, rate: int, speech: Samples) -> None:
    """FLAC is the 16-bit samples bit by bit; Opus and MP3 are near them, and as loud."""
    data = joined(spoken(encoder(encoding, rate), speech)[0])
    if encoding == "flac":
        plain = joined(spoken(encoder("pcm_s16le", rate), speech)[0])
        samples, _ = by_libsndfile(data)
        assert encode(samples, "pcm_s16le") == plain
        return
    reference = at_rate(speech, rate)
    samples, decoded_rate = by_ffmpeg(data)
    samples = soxr.resample(samples, decoded_rate, rate)
    samples = samples[MP3_DELAY if encoding == "mp3" else 0 :][: len(reference)]
    assert db(samples) == pytest.approx(db(reference), abs=0.5)
    assert db(reference) - db(samples - reference) > 10


@pytest.mark.parametrize("encoding", [*CONTAINERS, "pcm_f32le"])
def test_two_encoders_do_not_mix(encoding: wire.Encoding, speech: Samples) -> None:
    """Chunk by chunk in turn, each gives what it gives alone."""
    rate = nearest_rate(encoding, VOICE_RATE)
    one, other = speech, speech[::-1].copy()
    alone = [joined(spoken(encoder(encoding, rate), each)[0]) for each in (one, other)]
    pair = [encoder(encoding, rate), encoder(encoding, rate)]
    together = [b"", b""]
    for turn in zip(chunks(one), chunks(other), strict=True):
        for number, chunk in enumerate(turn):
            together[number] += joined(pair[number].encode(chunk).pieces)
    for number, each in enumerate(pair):
        together[number] += joined(each.encode(None).pieces) + joined(each.finish().pieces)
    assert together == alone


def test_ogg_streams_of_a_connection_differ_in_their_number(speech: Samples) -> None:
    """So that they may be played one behind the other; beside that, the same samples give the same bytes."""
    first, again, second = [joined(spoken(encoder("opus", 24000, n), speech)[0]) for n in (1, 1, 2)]
    assert first == again
    assert [re.findall(rb"OggS.{10}(....)", each, re.DOTALL)[0] for each in (first, second)] == [
        b"\1\0\0\0",
        b"\2\0\0\0",
    ]


@pytest.mark.parametrize("encoding", [*CONTAINERS, "pcm_s16le"])
def test_a_request_of_nothing_is_no_bytes(encoding: wire.Encoding) -> None:
    """A sentence without a sound, and an end after nothing: no header without audio."""
    made = encoder(encoding, nearest_rate(encoding, VOICE_RATE))
    assert made.encode(None).pieces == []
    assert made.finish().pieces == []


@pytest.mark.parametrize("encoding", CONTAINERS)
def test_frames_are_small_and_cut_between_packets(encoding: wire.Encoding) -> None:
    """However long a chunk is, and however badly it can be compressed."""
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, 20 * VOICE_RATE).astype(np.float32)
    pieces = encoder(encoding, nearest_rate(encoding, VOICE_RATE)).encode(noise).pieces
    assert len(pieces) > 1
    assert max(len(piece.data) for piece in pieces) <= FRAME_BYTES


def test_plain_samples_are_as_they_were_at_any_cut(speech: Samples) -> None:
    """At the voice's rate nothing is changed, and seconds are counted by samples."""
    pieces, seconds = spoken(encoder("pcm_f32le", VOICE_RATE), speech)
    assert np.array_equal(decode(joined(pieces), "pcm_f32le"), speech)
    assert sum(piece.seconds for piece in pieces) == pytest.approx(len(speech) / VOICE_RATE)
    assert seconds == [pytest.approx(len(speech) / VOICE_RATE)]


def test_a_rate_that_an_encoding_does_not_have_is_refused_with_those_it_has() -> None:
    """Opus and MP3 have a few; plain samples and FLAC any."""
    with pytest.raises(BadConfig, match="opus has no 22050 Hz; use one of 8000, 12000, 16000, 24000, 48000"):
        check_rate(wire.Settings(encoding="opus", sample_rate=22050))
    with pytest.raises(BadConfig, match="mp3 has no 10000 Hz; use one of 8000, 11025"):
        check_rate(wire.Settings(encoding="mp3", sample_rate=10000))
    for encoding in ("flac", "pcm_s16le", "mulaw"):
        check_rate(wire.Settings(encoding=encoding, sample_rate=10001))  # type: ignore[arg-type]
    check_rate(wire.Settings(encoding="opus"))


@pytest.mark.parametrize(
    ("encoding", "voice_rate", "rate"),
    [
        ("opus", 22050, 24000),
        ("opus", 16000, 16000),
        ("opus", 44100, 48000),
        ("opus", 96000, 48000),
        ("mp3", 22050, 22050),
        ("mp3", 17000, 22050),
        ("flac", 17000, 17000),
        ("pcm_s16le", 22050, 22050),
    ],
)
def test_without_a_rate_nothing_of_the_voice_is_lost(encoding: str, voice_rate: int, rate: int) -> None:
    """The voice's own, or the next that the encoding has."""
    assert nearest_rate(encoding, voice_rate) == rate


@pytest.mark.parametrize("encoding", CONTAINERS)
def test_a_long_request_takes_no_more_memory_than_a_short_one(encoding: wire.Encoding, speech: Samples) -> None:
    """Four minutes in one container: what has been sent is forgotten."""
    made = encoder(encoding, nearest_rate(encoding, VOICE_RATE))

    def speak(seconds: int) -> int:
        for _ in range(seconds * VOICE_RATE // len(speech)):
            made.encode(speech)
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    after_a_minute = speak(60)
    assert speak(180) - after_a_minute < 4 * 2**20  # as samples they are 16 MB
