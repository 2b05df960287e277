"""From a request's samples to what its client asked for: plain samples, or one container a request.

A container (Ogg Opus, MP3, FLAC) is written by FFmpeg, through PyAV, as a stream: its header goes out with the first
audio, nothing is written back to later, and a player that has the first bytes plays them. What the encoder
still holds at a sentence's end, at most some 0.1 s, comes with the next sentence or at the request's end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np

from chorus.wire import tts as wire
from serving.audio import BYTES_PER_SAMPLE, Pcm, Resampler, Samples, encode
from serving.errors import BadConfig

FRAME_BYTES = 32768
"""Most of one binary frame: what a cancel can't take back any more, and a whole number of samples."""

DTYPES: dict[Pcm, str] = {"pcm_s16le": "<i2", "pcm_f32le": "<f4"}


@dataclass(frozen=True)
class Piece:
    """Bytes of one binary frame."""

    data: bytes
    seconds: float
    """Of the audio that can be heard with these bytes, and could not be without them."""


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of the samples that it was given."""

    pieces: list[Piece]
    seconds: float
    """Of the samples, those included that the encoder still holds."""


@dataclass(frozen=True)
class Container:
    """How FFmpeg is to write one of the compressed encodings."""

    format: str
    codec: str
    sample_format: str
    """FFmpeg's name of `pcm`."""
    pcm: Pcm
    """What the codec is given."""
    sample_rates: tuple[int, ...]
    """Hz, ascending; empty for any."""
    delay: Callable[[int], float]
    """Samples at a rate that a decoder hears before the first one given."""
    held_packets: int
    """Packets that the container keeps to itself until the next ones come."""
    codec_options: dict[str, str]
    container_options: dict[str, str]


CONTAINERS: dict[str, Container] = {
    # `audio` and not `voip`: nearer to the samples, and with half the work, up to a complexity of 5.
    # A page of 20 ms is one packet; the muxer sends it once it has the next, which could be the last.
    "opus": Container(
        format="ogg",
        codec="libopus",
        sample_format="flt",
        pcm="pcm_f32le",
        sample_rates=(8000, 12000, 16000, 24000, 48000),
        delay=lambda rate: 0.0065 * rate,
        held_packets=1,
        codec_options={"b": "32000", "application": "audio", "compression_level": "5", "frame_duration": "20"},
        container_options={"page_duration": "20000"},
    ),
    # No Xing header: it states the length, which nobody knows yet. LAME delays by 576 samples, every decoder by 529.
    "mp3": Container(
        format="mp3",
        codec="libmp3lame",
        sample_format="fltp",
        pcm="pcm_f32le",
        sample_rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        delay=lambda rate: 1105,
        held_packets=0,
        codec_options={"b": "64000", "compression_level": "7"},
        container_options={"write_xing": "0", "id3v2_version": "0"},
    ),
    # Length and checksum stay 0 in the header, which means unknown.
    "flac": Container(
        format="flac",
        codec="flac",
        sample_format="s16",
        pcm="pcm_s16le",
        sample_rates=(),
        delay=lambda rate: 0,
        held_packets=0,
        codec_options={"compression_level": "5", "frame_size": "512"},
        container_options={"metadata_header_padding": "0"},
    ),
}


def check_rate(settings: wire.Settings) -> None:
    """Raise `BadConfig` for a sample rate that the encoding does not have."""
    container = CONTAINERS.get(settings.encoding)
    if container is None or not container.sample_rates or settings.sample_rate is None:
        return
    if settings.sample_rate not in container.sample_rates:
        known = ", ".join(map(str, container.sample_rates))
        raise BadConfig(f"sample_rate: {settings.encoding} has no {settings.sample_rate} Hz; use one of {known}")


def nearest_rate(encoding: str, voice_rate: int) -> int:
    """The sample rate of a client that asks for none: the lowest of the encoding that loses nothing of the voice."""
    container = CONTAINERS.get(encoding)
    if container is None or not container.sample_rates:
        return voice_rate
    return next((rate for rate in container.sample_rates if rate >= voice_rate), container.sample_rates[-1])


class Encoder(ABC):
    """Turns one request's samples, sentence by sentence, into frames."""

    quick: bool
    """Whether a chunk takes so little that the event loop may do it."""

    def __init__(self, voice_rate: int, sample_rate: int) -> None:
        self._rates = voice_rate, sample_rate
        self._resampler = Resampler(*self._rates)

    def encode(self, samples: Samples | None) -> Encoded:
        """What can be sent with these samples; None is a sentence's end: all its samples are with the encoder then."""
        if samples is None:
            converted = self._resampler.convert(np.zeros(0, np.float32), last=True)
            self._resampler = Resampler(*self._rates)
        else:
            converted = self._resampler.convert(samples)
        return Encoded(self._pack(converted), len(converted) / self._rates[1])

    @abstractmethod
    def _pack(self, samples: Samples) -> list[Piece]:
        """Frames of samples at the wanted rate."""

    @abstractmethod
    def finish(self) -> Encoded:
        """What is left at the request's end."""


class PcmEncoder(Encoder):
    """Plain samples: everything given goes out at once."""

    quick = True

    def __init__(self, encoding: Pcm, voice_rate: int, sample_rate: int) -> None:
        super().__init__(voice_rate, sample_rate)
        self._encoding = encoding
        self._bytes_per_second = BYTES_PER_SAMPLE[encoding] * sample_rate

    def _pack(self, samples: Samples) -> list[Piece]:
        data = encode(samples, self._encoding)
        frames = (data[start : start + FRAME_BYTES] for start in range(0, len(data), FRAME_BYTES))
        return [Piece(frame, len(frame) / self._bytes_per_second) for frame in frames]

    def finish(self) -> Encoded:
        """Nothing is held."""
        return Encoded([], 0.0)


class ContainerEncoder(Encoder):
    """A stream of FFmpeg's; it is opened with the first samples, and what it holds goes with this object."""

    quick = False

    def __init__(self, kind: Container, voice_rate: int, sample_rate: int, serial: int) -> None:
        super().__init__(voice_rate, sample_rate)
        self._kind = kind
        self._sample_rate = sample_rate
        self._serial = serial
        self._written = _Written()
        self._output: Any = None
        self._stream: Any = None
        self._given = 0
        """Samples given to the encoder."""
        self._packet_ends: deque[int] = deque([0], maxlen=kind.held_packets + 1)
        """Where the newest packets end, in samples; the first of them is the newest that has been written."""
        self._told = 0.0
        """Seconds of the pieces so far."""

    def _open(self) -> None:
        # Without bitexact a stream tells the library's version, and an Ogg stream has a random number; ours
        # differs among the requests of a connection, which may be played one behind the other.
        options = {"fflags": "+bitexact", "flush_packets": "1", **self._kind.container_options}
        if self._kind.format == "ogg":
            options["serial_offset"] = str(self._serial)
        self._output = av.open(self._written, "w", format=self._kind.format, options=options)
        self._stream = self._output.add_stream(
            self._kind.codec,
            rate=self._sample_rate,
            layout="mono",
            format=self._kind.sample_format,
            options=self._kind.codec_options,
        )

    def _pack(self, samples: Samples) -> list[Piece]:
        if not len(samples):
            return []
        if self._output is None:
            self._open()
        # Rounded to 16 bits as for a client that asks for them.
        plain: Any = np.frombuffer(encode(samples, self._kind.pcm), DTYPES[self._kind.pcm]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(plain, format=self._kind.sample_format, layout="mono")
        frame.sample_rate = self._sample_rate
        frame.time_base = Fraction(1, self._sample_rate)
        frame.pts = self._given
        self._given += len(samples)
        return self._gather(self._stream.encode(frame))

    def finish(self) -> Encoded:
        """The end of the container; with it, as many seconds have been told as were given."""
        if self._output is None:
            return Encoded([], 0.0)
        told = self._told
        data = b"".join(piece.data for piece in self._gather(self._stream.encode(None)))
        self._output.close()
        data += self._written.take()
        return Encoded([Piece(data, self._given / self._sample_rate - told)], 0.0)

    def _gather(self, packets: Iterable[Any]) -> list[Piece]:
        pieces: list[Piece] = []
        data = b""
        for packet in packets:
            end = self._packet_ends[-1] + packet.duration  # in samples; `mux` converts it to the container's unit
            self._output.mux(packet)
            more = self._written.take()
            if data and len(data) + len(more) > FRAME_BYTES:
                pieces.append(self._piece(data))
                data = b""
            data += more
            self._packet_ends.append(end)
        if data:
            pieces.append(self._piece(data))
        return pieces

    def _piece(self, data: bytes) -> Piece:
        heard = max(0.0, self._packet_ends[0] - self._kind.delay(self._sample_rate)) / self._sample_rate
        seconds, self._told = heard - self._told, heard
        return Piece(data, seconds)


class _Written:
    """The file that FFmpeg writes to; it can't seek, and keeps what was not taken yet."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self._data)
        self._data.clear()
        return taken


def new_encoder(settings: wire.Settings, voice_rate: int, serial: int) -> Encoder:
    """An encoder for a request whose settings are resolved; `serial` tells it from others of the connection."""
    sample_rate = cast(int, settings.sample_rate)
    container = CONTAINERS.get(settings.encoding)
    if container is None:
        return PcmEncoder(cast(Pcm, settings.encoding), voice_rate, sample_rate)
    return ContainerEncoder(container, voice_rate, sample_rate, serial)
