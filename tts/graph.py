"""Cuts a Piper voice's ONNX graph in three, so that sound can be made in chunks.

    front:  phonemes -> text encoder, durations -> latent and mask          needs the whole sentence
    middle: latent and mask -> flow, first stage of the decoder -> features convolutional, hears far
    back:   features -> the decoder's other stages -> audio                 convolutional, hears hardly beyond a frame

The front also gives the durations, from which follows when each word is heard.

The first cut lies where noise has just been added to the latent, before the flow (VITS, Kim et al. 2021), the second
before the decoder's second upsampling (HiFi-GAN, Kong et al. 2020): behind it lies most of the work, at rates so high
that its convolutions reach over little time. Tensor names differ from export to export, so both are found by the
graph's shape: what follows the last random tensor, and the second transposed convolution.

Run as a program (`python -m tts.graph VOICE.onnx FOLDER`), because the `onnx` package and two copies of the
graph would otherwise stay in the service's memory. Prints the parts as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tts.simplify import simplify

LONGEST_S = 120
"""For a split, of which the child process has enough on a machine that is fully busy."""
NICE = 5
"""A quarter of a core beside others who want all of it: better a late voice than gaps in those that play."""
SMALL_BYTES = 1024
"""Tensors up to that stay in the graph."""
FRONT = "front.onnx"
MIDDLE = "middle.onnx"
BACK = "back.onnx"
WHOLE = "whole.onnx"


@dataclass(frozen=True)
class Cut:
    """The tensors that one part gives and the next takes."""

    latent: str
    """(1, channels, frames)"""
    others: tuple[str, ...]
    """The mask (1, 1, frames), and the speaker's embedding where there are several."""
    features: str
    """All that the back takes: (1, channels, frames times the first upsampling's factor)"""


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
    """Write `front.onnx`, `middle.onnx`, `back.onnx` of a voice, or `whole.onnx` where it can't be cut. Blocks.

    Beside each lie its weights; sessions go on when the folder is removed.

    The durations, if any, are an output of the front, or of the whole. Raises `RuntimeError` that names the voice.
    """
    command = [sys.executable, "-m", "tts.graph", str(voice), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{voice.name} was not taken apart within {LONGEST_S} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
        raise RuntimeError(f"{voice.name} can't be read: {said[-1]}")
    found = json.loads(done.stdout)
    cut = found["cut"]
    if cut is not None:
        cut = Cut(cut["latent"], tuple(cut["others"]), cut["features"])
    return Parts(cut, found["durations"])


def find_cut(graph: Any) -> Cut:
    """The cut of an `onnx.GraphProto`. Raises `NoCut`."""
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    noise = [node for node in graph.node if node.op_type == "RandomNormalLike"]
    if not noise:
        raise NoCut("no random tensor")
    # noise · exp(log scale) · noise_scale + mean: down from the noise, products until the sum.
    latent = noise[-1].output[0]
    while True:
        users = consumers.get(latent, [])
        if len(users) != 1 or users[0].op_type not in ("Mul", "Add"):
            raise NoCut("the noise does not lead to a sum")
        latent = users[0].output[0]
        if users[0].op_type == "Add":
            break

    convolutional = _after(latent, graph)
    if graph.output[0].name not in convolutional:
        raise NoCut("the audio does not depend on the latent")
    upsampled = [node.input[0] for node in graph.node if node.op_type == "ConvTranspose"]
    if len(upsampled) < 2 or upsampled[1] not in convolutional:
        raise NoCut("the audio is not upsampled in stages")
    features = upsampled[1]
    if _beside(features, graph):
        raise NoCut("later stages of the decoder need more than what the first gives")
    return Cut(latent, _beside(latent, graph), features)


def _beside(tensor: str, graph: Any) -> tuple[str, ...]:
    """What else the nodes behind a tensor take of those that do not depend on it, constants aside."""
    constants = {each.name for each in graph.initializer}
    computed = _after([each.name for each in graph.input if each.name not in constants], graph)
    behind = _after(tensor, graph)
    names = (name for node in graph.node if node.output[0] in behind for name in node.input)
    return tuple(dict.fromkeys(name for name in names if name in computed and name not in behind and name != tensor))


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


def give_way() -> None:
    """Take less of the processor than who is being served, and be the one to go where memory runs out."""
    os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _save(model: Any, path: Path) -> None:
    """Weights apart from the graph: sessions map them into memory, and those of the same file share them."""
    import onnx

    # The back has a fiftieth of a voice's weights, and most of its work.
    simplify(model, few_weights=path.name == BACK)
    weights = f"{path.name}.weights"
    onnx.save(model, str(path), save_as_external_data=True, location=weights, size_threshold=SMALL_BYTES)


def main(voice: str, folder: str) -> None:
    """Split one voice and print its parts."""
    import onnx
    import onnx.shape_inference
    import onnx.utils

    give_way()
    whole = Path(folder) / WHOLE
    # From file to file: with the graph in Python's memory too it takes twice as much, of memory and of time.
    onnx.shape_inference.infer_shapes_path(voice, str(whole))
    model = onnx.load(str(whole))
    durations = find_durations(model.graph)
    timed = [] if durations is None else [durations]
    try:
        cut = find_cut(model.graph)
    except NoCut:
        del model.graph.output[1:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in timed)
        _save(model, whole)
        print(json.dumps({"cut": None, "durations": durations}))
        return
    whole.unlink()
    names = [each.name for each in model.graph.input]
    crossing = [cut.latent, *cut.others]
    audio = model.graph.output[0].name  # a voice may have been given the durations as another output already
    parts = (
        (FRONT, names, [*crossing, *timed]),
        (MIDDLE, crossing, [cut.features]),
        (BACK, [cut.features], [audio]),
    )
    extractor = onnx.utils.Extractor(model)
    for name, given, wanted in parts:
        _save(extractor.extract_model(given, wanted), Path(folder) / name)
    print(json.dumps(asdict(Parts(cut, durations))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
