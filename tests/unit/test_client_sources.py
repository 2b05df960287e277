"""Audio files, pipes and WAV headers."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from chorus import wav
from chorus.sources import Source, from_bytes, from_file, from_pipe
from tests.conftest import DATA

pytestmark = pytest.mark.unit

SAMPLES = (np.sin(np.arange(4000) / 10) * 20000).astype("<i2")
FORMATS = [("pcm_s16le", "PCM_16"), ("pcm_f32le", "FLOAT"), ("mulaw", "ULAW"), ("alaw", "ALAW")]


class Trickle(io.RawIOBase):
    """A pipe that gives at most so many bytes a read, and can't seek."""

    def __init__(self, data: bytes, most: int) -> None:
        self._left = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._left.read(self._most if size < 0 else min(size, self._most))


def heard(source: Source) -> bytes:
    return b"".join(source.frames)


def trickle(data: bytes, most: int) -> Any:
    return Trickle(data, most)


@pytest.mark.parametrize(("encoding", "subtype"), FORMATS)
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_wav_files_go_out_as_they_are(tmp_path: Path, encoding: str, subtype: str, container: str) -> None:
    """All four encodings of the wire, in plain and extensible headers, byte for byte as another reader sees them."""
    path = tmp_path / "a.wav"
    stereo = np.stack([SAMPLES, -SAMPLES], axis=1)
    soundfile.write(path, stereo, 44100, subtype=subtype, format=container)
    source = from_file(str(path))
    assert (source.encoding, source.sample_rate, source.channels) == (encoding, 44100, 2)
    assert len(heard(source)) == stereo.size * source.bytes_per_second // 44100 // 2
    if encoding == "pcm_s16le":
        assert heard(from_file(str(path))) == stereo.tobytes()


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "WAV 24"])
def test_other_files_are_decoded(tmp_path: Path, kind: str) -> None:
    """By soundfile, to 16 bits."""
    container, _, bits = kind.partition(" ")
    path = tmp_path / "a"
    soundfile.write(path, SAMPLES, 16000, format=container, subtype=f"PCM_{bits}" if bits else None)
    source = from_file(str(path))
    assert (source.encoding, source.sample_rate, source.channels) == ("pcm_s16le", 16000, 1)
    expected, _ = soundfile.read(path, dtype="int16")
    assert heard(source) == expected.tobytes()


def test_a_clip_of_real_speech_comes_whole_in_small_frames() -> None:
    """Every sample, at most 20 ms a frame."""
    clip = DATA / "speech" / "3331-159605-0005.flac"
    expected, rate = soundfile.read(clip, dtype="int16")
    frames = list(from_file(str(clip)).frames)
    assert b"".join(frames) == expected.tobytes()
    assert {len(frame) for frame in frames[:-1]} == {rate // 50 * 2}


@pytest.mark.parametrize(
    ("rate", "channels", "told"),
    [(96000, 1, "96000 Hz"), (4000, 1, "4000 Hz"), (16000, 3, "3 channels")],
)
@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_what_can_not_be_sent_is_told(tmp_path: Path, rate: int, channels: int, told: str, container: str) -> None:
    """With the file's name and what would do."""
    path = tmp_path / "a"
    soundfile.write(path, np.zeros((100, channels)), rate, format=container, subtype="PCM_16")
    with pytest.raises(ValueError, match=told) as error:
        from_file(str(path))
    assert str(path) in str(error.value)


def test_what_is_no_audio_is_told(tmp_path: Path) -> None:
    """A text file names itself; a missing one is an `OSError` that does."""
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        from_file(str(path))
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        from_file(str(tmp_path / "gone.wav"))


@given(size=st.integers(0, 100), most=st.integers(1, 7))
def test_raw_samples_pass_through_a_pipe_untouched(size: int, most: int) -> None:
    """However they trickle in, and however few there are."""
    data = bytes(range(size))
    source = from_pipe(trickle(data, most), sample_rate=8000, encoding="mulaw")
    assert (source.encoding, source.sample_rate, source.blocks) == ("mulaw", 8000, True)
    assert heard(source) == data


def test_a_pipe_gives_what_has_arrived() -> None:
    """A frame is sent when it is there, not when 20 ms are full."""
    frames = list(from_pipe(trickle(bytes(100), 10)).frames)
    assert max(map(len, frames)) == 10


@given(most=st.integers(1, 50))
def test_a_wav_file_in_a_pipe_tells_its_format(most: int) -> None:
    """Its header is taken away, and so are chunks before and behind the samples."""
    chunk = struct.pack("<4sI", b"LIST", 5) + b"abcde\0"
    head = wav.header("pcm_s16le", 22050, 2, 400)
    data = bytes(range(200)) * 2
    file = head[:12] + chunk + head[12:] + data + chunk
    source = from_pipe(trickle(file, most), sample_rate=8000)
    assert (source.encoding, source.sample_rate, source.channels) == ("pcm_s16le", 22050, 2)
    assert heard(source) == data


@pytest.mark.parametrize("length", [0, wav.UNKNOWN_LENGTH, wav.UNKNOWN_LENGTH - 36])
def test_a_writer_that_did_not_know_the_length_is_read_to_the_end(length: int) -> None:
    """As ffmpeg, sox and arecord write into pipes."""
    file = wav.header("pcm_s16le", 16000, 1, 0)[:-4] + struct.pack("<I", length) + bytes(1000)
    assert len(heard(from_pipe(trickle(file, 64)))) == 1000


@pytest.mark.parametrize(
    "file",
    [
        b"RIFF",
        b"RIFF\0\0\0\0AVI ",
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcd",
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f",
        wav.header("pcm_s16le", 16000, 1)[:30],
        wav.header("pcm_s16le", 16000, 1).replace(struct.pack("<HH", 16, 0), struct.pack("<HH", 24, 0)),
        wav.header("pcm_s16le", 96000, 1),
    ],
)
def test_a_pipe_with_a_broken_wav_file_is_told(file: bytes) -> None:
    """Whatever is wrong with it, it is a `ValueError`."""
    with pytest.raises(ValueError, match=r"WAV|Hz"):
        from_pipe(trickle(file, 64))


@pytest.mark.parametrize(("encoding", "subtype"), FORMATS)
@pytest.mark.parametrize("count", [0, 1, 4000])
def test_what_is_written_can_be_read_by_others(tmp_path: Path, encoding: str, subtype: str, count: int) -> None:
    """soundfile, and for integer samples the standard library, see the format and every sample."""
    width = {"pcm_s16le": 2, "pcm_f32le": 4}.get(encoding, 1)
    data = bytes(count * width)
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        writer = wav.Writer(file, encoding, 22050)
        writer.write(data[:5000])
        writer.write(data[5000:])
        writer.close()
    assert path.stat().st_size % 2 == 0  # chunks of RIFF begin at even places
    with soundfile.SoundFile(path) as found:
        assert (found.samplerate, found.channels, found.subtype, found.frames) == (22050, 1, subtype, count)
    if encoding == "pcm_s16le":
        with wave.open(str(path)) as plain:
            assert plain.readframes(count) == data
    if count:
        assert heard(from_file(str(path))) == data


def test_samples_in_memory_are_cut_into_frames() -> None:
    """20 ms each, the last one shorter."""
    source = from_bytes(bytes(2 * 8000 + 6), 8000)
    assert source.settings == {"encoding": "pcm_s16le", "sample_rate": 8000, "channels": 1}
    assert [len(frame) for frame in source.frames] == [320] * 50 + [6]
