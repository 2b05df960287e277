"""torch's features against NumPy's; needs torch, which only the GPU image has."""

from __future__ import annotations

import numpy as np
import pytest

from asr.mel import raw_log_mel

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch", reason="needs the GPU image: torch is not installed here")


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("count", [0, 100, 201, 16000, 53211])
@pytest.mark.parametrize("first", [0, 7])
def test_torch_gives_the_same_features(bands: int, count: int, first: int) -> None:
    """Within 1e-4 of NumPy's, frame by frame."""
    from asr.mel_torch import TorchMel

    samples = (np.random.default_rng(count).normal(0, 0.1, count)).astype(np.float32)
    ours = raw_log_mel(samples, bands, first)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs = TorchMel(device)(samples, bands, first)
    assert theirs.shape == ours.shape
    assert np.allclose(theirs, ours, atol=1e-4)
