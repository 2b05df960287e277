"""Cutting voices in three, on small graphs made here: several speakers, and graphs that can't be cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tts import chunks
from tts.graph import Cut, NoCut, find_cut, find_durations, split_voice
from tts.voice import Manner, Voice

pytestmark = pytest.mark.unit

FRAMES_PER_PHONEME = 10
STAGES = (2, 3)
HOP = STAGES[0] * STAGES[1]
STILL = Manner(noise_scale=0, noise_w_scale=0)


def tiny_voice(
    *,
    speakers: int,
    noise: bool = True,
    timed: bool = True,
    stages: tuple[int, ...] = STAGES,
    speaker_in_every_stage: bool = False,
) -> onnx.ModelProto:
    """A graph built as a VITS voice's is: durations, latent and mask in front; convolutions by frame behind."""
    node, constants = helper.make_node, dict[str, np.ndarray]()
    constants["zero"] = np.array(0, np.int64)
    constants["axes_1"] = np.array([1], np.int64)
    constants["axes_3"] = np.array([3], np.int64)
    constants["axes_2"] = np.array([2], np.int64)
    constants["axis_2"] = np.array(2, np.int64)
    constants["repeat"] = np.array([1, 1, 1, FRAMES_PER_PHONEME], np.int64)
    constants["by_frame"] = np.array([1, 1, -1], np.int64)
    constants["nothing"] = np.array(0, np.float32)
    constants["a_little_less"] = np.array(FRAMES_PER_PHONEME - 0.5, np.float32)
    constants["deviation"] = np.array(0.5, np.float32)
    constants["small"] = np.array(0.01, np.float32)
    constants["flow"] = np.array([[[0.1, 0.2, 0.4, 0.2, 0.1]]], np.float32)
    nodes = [
        node("Cast", ["input"], ["ids"], to=TensorProto.FLOAT),
        node("Mul", ["ids", "small"], ["embedded"]),
        node("Unsqueeze", ["embedded", "axes_1"], ["encoded"]),
        node("Unsqueeze", ["encoded", "axes_3"], ["encoded_4d"]),
        node("Tile", ["encoded_4d", "repeat"], ["repeated"]),
        node("Reshape", ["repeated", "by_frame"], ["mean"]),
        node("Equal", ["mean", "mean"], ["is_frame"]),
        node("Cast", ["is_frame"], ["mask"], to=TensorProto.FLOAT),
        node("Gather", ["scales", "zero"], ["noise_scale"]),
    ]
    if timed:
        nodes += [
            node("Mul", ["encoded", "nothing"], ["no_durations"]),
            node("Add", ["no_durations", "a_little_less"], ["durations"]),
            node("Ceil", ["durations"], ["whole_durations"]),
            node("CumSum", ["whole_durations", "axis_2"], ["ends"]),
        ]
    if noise:
        nodes += [
            node("RandomNormalLike", ["encoded"], ["noise_of_durations"]),
            node("Mul", ["noise_of_durations", "small"], ["drawn_durations"]),
            node("RandomNormalLike", ["mean"], ["noise"]),
            node("Mul", ["noise", "deviation"], ["scaled_once"]),
            node("Mul", ["scaled_once", "noise_scale"], ["scaled_twice"]),
            node("Add", ["mean", "scaled_twice"], ["latent"]),
        ]
    else:
        nodes.append(node("Identity", ["mean"], ["latent"]))
    nodes += [
        node("Conv", ["latent", "flow"], ["flown"], pads=[2, 2]),
        node("Mul", ["flown", "mask"], ["masked"]),
    ]
    if speakers > 1:
        constants["speakers"] = np.linspace(0.1, 0.9, speakers, dtype=np.float32).reshape(speakers, 1)
        nodes += [
            node("Gather", ["speakers", "sid"], ["speaker"]),
            node("Unsqueeze", ["speaker", "axes_2"], ["g"]),
            node("Add", ["masked", "g"], ["conditioned"]),
        ]
    wave = "conditioned" if speakers > 1 else "masked"
    for number, factor in enumerate(stages):
        # As long again as the factor on each side: it hears its neighbours, as a voice's do.
        weights = np.linspace(-0.5, 0.5, 3 * factor, dtype=np.float32)
        constants[f"stage_{number}"] = weights.reshape(1, 1, 3 * factor)
        upsampled = f"upsampled_{number}"
        nodes.append(
            node("ConvTranspose", [wave, f"stage_{number}"], [upsampled], strides=[factor], pads=[factor, factor])
        )
        wave = upsampled
        if speaker_in_every_stage:
            nodes.append(node("Add", [upsampled, "g"], [f"conditioned_{number}"]))
            wave = f"conditioned_{number}"
    nodes.append(node("Tanh", [wave], ["output"]))
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    if speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
    graph = helper.make_graph(
        nodes,
        "tiny voice",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, "samples"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def save_voice(folder: Path, model: onnx.ModelProto, speakers: int) -> Voice:
    """The voice as a model's folder holds it, loaded."""
    onnx.save(model, str(folder / "tiny.onnx"))
    described = {
        "audio": {"sample_rate": 16000},
        "hop_length": HOP,
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.6, "length_scale": 1, "noise_w": 0.8},
        "language": {"code": "en_US"},
        "num_symbols": 256,
        "num_speakers": speakers,
        "speaker_id_map": {f"speaker {n}": n for n in range(speakers)} if speakers > 1 else {},
        "phoneme_id_map": {chr(code): [code] for code in range(32, 127)} | {"_": [0], "^": [1], "$": [2]},
    }
    (folder / "tiny.onnx.json").write_text(json.dumps(described), encoding="utf-8")
    return Voice(folder, "tiny", device="cpu", threads=1)


def rendered(voice: Voice, ids: list[int], manner: Manner = STILL) -> np.ndarray:
    return np.concatenate(list(voice.render(ids, manner)))


IDS = list(range(3, 60))


def test_the_cuts_are_found_by_shape_and_not_by_name() -> None:
    """Behind the last noise: latent, mask, and the speaker's embedding where there are several; then one tensor."""
    assert find_cut(tiny_voice(speakers=1).graph) == Cut("latent", ("mask",), "upsampled_0")
    cut = find_cut(tiny_voice(speakers=3).graph)
    assert (cut.latent, set(cut.others), cut.features) == ("latent", {"mask", "g"}, "upsampled_0")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (tiny_voice(speakers=1, noise=False), "no random tensor"),
        (tiny_voice(speakers=1, stages=(HOP,)), "not upsampled in stages"),
        (tiny_voice(speakers=3, speaker_in_every_stage=True), "need more"),
    ],
)
def test_a_graph_of_another_shape_has_no_cut(tmp_path: Path, model: onnx.ModelProto, reason: str) -> None:
    """The reason is told here, None by the child process."""
    with pytest.raises(NoCut, match=reason):
        find_cut(model.graph)
    onnx.save(model, str(tmp_path / "voice.onnx"))
    assert split_voice(tmp_path / "voice.onnx", tmp_path).cut is None


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    """The child process's failure becomes an error here."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(RuntimeError, match=r"broken\.onnx"):
        split_voice(broken, tmp_path)


def test_a_split_that_takes_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the voice and the time, which clients are told, and not by a command line of this machine."""
    onnx.save(tiny_voice(speakers=1), str(tmp_path / "voice.onnx"))
    monkeypatch.setattr("tts.graph.LONGEST_S", 0.001)
    with pytest.raises(RuntimeError, match=r"voice\.onnx was not taken apart within 0\.001 s"):
        split_voice(tmp_path / "voice.onnx", tmp_path)


def test_several_speakers_keep_their_own_voice_in_every_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined chunks equal the whole for each speaker."""
    voice = save_voice(tmp_path, tiny_voice(speakers=3), 3)
    heard = []
    for number in range(3):
        manner = Manner(speaker=number, noise_scale=0, noise_w_scale=0)
        joined = rendered(voice, IDS, manner)
        monkeypatch.setattr(voice, "_plan", chunks.whole)
        assert len(list(voice.render(IDS, manner))) == 1
        np.testing.assert_allclose(joined, rendered(voice, IDS, manner), atol=1e-6)
        monkeypatch.setattr(voice, "_plan", chunks.plan)
        assert len(list(voice.render(IDS, manner))) > 3
        assert len(joined) == len(IDS) * FRAMES_PER_PHONEME * HOP
        heard.append(joined)
    assert not np.allclose(heard[0], heard[1])
    assert not np.allclose(heard[1], heard[2])


def test_noise_is_drawn_once_for_all_chunks(tmp_path: Path) -> None:
    """It is part of the latent: two renderings differ, neither has a seam."""
    voice = save_voice(tmp_path, tiny_voice(speakers=1), 1)
    noisy = Manner(noise_scale=1, noise_w_scale=0)
    assert not np.allclose(rendered(voice, IDS, noisy), rendered(voice, IDS, noisy))
    assert np.array_equal(rendered(voice, IDS), rendered(voice, IDS))


def test_a_voice_that_cannot_be_cut_runs_whole(tmp_path: Path) -> None:
    """One piece, of the same length as if it had been cut."""
    voice = save_voice(tmp_path, tiny_voice(speakers=1, noise=False), 1)
    voice.warm_up()
    (audio,) = list(voice.render(IDS, STILL))
    assert len(audio) == len(IDS) * FRAMES_PER_PHONEME * HOP


@pytest.mark.parametrize(("speakers", "noise"), [(1, True), (3, True), (1, False)])
def test_phonemes_are_as_long_as_the_audio(tmp_path: Path, speakers: int, noise: bool) -> None:
    """Of one speaker or several, of voices in chunks or whole: one length an id."""
    voice = save_voice(tmp_path, tiny_voice(speakers=speakers, noise=noise), speakers)
    voice.warm_up()
    assert voice.times_words
    lengths = voice.begin(IDS, STILL).lengths
    assert lengths is not None
    assert lengths.tolist() == [FRAMES_PER_PHONEME * HOP] * len(IDS)
    assert lengths.sum() == sum(map(len, voice.render(IDS, STILL)))


def test_a_voice_without_durations_times_no_words(tmp_path: Path) -> None:
    """Nor does one that has several tensors that might be them, nor one whose durations are not its audio's."""
    assert not save_voice(tmp_path, tiny_voice(speakers=1, timed=False), 1).times_words
    model = tiny_voice(speakers=1)
    assert find_durations(model.graph) == "whole_durations"
    (ceil,) = [each for each in model.graph.node if each.op_type == "Ceil"]
    (sums,) = [each for each in model.graph.node if each.op_type == "CumSum"]
    model.graph.node.extend([ceil, sums])
    assert find_durations(model.graph) is None
    model = tiny_voice(speakers=1)
    (less,) = [each for each in model.graph.initializer if each.name == "a_little_less"]
    less.CopyFrom(numpy_helper.from_array(np.array(FRAMES_PER_PHONEME + 0.5, np.float32), less.name))
    voice = save_voice(tmp_path, model, 1)
    assert voice.times_words
    voice.warm_up()
    assert not voice.times_words
    assert len(rendered(voice, IDS)) == len(IDS) * FRAMES_PER_PHONEME * HOP


def test_a_voice_may_have_its_durations_as_an_output_already(tmp_path: Path) -> None:
    """As Piper's own script adds them: cut or whole, the audio is still the audio."""
    for noise in (True, False):
        model = tiny_voice(speakers=1, noise=noise)
        model.graph.output.append(onnx.ValueInfoProto(name="whole_durations"))
        voice = save_voice(tmp_path, model, 1)
        assert voice.times_words
        assert len(rendered(voice, IDS)) == len(IDS) * FRAMES_PER_PHONEME * HOP


def test_nothing_of_the_cut_graph_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are deleted once they are loaded."""
    parts = tmp_path / "tmp"
    parts.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(parts))
    save_voice(tmp_path, tiny_voice(speakers=1), 1)
    assert list(parts.iterdir()) == []
