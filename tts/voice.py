"""One Piper voice: text to phonemes, phonemes to a latent, ranges of the latent to audio."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from piper import PiperVoice
from piper.config import PiperConfig

from serving.audio import Samples
from tts.chunks import plan, whole
from tts.graph import BACK, FRONT, Cut, split_voice
from tts.loudness import amplify, gain_to
from tts.phonemes import runs

log = logging.getLogger(__name__)
# It warns of each phoneme that a voice does not know, once a text; clients write the texts.
logging.getLogger("piper").setLevel(logging.ERROR)

FAITHFUL_DB = 60.0
"""How near chunks must come to the whole rendering (signal to noise) for a voice to be rendered in chunks."""
_WARM_UP_TEXT = "One, two, three, four, five, six."
"""Long enough for a chunk with neighbours on both sides; whole it is no longer than the largest chunk."""
_LOUDNESS_TEXT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
"""By which a voice's loudness is measured; espeak-ng reads it in every language."""

_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""Control characters and halves of characters, at which espeak-ng's binding fails."""


@dataclass(frozen=True)
class Manner:
    """How a text is to be spoken."""

    speed: float = 1.0
    speaker: int = 0
    noise_scale: float | None = None
    """None for the voice's own."""
    noise_w_scale: float | None = None


class Voice:
    """A loaded voice. Rendering is done by one thread at a time; the rest is safe to read from any."""

    def __init__(self, model_dir: Path, voice_id: str, *, device: str, threads: int) -> None:
        """Load `<voice_id>.onnx` and its JSON. Raises `OSError`, `ValueError` or ONNX Runtime's errors."""
        self.id = voice_id
        onnx_file = model_dir / f"{voice_id}.onnx"
        described = json.loads((model_dir / f"{voice_id}.onnx.json").read_text(encoding="utf-8"))
        self._config = PiperConfig.from_dict(described)
        self.sample_rate: int = self._config.sample_rate
        self.language: str = described.get("language", {}).get("code") or self._config.espeak_voice
        self.speakers: list[str] = list(described.get("speaker_id_map", {})) or ["0"]
        self._speaker_numbers: dict[str, int] = described.get("speaker_id_map", {}) or {"0": 0}
        # Piper's own class does the phonemes; its session stays empty, ours are cut in two.
        self._phonemizer = PiperVoice(session=None, config=self._config)
        with tempfile.TemporaryDirectory(prefix="chorus-voice-") as folder:
            self._cut = split_voice(onnx_file, Path(folder))
            if self._cut is None:
                self._whole = _session(onnx_file, device, threads)
            else:
                self._front = _session(Path(folder) / FRONT, device, threads)
                self._back = _session(Path(folder) / BACK, device, threads)
        self._plan = plan
        self._gain: float | None = None

    def warm_up(self) -> None:
        """Make the slow first calls, and see that chunks give what the whole gives; else render whole from now on."""
        even = Manner(noise_scale=0, noise_w_scale=0)
        for ids in self.phonemize(_WARM_UP_TEXT):
            self._plan = whole
            at_once = np.concatenate(list(self.render(ids, even)))
            self._plan = plan
            joined = np.concatenate(list(self.render(ids, even)))
            if (found := _snr_db(at_once, joined)) < FAITHFUL_DB:
                log.warning("voice %s is rendered whole: its chunks differ from it (%.0f dB SNR)", self.id, found)
                self._plan = whole
                return

    def level_to(self, lufs: float) -> None:
        """Be as loud as that from now on, whatever is said: one gain for the voice, measured on its first speaker."""
        self._gain = None
        even = Manner(noise_scale=0, noise_w_scale=0)
        spoken = [samples for ids in self.phonemize(_LOUDNESS_TEXT) for samples in self.render(ids, even)]
        self._gain = gain_to(lufs, np.concatenate(spoken), self.sample_rate)
        log.info("voice %s is amplified by %.1f dB", self.id, 20 * np.log10(self._gain))

    def speaker_number(self, speaker: str | int | None) -> int | None:
        """The number of a speaker given by name or number; None where there is no such speaker."""
        if speaker is None:
            return 0
        if isinstance(speaker, int) or speaker.isdecimal():
            number = int(speaker)
            return number if 0 <= number < max(1, self._config.num_speakers) else None
        return self._speaker_numbers.get(speaker)

    def phonemize(self, text: str) -> list[list[int]]:
        """Phoneme ids of each part of the text that the encoder takes at once; none where nothing can be spoken."""
        sentences = self._phonemizer.phonemize(_UNSPEAKABLE.sub(" ", text))
        return [self._phonemizer.phonemes_to_ids(run) for phonemes in sentences for run in runs(phonemes)]

    def render(self, ids: list[int], manner: Manner) -> Iterator[Samples]:
        """The audio of one sentence, chunk by chunk, float in [-1, 1]; each `next` is one call of the model."""
        for samples in self._render(ids, manner):
            yield samples if self._gain is None else amplify(samples, self._gain)

    def _render(self, ids: list[int], manner: Manner) -> Iterator[Samples]:
        if self._cut is None:
            yield self._run(self._whole, None, self._front_inputs(ids, manner))[0].reshape(-1)
            return
        yield from self._render_chunks(ids, manner, self._cut)

    def _render_chunks(self, ids: list[int], manner: Manner, cut: Cut) -> Iterator[Samples]:
        names = [cut.latent, *cut.others]
        given = dict(zip(names, self._run(self._front, names, self._front_inputs(ids, manner)), strict=True))
        frames: int = given[cut.latent].shape[-1]
        for chunk in self._plan(frames):
            seen = slice(chunk.start - chunk.before, chunk.end + chunk.after)
            part = {name: tensor[..., seen] if tensor.shape[-1] == frames else tensor for name, tensor in given.items()}
            audio = self._run(self._back, None, part)[0].reshape(-1)
            hop = len(audio) // (seen.stop - seen.start)
            yield audio[chunk.before * hop : len(audio) - chunk.after * hop]

    def _front_inputs(self, ids: list[int], manner: Manner) -> dict[str, npt.NDArray[Any]]:
        config = self._config
        noise = config.noise_scale if manner.noise_scale is None else manner.noise_scale
        noise_w = config.noise_w_scale if manner.noise_w_scale is None else manner.noise_w_scale
        inputs: dict[str, npt.NDArray[Any]] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([noise, config.length_scale / manner.speed, noise_w], np.float32),
        }
        if config.num_speakers > 1:
            inputs["sid"] = np.array([manner.speaker], np.int64)
        return inputs

    @staticmethod
    def _run(
        session: onnxruntime.InferenceSession, outputs: list[str] | None, inputs: dict[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[np.float32]]:
        results: list[npt.NDArray[np.float32]] = session.run(outputs, inputs)
        return results


def _session(path: Path, device: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from everybody else: half as much CPU again, and a later sound.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena saves a fifth of the CPU time; runs of phonemes and chunks are bounded, and so is what it keeps.
    # Memory patterns are for inputs of one shape.
    options.enable_mem_pattern = False
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        # The default search tries every algorithm anew for each length of sentence.
        providers.insert(0, ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}))
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _snr_db(reference: Samples, other: Samples) -> float:
    """Signal to noise; minus infinity where the lengths differ."""
    if len(reference) != len(other):
        return -np.inf
    noise = float(np.mean((reference - other) ** 2, dtype=np.float64))
    signal = float(np.mean(reference**2, dtype=np.float64))
    return 10 * float(np.log10(signal / noise)) if noise else np.inf
