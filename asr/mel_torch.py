"""`asr.mel.raw_log_mel` by torch, on the device where Whisper runs; only in the GPU image, which alone has torch.

The same numbers as NumPy's within 1e-4: `tests/gpu` holds both to each other, on the CPU too where torch is there.
"""

from __future__ import annotations

import numpy as np
import torch

from asr.mel import FRAME, N_FFT, Mel, filters, frames_that_see
from serving.audio import Samples


class TorchMel:
    """Raw log-mel of many utterances' samples; stands in for `asr.mel.raw_log_mel`."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._hann = torch.hann_window(N_FFT, device=self._device)
        self._filters: dict[int, torch.Tensor] = {}

    def __call__(self, samples: Samples, bands: int, first: int = 0) -> Mel:
        """log10 mel energies (bands, frames) of 16 kHz samples, from frame `first` on."""
        half = N_FFT // 2
        count = frames_that_see(samples)
        if first >= count:
            return np.zeros((bands, 0), np.float32)
        if bands not in self._filters:
            self._filters[bands] = torch.from_numpy(filters(bands)).to(self._device)
        sound = torch.from_numpy(samples).to(self._device)
        mirrored = sound[1 : half + 1].flip(0) if len(samples) > half else sound.new_zeros(half)
        after = sound.new_zeros(count * FRAME + half - len(samples))
        windows = torch.cat((mirrored, sound, after)).unfold(0, N_FFT, FRAME)[first:count]
        power = torch.fft.rfft(windows * self._hann, dim=1).abs() ** 2
        mel = self._filters[bands] @ power.T
        return np.asarray(mel.clamp(min=1e-10).log10().cpu().numpy(), np.float32)
