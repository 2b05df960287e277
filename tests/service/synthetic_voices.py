"""Voices for tests, made from the real one: no other fits a machine that reaches only a package registry.

They are synthetic: the real voice's graph and weights with the decoder's first layer given another colour, and
nobody's voice. They have a real one's size and shape, and go through the same loading: description, cut, comparison
of chunks with the whole. The one with several speakers adds an embedding to what that layer gives, by `sid`, as a
VITS decoder does; so a third tensor crosses the cut.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

REAL = "en_US-joe-medium"
FIRST_LAYER = "/dec/conv_pre/Conv"
"""Node of the decoder's first convolution; its output has the channels that a speaker's embedding is added to."""


def make_voice(models: Path, voice_id: str, real: Path, seed: int, speakers: tuple[str, ...] = ()) -> Path:
    """Write a voice into `models`, derived from the one in the folder `real`; returns its folder."""
    model = onnx.load(str(real / f"{REAL}.onnx"))
    random = np.random.default_rng(seed)
    layer = next(node for node in model.graph.node if node.name == FIRST_LAYER)
    weights = next(each for each in model.graph.initializer if each.name == layer.input[1])
    values = numpy_helper.to_array(weights)
    colour = random.uniform(0.5, 1.5, (values.shape[0], 1, 1))
    weights.CopyFrom(numpy_helper.from_array((values * colour).astype(np.float32), weights.name))
    if speakers:
        add_speakers(model.graph, layer, random.normal(0, 0.3, (len(speakers), values.shape[0])).astype(np.float32))

    described = json.loads((real / f"{REAL}.onnx.json").read_text(encoding="utf-8"))
    described["language"]["code"] = "en_GB"
    described["num_speakers"] = max(1, len(speakers))
    described["speaker_id_map"] = {name: number for number, name in enumerate(speakers)}
    folder = models / f"piper-{voice_id}"
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / f"{voice_id}.onnx"))
    (folder / f"{voice_id}.onnx.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def add_speakers(graph: onnx.GraphProto, layer: onnx.NodeProto, table: np.ndarray) -> None:
    """Give the graph an input `sid`, whose row of the table is added to what the layer gives."""
    rename(graph, "sid", "enc_p.emb.weight")  # so is the phonemes' table called where there is one speaker
    graph.input.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
    graph.initializer.append(numpy_helper.from_array(table, "emb_g.weight"))
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "emb_g.axes"))
    plain = f"{layer.output[0]}_plain"
    added = [
        helper.make_node("Gather", ["emb_g.weight", "sid"], ["emb_g.row"]),
        helper.make_node("Unsqueeze", ["emb_g.row", "emb_g.axes"], ["emb_g.g"]),
        helper.make_node("Add", [plain, "emb_g.g"], [layer.output[0]]),
    ]
    layer.output[0] = plain
    # Nodes stand in the order in which they run.
    at = next(index for index, node in enumerate(graph.node) if node.name == layer.name)
    nodes = [*graph.node[: at + 1], *added, *graph.node[at + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a constant of the graph another name."""
    for constant in graph.initializer:
        constant.name = new if constant.name == old else constant.name
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
