"""Silero voice activity detection on ONNX Runtime, many streams in one call.

The graph is `silero_vad_16k_op15.onnx` of the `silero-vad` package (MIT). Its batch axis is a batch of streams,
where faster-whisper's copy of the model takes it for time. A hop of 512 samples goes in behind the last 64
samples of the hop before it, as upstream's `OnnxWrapper` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from asr.engine import SAMPLE_RATE
from serving.audio import Samples

HOP = 512
"""Samples of one hop at 16 kHz, 32 ms."""
CONTEXT = 64
"""Samples of the hop before that the model sees too."""
FILE = "silero_vad_16k_op15.onnx"


@dataclass(eq=False)
class VadState:
    """What the model remembers of one stream."""

    recurrent: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((2, 128), np.float32))
    context: Samples = field(default_factory=lambda: np.zeros(CONTEXT, np.float32))


class SileroVad:
    """The model; stateless itself, so that any streams can share a call."""

    def __init__(self, model_dir: Path) -> None:
        """Load from a model folder. Raises ONNX Runtime's error for a file that is not the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model_dir / FILE), options, providers=["CPUExecutionProvider"])
        self._rate = np.array(SAMPLE_RATE, np.int64)

    def new_state(self) -> VadState:
        """The state of a stream that has heard nothing yet."""
        return VadState()

    def step(self, states: list[VadState], hops: Samples) -> npt.NDArray[np.float32]:
        """Speech probability (n,) of one hop of each stream, (n, 512) samples; the states go on by one hop."""
        contexts = np.stack([state.context for state in states])
        recurrent = np.stack([state.recurrent for state in states], axis=1)
        feed = {"input": np.concatenate((contexts, hops), axis=1), "state": recurrent, "sr": self._rate}
        output, after = self._session.run(None, feed)
        for row, state in enumerate(states):
            state.recurrent = after[:, row]
            state.context = hops[row, -CONTEXT:]
        probabilities: npt.NDArray[np.float32] = output[:, 0]
        return probabilities
