"""A voice's graph made cheaper: what it gives stays the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tts.simplify import flatten_convolutions, fuse_norms, narrow_relative_places

pytestmark = pytest.mark.unit

WINDOW = 4
DEPTH = 3
HEADS = 2


def graph_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
) -> onnx.ModelProto:
    """A model of opset 15, as Piper exports."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a model."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, inputs)]


def relative_attention(start: int = 0) -> onnx.ModelProto:
    """Scores of queries by relative place, and weights by relative place applied, as VITS's text encoder has them."""
    node = helper.make_node
    rng = np.random.default_rng(5)
    constants = {
        "keys": rng.normal(size=(1, 2 * WINDOW + 1, DEPTH)).astype(np.float32),
        "values": rng.normal(size=(1, 2 * WINDOW + 1, DEPTH)).astype(np.float32),
        "zero": np.array([0], np.int64),
        "start": np.array([start], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "beyond": np.array([WINDOW + 1], np.int64),
        "length_axis": np.array([2], np.int64),
    }
    nodes = [
        node("Shape", ["queries"], ["shape"]),
        node("Gather", ["shape", "length_axis"], ["length"], axis=0),
        node("Sub", ["length", "beyond"], ["more"]),
        node("Concat", ["zero", "more", "zero", "zero", "more", "zero"], ["padding"], axis=0),
        node("Mul", ["length", "two"], ["twice"]),
        node("Sub", ["twice", "one"], ["end"]),
    ]
    for table in ("keys", "values"):
        nodes += [
            node("Pad", [table, "padding"], [f"{table}_padded"], mode="constant"),
            node("Slice", [f"{table}_padded", "start", "end", "one", "one"], [f"{table}_sliced"]),
            node("Unsqueeze", [f"{table}_sliced", "zero"], [f"{table}_table"]),
        ]
    nodes += [
        node("Transpose", ["keys_table"], ["keys_turned"], perm=[0, 1, 3, 2]),
        node("MatMul", ["queries", "keys_turned"], ["scores"]),
        node("MatMul", ["weights", "values_table"], ["applied"]),
    ]
    return graph_of(
        nodes,
        constants,
        {"queries": [1, HEADS, "length", DEPTH], "weights": [1, HEADS, "length", "places"]},
        {"scores": [1, HEADS, "length", "places"], "applied": [1, HEADS, "length", DEPTH]},
    )


@pytest.mark.parametrize("length", [1, 3, WINDOW + 1, WINDOW + 2, 40])
def test_relative_places_are_multiplied_before_they_are_padded(length: int) -> None:
    """To the bit, for runs shorter than the window too."""
    rng = np.random.default_rng(length)
    inputs = {
        "queries": rng.normal(size=(1, HEADS, length, DEPTH)).astype(np.float32),
        "weights": rng.normal(size=(1, HEADS, length, 2 * length - 1)).astype(np.float32),
    }
    if length > WINDOW + 1:  # beyond the window the table is zero
        assert not run(relative_attention(), **inputs)[0][..., : length - WINDOW - 1].any()
    model = relative_attention()
    before = run(model, **inputs)
    narrow_relative_places(model.graph)
    assert not any(node.op_type == "Slice" for node in model.graph.node), "the padded table is still made"
    for one, other in zip(before, run(model, **inputs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_table_that_is_not_taken_whole_is_left_alone() -> None:
    """Then cropping the scores would not be the same."""
    model = relative_attention(start=1)
    before = model.SerializeToString()
    narrow_relative_places(model.graph)
    assert model.SerializeToString() == before


def test_a_layer_normalisation_is_one_node_and_gives_the_same() -> None:
    """As a VITS voice's are exported: over the channels, which stand before the time but for the normalisation."""
    node = helper.make_node
    channels = 6
    constants = {
        "two": np.array(2, np.float32),
        "epsilon": np.array(1e-5, np.float32),
        "scale": np.linspace(0.5, 2, channels, dtype=np.float32),
        "shift": np.linspace(-1, 1, channels, dtype=np.float32),
    }
    nodes = [
        node("Transpose", ["x"], ["by_time"], perm=[0, 2, 1]),
        node("ReduceMean", ["by_time"], ["mean"], axes=[-1]),
        node("Sub", ["by_time", "mean"], ["even"]),
        node("Pow", ["even", "two"], ["squares"]),
        node("ReduceMean", ["squares"], ["variance"], axes=[-1]),
        node("Add", ["variance", "epsilon"], ["not_zero"]),
        node("Sqrt", ["not_zero"], ["deviation"]),
        node("Div", ["even", "deviation"], ["normal"]),
        node("Mul", ["normal", "scale"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["shifted"]),
        node("Transpose", ["shifted"], ["y"], perm=[0, 2, 1]),
    ]
    shape: list[int | str] = [1, channels, "time"]
    model = graph_of(nodes, constants, {"x": shape}, {"y": shape})
    x = np.random.default_rng(7).normal(size=(1, channels, 9)).astype(np.float32)

    (before,) = run(model, x=x)
    fuse_norms(model)
    assert [each.op_type for each in model.graph.node] == ["Transpose", "LayerNormalization", "Transpose"]
    (after,) = run(model, x=x)
    assert np.abs(after - before).max() < 1e-5


@pytest.mark.parametrize("auto_pad", [False, True], ids=["pads", "no pads"])
def test_a_convolution_over_a_picture_of_height_one_gives_the_same(auto_pad: bool) -> None:
    """Dilated, padded unevenly, with weights that two share; weights that something else reads too are left alone."""
    node = helper.make_node
    rng = np.random.default_rng(3)
    pads = {} if auto_pad else {"pads": [4, 2]}
    constants = {
        "weights": rng.normal(size=(16, 16, 3)).astype(np.float32),
        "others": rng.normal(size=(16, 16, 3)).astype(np.float32),
        "bias": rng.normal(size=16).astype(np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        node("Conv", ["x", "weights", "bias"], ["first"], dilations=[2], kernel_shape=[3], strides=[1], **pads),
        node("Conv", ["first", "weights"], ["second"], kernel_shape=[3], strides=[2]),
        node("Mul", ["others", "half"], ["computed"]),
        node("Conv", ["second", "computed"], ["third"], kernel_shape=[3]),
        node("Conv", ["third", "others"], ["y"], kernel_shape=[3]),
    ]
    model = graph_of(nodes, constants, {"x": [1, 16, "time"]}, {"y": [1, 16, "less"]})
    x = rng.normal(size=(1, 16, 40)).astype(np.float32)
    (before,) = run(model, x=x)
    flatten_convolutions(model.graph)
    (after,) = run(model, x=x)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-2)
    assert sum(each.op_type == "Unsqueeze" for each in model.graph.node) == 2
