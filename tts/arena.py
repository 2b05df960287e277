"""The one memory arena of all voices in this process, and how what nobody uses of it goes back to the system.

ONNX Runtime's arena keeps what it was ever given: it grows with the worst moment that a replica has seen. What lies
unused in it can only be had back by a call of a model that asks for that, and so the smallest model is kept for it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime

from serving.memory import take_from_the_system

A_REGION_BYTES = 2**20
"""The arena's first and smallest; each next one is twice as large."""
SMALLEST_MODEL = (
    b'\x08\x08:6\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x00Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x00'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x00B\x04\n\x00\x10\x11"
)
"""ONNX: y = x, no numbers at all, since the memory of what is returned would be taken from the arena, and could keep a
region of it. Its test makes it; to make it here would take `onnx`, and 12 MB, into every replica."""


def use_shared_arena(options: onnxruntime.SessionOptions) -> None:
    """Let a session take its memory from there: what one voice needs while it speaks is there for the next one too."""
    _arena()
    options.add_session_config_entry("session.use_env_allocators", "1")


def shrink() -> None:
    """Give the system what is unused. Any thread may, also while sessions run; takes 0.2 ms, and the next call 1 ms.

    `memory.enable_memory_arena_shrinkage` is described in `onnxruntime_run_options_config_keys.h` of ONNX Runtime.
    """
    asking = onnxruntime.RunOptions()
    asking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _smallest().run(None, {"x": np.empty(0, np.float32)}, asking)


@cache
def _arena() -> None:
    take_from_the_system(A_REGION_BYTES)
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, None)


@cache
def _smallest() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    use_shared_arena(options)
    return onnxruntime.InferenceSession(SMALLEST_MODEL, options, providers=["CPUExecutionProvider"])
