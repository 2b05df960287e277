"""Cuts a Piper voice's ONNX graph in two, so that sound can be made in chunks.

    front: phonemes -> text encoder, durations -> latent and mask       needs the whole sentence
    back:  latent and mask -> flow, decoder -> audio                    convolutional: any range of frames

The front also gives the durations, from which follows when each word is heard.

The cut lies where noise has just been added to the latent, before the flow (VITS, Kim et al. 2021). Tensor names
differ from export to export, so it is found by the graph's shape: what follows the last random tensor.

Run as a program (`python -m tts.graph VOICE.onnx FOLDER`), because the `onnx` package and two copies of the
graph would otherwise stay in the service's memory. Prints the parts as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FRONT = "front.onnx"
BACK = "back.onnx"
WHOLE = "whole.onnx"


@dataclass(frozen=True)
class Cut:
    """The tensors that the front gives and the back takes."""

    latent: str
    """(1, channels, frames)"""
    others: tuple[str, ...]
    """The mask (1, 1, frames), and the speaker's embedding where there are several."""


@dataclass(frozen=True)
class Parts:
    """What a voice was taken apart into."""

    cut: Cut | None
    """None where it can't be cut."""
    durations: str | None
    """The tensor (1, 1, phoneme ids) of frames that each phoneme id lasts; None where there is none to be found."""


class NoCut(ValueError):
    """A graph that this module can't take apart; such a voice runs whole."""


def split_voice(voice: Path, folder: Path) -> Parts:
    """Write `front.onnx` and `back.onnx` of a voice into `folder`, or `whole.onnx` where it can't be cut. Blocks.

    The durations, if any, are an output of the front, or of the whole.
    """
    command = [sys.executable, "-m", "tts.graph", str(voice), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{voice.name} can't be read: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout)
    cut = found["cut"]
    return Parts(None if cut is None else Cut(cut["latent"], tuple(cut["others"])), found["durations"])


def find_cut(graph: Any) -> Cut:
    """The cut of an `onnx.GraphProto`. Raises `NoCut`."""
    constants = {tensor.name for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    noise = [node for node in graph.node if node.op_type == "RandomNormalLike"]
    if not noise:
        raise NoCut("no random tensor")
    # noise · exp(log scale) · noise_scale + mean: down from the noise, products until the sum.
    tensor = noise[-1].output[0]
    while True:
        users = consumers.get(tensor, [])
        if len(users) != 1 or users[0].op_type not in ("Mul", "Add"):
            raise NoCut("the noise does not lead to a sum")
        tensor = users[0].output[0]
        if users[0].op_type == "Add":
            break

    back = _after(tensor, graph)
    if graph.output[0].name not in back:
        raise NoCut("the audio does not depend on the latent")
    from_inputs = _after([each.name for each in graph.input if each.name not in constants], graph)
    others: list[str] = []
    for node in graph.node:
        if node.output[0] not in back:
            continue
        for name in node.input:
            crosses = name in producer and name not in back and name in from_inputs
            if crosses and name != tensor and name not in others:
                others.append(name)
    return Cut(tensor, tuple(others))


def find_durations(graph: Any) -> str | None:
    """The frames of each phoneme id in an `onnx.GraphProto`: whole numbers of which a running sum is taken."""
    summed = {name for node in graph.node if node.op_type == "CumSum" for name in node.input}
    found = [node.output[0] for node in graph.node if node.op_type == "Ceil" and node.output[0] in summed]
    return found[0] if len(found) == 1 else None


def _after(start: str | list[str], graph: Any) -> set[str]:
    """Every tensor that depends on `start`; the graph's nodes are in topological order (ONNX IR)."""
    reached = {start} if isinstance(start, str) else set(start)
    for node in graph.node:
        if any(name in reached for name in node.input):
            reached.update(node.output)
    if isinstance(start, str):
        reached.discard(start)
    return reached


def main(voice: str, folder: str) -> None:
    """Split one voice and print its parts."""
    import onnx
    import onnx.shape_inference
    import onnx.utils

    model = onnx.load(voice)
    durations = find_durations(model.graph)
    timed = [] if durations is None else [durations]
    whole = Path(folder) / WHOLE
    try:
        cut = find_cut(model.graph)
    except NoCut:
        del model.graph.output[1:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in timed)
        onnx.save(model, str(whole))
        print(json.dumps({"cut": None, "durations": durations}))
        return
    onnx.save(onnx.shape_inference.infer_shapes(model), str(whole))
    names = [each.name for each in model.graph.input]
    crossing = [cut.latent, *cut.others]
    audio = model.graph.output[0].name  # a voice may have been given the durations as another output already
    for name, given, wanted in ((FRONT, names, [*crossing, *timed]), (BACK, crossing, [audio])):
        onnx.utils.extract_model(str(whole), str(Path(folder) / name), given, wanted, check_model=False)
    whole.unlink()
    print(json.dumps({"cut": {"latent": cut.latent, "others": cut.others}, "durations": durations}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
