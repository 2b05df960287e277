"""Rewrites of a voice's graph that give the same numbers sooner. For the process that splits a voice (`tts.graph`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

WIDEN = "chorus_widen"
"""Initializer: where in the padding of a table (1, places, depth) that of scores (1, heads, length, places) is."""
HEIGHT = "chorus_height"
"""Initializer: the axis that a line of samples is given to be a picture of height one."""


def simplify(model: Any, *, few_weights: bool) -> None:
    """Make an `onnx.ModelProto` cheaper, in place; what it does not have is left alone.

    With `few_weights` at the cost of memory for them too.
    """
    narrow_relative_places(model.graph)
    if few_weights:
        flatten_convolutions(model.graph)
    fuse_norms(model)


def fuse_norms(model: Any) -> None:
    """Make one node of each layer normalisation, which is exported as nine: a tenth of the front's time.

    Sessions would do it by themselves, had they not moved the transpositions around it first.
    """
    from onnxruntime.transformers.fusion_layernorm import FusionLayerNormalization
    from onnxruntime.transformers.onnx_model import OnnxModel

    logging.getLogger("onnxruntime.transformers").setLevel(logging.WARNING)
    graph = OnnxModel(model)
    FusionLayerNormalization(graph).apply()
    graph.topological_sort()


@dataclass(frozen=True)
class _Table:
    """A table of relative places on its way into a product: padded, sliced, given a dimension, perhaps transposed."""

    name: str
    """The initializer (1, places, depth)."""
    padding: str
    """The tensor of its six paddings."""
    axes: str
    """Where it is given a dimension."""
    perm: list[int] | None
    """None where it is not transposed."""


def narrow_relative_places(graph: Any) -> None:
    """Take the padding of relative places behind the product: a twentieth of the front's time, more for long runs.

    VITS's text encoder looks at four places to each side, and multiplies with a table of those nine that is padded
    with zeros to twice the length (`_get_relative_embeddings` in VITS's attentions.py). The scores of the nine padded,
    or the weights cropped to the nine, are the same to the bit.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    producers = {name: node for node in graph.node for name in node.output}
    tables = {each.name for each in graph.initializer if len(each.dims) == 3}
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    constants |= {each.name: each for each in graph.initializer}
    zeros = {name for name, each in constants.items() if numpy_helper.to_array(each).tolist() == [0]}
    nodes: list[Any] = []
    for node in graph.node:
        table = _table_of(node, producers, tables, zeros)
        if table is None:
            nodes.append(node)
            continue
        stem = f"{node.output[0]}_narrow"
        wide, narrow = f"{stem}_wide", f"{stem}_table"
        nodes.append(helper.make_node("Gather", [table.padding, WIDEN], [wide], f"{stem}_gather"))
        nodes.append(helper.make_node("Unsqueeze", [table.name, table.axes], [narrow], f"{stem}_unsqueeze"))
        if table.perm is not None:
            turned, scores = f"{stem}_turned", f"{stem}_scores"
            nodes.append(helper.make_node("Transpose", [narrow], [turned], f"{stem}_transpose", perm=table.perm))
            nodes.append(helper.make_node("MatMul", [node.input[0], turned], [scores], f"{stem}_matmul"))
            nodes.append(helper.make_node("Pad", [scores, wide], list(node.output), f"{stem}_pad"))
        else:
            less, weights = f"{stem}_less", f"{stem}_weights"
            nodes.append(helper.make_node("Neg", [wide], [less], f"{stem}_neg"))
            nodes.append(helper.make_node("Pad", [node.input[0], less], [weights], f"{stem}_pad"))
            nodes.append(helper.make_node("MatMul", [weights, narrow], list(node.output), f"{stem}_matmul"))
    if len(nodes) == len(graph.node):
        return
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 1, 3, 3, 3, 4], np.int64), WIDEN))
    needed = _needed(nodes, [each.name for each in graph.output])
    del graph.node[:]
    graph.node.extend(needed)


def _table_of(product: Any, producers: dict[str, Any], tables: set[str], zeros: set[str]) -> _Table | None:
    """The table of relative places that a node multiplies by; None for any other node."""
    if product.op_type != "MatMul":
        return None
    node = producers.get(product.input[1])
    perm = None
    if node is not None and node.op_type == "Transpose":
        perm = list(node.attribute[0].ints)
        node = producers.get(node.input[0])
    if node is None or node.op_type != "Unsqueeze":
        return None
    axes, sliced = node.input[1], producers.get(node.input[0])
    # Of the padded table all is taken, to its end at twice the length less one; from elsewhere than 0 it would be less.
    if sliced is None or sliced.op_type != "Slice" or sliced.input[1] not in zeros:
        return None
    padded = producers.get(sliced.input[0])
    if padded is None or padded.op_type != "Pad" or padded.input[0] not in tables:
        return None
    return _Table(padded.input[0], padded.input[1], axes, perm)


def _needed(nodes: list[Any], outputs: list[str]) -> list[Any]:
    """The nodes that the outputs depend on, in order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def flatten_convolutions(graph: Any) -> None:
    """Make of each convolution over a line one over a picture of height one: a sixth off the decoder's later stages.

    ONNX Runtime has kernels for those that work in blocks of channels, without unfolding what they read (NCHWc). Each
    session keeps the weights in another order for them, so that sessions no longer share those of the file.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    elsewhere = {
        name for node in graph.node for place, name in enumerate(node.input) if node.op_type != "Conv" or place != 1
    }
    lines = {each.name: each for each in graph.initializer if len(each.dims) == 3 and each.name not in elsewhere}
    found = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in lines]
    if not found:
        return
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), HEIGHT))
    for name in {node.input[1] for node in found}:
        lines[name].dims.insert(2, 1)
    nodes: list[Any] = []
    for node in graph.node:
        if node not in found:
            nodes.append(node)
            continue
        for attribute in node.attribute:
            if attribute.name in ("kernel_shape", "strides", "dilations"):
                attribute.ints.insert(0, 1)
            elif attribute.name == "pads":
                begin, end = attribute.ints
                attribute.ints[:] = [0, begin, 0, end]
        (line,), given = node.output, node.input[0]
        node.input[0], node.output[0] = f"{line}_given", f"{line}_picture"
        nodes.append(helper.make_node("Unsqueeze", [given, HEIGHT], [node.input[0]], f"{line}_unsqueeze"))
        nodes.append(node)
        nodes.append(helper.make_node("Squeeze", [node.output[0], HEIGHT], [line], f"{line}_squeeze"))
    del graph.node[:]
    graph.node.extend(nodes)
