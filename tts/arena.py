"""The one memory arena of all voices in this process, and how what nobody uses of it goes back to the system.

ONNX Runtime's arena keeps what it was ever given: it grows with the worst moment that a replica has seen. What lies
unused in it can only be had back by a call of a model that asks for that, and so the smallest model is kept for it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from serving.memory import take_from_the_system

A_REGION_BYTES = 2**20
"""The arena's first and smallest; each next one is twice as large."""


def use_shared_arena(options: onnxruntime.SessionOptions) -> None:
    """Let a session take its memory from there: what one voice needs while it speaks is there for the next one too."""
    _arena()
    options.add_session_config_entry("session.use_env_allocators", "1")


def shrink() -> None:
    """Give the system what is unused. Any thread may, also while sessions run; takes 0.2 ms, and the next call 1 ms.

    `memory.enable_memory_arena_shrinkage` is described in `onnxruntime_run_options_config_keys.h` of ONNX Runtime.
    """
    asking = onnxruntime.RunOptions()
    # No numbers: the memory of what is returned would be taken from the arena, and could keep a region of it.
    asking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _smallest_model().run(None, {"given": np.empty(0, np.float32)}, asking)


@cache
def _arena() -> None:
    take_from_the_system(A_REGION_BYTES)
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, None)


@cache
def _smallest_model() -> onnxruntime.InferenceSession:
    given, returned = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [0]) for name in ("given", "returned"))
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["returned"])], "smallest", [given], [returned])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    use_shared_arena(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
