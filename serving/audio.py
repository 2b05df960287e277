"""Sample formats and sample rates: what arrives on the wire to float samples, and back.

Samples inside the services are float32 in [-1, 1]. G.711 is by ITU-T Recommendation G.711 (mu-law, A-law), done
by table. Rates are converted by soxr with state kept from piece to piece, so that cuts between pieces are not
heard.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]
Pcm = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]

BYTES_PER_SAMPLE: dict[Pcm, int] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


def _mulaw_table() -> npt.NDArray[np.int16]:
    """Linear value of each mu-law byte, 16-bit scale."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4) & 7
    magnitude = (((code & 15).astype(np.int32) << 3) + 132 << exponent) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> npt.NDArray[np.int16]:
    """Linear value of each A-law byte, 16-bit scale."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 7).astype(np.int32)
    mantissa = (code & 15).astype(np.int32)
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _encoder_table(decoded: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """For each 16-bit value (index: value + 32768) the code whose linear value is nearest."""
    order = np.argsort(decoded, kind="stable")
    levels = decoded[order].astype(np.int32)
    values = np.arange(-32768, 32768, dtype=np.int32)
    right = np.clip(np.searchsorted(levels, values), 1, len(levels) - 1)
    nearer_left = values - levels[right - 1] <= levels[right] - values
    return order[np.where(nearer_left, right - 1, right)].astype(np.uint8)


_DECODE = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}
_ENCODE = {name: _encoder_table(table) for name, table in _DECODE.items()}
_DECODE_FLOAT = {name: table.astype(np.float32) / np.float32(32768) for name, table in _DECODE.items()}


class UnsoundSamples(ValueError):
    """Float samples that are not finite numbers."""


def decode(data: bytes, encoding: Pcm) -> Samples:
    """Whole samples from bytes. Raises `UnsoundSamples` for a NaN or an infinity in `pcm_f32le`."""
    if encoding == "pcm_s16le":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    if encoding == "pcm_f32le":
        samples = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(samples).all():
            raise UnsoundSamples("pcm_f32le samples must be finite numbers")
        return np.clip(samples, -1, 1)
    return _DECODE_FLOAT[encoding][np.frombuffer(data, np.uint8)]


def encode(samples: Samples, encoding: Pcm) -> bytes:
    """Float samples as bytes of the wire, clipped to [-1, 1]."""
    if encoding == "pcm_f32le":
        return np.clip(samples, -1, 1).astype("<f4").tobytes()
    linear = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    if encoding == "pcm_s16le":
        return linear.tobytes()
    return _ENCODE[encoding][linear.astype(np.int32) + 32768].tobytes()


class Resampler:
    """Converts a stream of mono float samples from one rate to another, Hz."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        same = source_rate == target_rate
        self._stream = None if same else soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")

    def convert(self, samples: Samples, *, last: bool = False) -> Samples:
        """The samples that can be given now; with `last` also those that the filter still held."""
        if self._stream is None:
            return samples
        converted: Samples = self._stream.resample_chunk(np.ascontiguousarray(samples), last=last)
        return converted


class Decoder:
    """Turns a client's audio frames, cut anywhere, into mono float samples at the wanted rate."""

    def __init__(self, encoding: Pcm, source_rate: int, channels: int, target_rate: int) -> None:
        self._encoding = encoding
        self._channels = channels
        self._frame_bytes = BYTES_PER_SAMPLE[encoding] * channels
        self._source_rate = source_rate
        self._target_rate = target_rate
        self._resampler = Resampler(source_rate, target_rate)
        self._rest = b""
        self.samples_received = 0
        """Whole samples of each channel so far, at the client's rate."""

    @property
    def seconds_received(self) -> float:
        """Audio received so far, by count of samples."""
        return self.samples_received / self._source_rate

    @property
    def rest_bytes(self) -> int:
        """Bytes of a sample whose other bytes have not come yet."""
        return len(self._rest)

    def feed(self, data: bytes) -> Samples:
        """Samples at the target rate. Raises `UnsoundSamples`; that frame is then not part of the stream."""
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % self._frame_bytes
        samples = decode(data[:whole], self._encoding)
        self._rest = data[whole:]
        if self._channels == 2:
            samples = samples.reshape(-1, 2).mean(axis=1)
        self.samples_received += len(samples)
        return self._resampler.convert(samples)

    def flush(self) -> Samples:
        """The samples that the rate conversion still held; what is fed later begins anew."""
        tail = self._resampler.convert(np.zeros(0, np.float32), last=True)
        self._resampler = Resampler(self._source_rate, self._target_rate)
        return tail
