"""One Piper voice: text to phonemes, phonemes to a latent, ranges of the latent to audio."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from piper import PiperVoice
from piper.config import PiperConfig

from serving.audio import Samples
from tts.arena import use_shared_arena
from tts.chunks import BACK_OVERLAP_FRAMES, Chunk, chunk, plan, whole
from tts.graph import BACK, FRONT, MIDDLE, WHOLE, Cut, split_voice
from tts.loudness import amplify, gain_to
from tts.normalise import normalise
from tts.phonemes import runs
from tts.timeline import Lengths, Timeline
from tts.words import place, symbols

log = logging.getLogger(__name__)
# It warns of each phoneme that a voice does not know, once a text; clients write the texts.
logging.getLogger("piper").setLevel(logging.ERROR)

FAITHFUL_DB = 60.0
"""How near chunks must come to the whole rendering (signal to noise) for a voice to be rendered in chunks."""
SPIN_US = 10
"""Microseconds for which a thread spins that waits for its share of the next operator within a call: to wake it would
take as long. Longer spinning, and any after a call, takes the cores from everybody else."""
HASTY_SPIN_US = 100
"""The same in haste, when nobody else needs the cores: the front's small operators are over before it sleeps."""
_WARM_UP_TEXT = "One, two, three, four, five."
"""Long enough for a chunk with neighbours on both sides; whole it is about as long as what the largest chunk sees."""
_LOUDNESS_TEXT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
"""By which a voice's loudness is measured; espeak-ng reads it in every language."""

_WORDS_KEPT = 4096
"""How many words' sounds a voice remembers; words longer than the longest are not kept."""
_LONGEST_KEPT = 40
"""Characters."""
_phonemizing = threading.Lock()
"""espeak-ng has one state for the whole process."""


@dataclass(frozen=True)
class Manner:
    """How a text is to be spoken."""

    speed: float = 1.0
    speaker: int = 0
    noise_scale: float | None = None
    """None for the voice's own."""
    noise_w_scale: float | None = None


@dataclass
class Utterance:
    """A run of phonemes whose durations are known, and how much of it has become sound."""

    frames: int
    given: dict[str, npt.NDArray[Any]]
    """What the middle takes, of all frames; empty where the audio is already there."""
    divisible: bool = True
    """Whether it may be rendered in chunks of any size; if not, all frames must be asked for at once."""
    audio: Samples | None = None
    """Of a voice that can't be cut: all of it."""
    lengths: Lengths | None = None
    """Samples that each phoneme id lasts; None where the voice does not tell."""
    done: int = 0
    """Frames that were rendered."""

    @property
    def left(self) -> int:
        """Frames that were not."""
        return self.frames - self.done


@dataclass(frozen=True)
class Sessions:
    """The parts of a voice, ready to run."""

    parts: dict[str, onnxruntime.InferenceSession]
    """By the file that they were loaded from: `tts.graph.WHOLE` alone, or the other three."""

    def run(
        self, part: str, outputs: list[str] | None, inputs: dict[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[np.float32]]:
        """The outputs of one call."""
        results: list[npt.NDArray[np.float32]] = self.parts[part].run(outputs, inputs)
        return results


class Voice:
    """A loaded voice; any thread may use it."""

    def __init__(self, model_dir: Path, voice_id: str, *, device: str, threads: int, hasty_threads: int = 1) -> None:
        """Load `<voice_id>.onnx` and its JSON. Raises `OSError`, `ValueError` or ONNX Runtime's errors.

        `hasty_threads` work for calls that are made in haste; more than `threads` cost 20 MB.
        """
        self.id = voice_id
        onnx_file = model_dir / f"{voice_id}.onnx"
        described = json.loads((model_dir / f"{voice_id}.onnx.json").read_text(encoding="utf-8"))
        self._config = PiperConfig.from_dict(described)
        self.sample_rate: int = self._config.sample_rate
        self._language: str = described.get("language", {}).get("code") or self._config.espeak_voice
        # Piper's own class does the phonemes; its session stays empty, ours are cut in three.
        self._phonemizer = PiperVoice(session=None, config=self._config)
        with tempfile.TemporaryDirectory(prefix="chorus-voice-") as folder:
            parts = split_voice(onnx_file, Path(folder))
            self._cut = parts.cut
            self._timed = [] if parts.durations is None else [parts.durations]
            names = (WHOLE,) if self._cut is None else (FRONT, MIDDLE, BACK)

            def sessions(threads: int, spin_us: int) -> Sessions:
                return Sessions({name: _session(Path(folder) / name, device, threads, spin_us) for name in names})

            self._usual = sessions(threads, SPIN_US)
            self._hasty = sessions(hasty_threads, HASTY_SPIN_US) if hasty_threads > threads else self._usual
        self._plan = plan
        self._kept_sounds = lru_cache(_WORDS_KEPT)(partial(_sounds_alone, self._phonemizer, self._language))
        self._gain: float | None = None
        self._reads = bool(self._read(_WARM_UP_TEXT))
        """Whether the language can read the test sentence at all."""

    def warm_up(self) -> None:
        """Make the slow first calls, and see that chunks give what the whole gives; else render whole from now on."""
        even = Manner(noise_scale=0, noise_w_scale=0)
        for ids in self.phonemize(_WARM_UP_TEXT):
            self._plan = whole
            at_once = np.concatenate(list(self.render(ids, even)))
            lengths = self.begin(ids, even).lengths
            if lengths is not None and lengths.sum() != len(at_once):
                log.warning("voice %s does not time words: its phonemes are not as long as its audio", self.id)
                self._timed = []
            self._plan = plan
            joined = np.concatenate(list(self.render(ids, even)))
            if (found := _snr_db(at_once, joined)) < FAITHFUL_DB:
                log.warning("voice %s is rendered whole: its chunks differ from it (%.0f dB SNR)", self.id, found)
                self._plan = whole
            if self._hasty is not self._usual:
                hurried = self.begin(ids, even, hasty=True)
                self.go_on([hurried], hurried.frames, hasty=True)

    def level_to(self, lufs: float) -> None:
        """Be as loud as that from now on, whatever is said: one gain for the voice, measured on its first speaker."""
        self._gain = None
        even = Manner(noise_scale=0, noise_w_scale=0)
        spoken = [samples for ids in self.phonemize(_LOUDNESS_TEXT) for samples in self.render(ids, even)]
        self._gain = gain_to(lufs, np.concatenate(spoken), self.sample_rate)
        log.info("voice %s is amplified by %.1f dB", self.id, 20 * np.log10(self._gain))

    def phonemize(self, text: str) -> list[list[int]]:
        """Phoneme ids of each part of the text that the encoder takes at once; none where nothing can be spoken."""
        return [self._phonemizer.phonemes_to_ids(run) for run in self._runs(text)]

    @property
    def times_words(self) -> bool:
        """Whether the voice tells how long phonemes last, and so when a word is heard."""
        return bool(self._timed)

    def timeline(self, text: str) -> Timeline:
        """When the words of a text are heard, given the lengths and the audio of what `phonemize` gives for it."""
        parts = self._runs(text)
        pieces = ((piece.written, piece.spoken) for piece in normalise(text, self._language).pieces)
        placed = place(pieces, parts, self._sounds)
        return Timeline(placed, [self._first_ids(run) for run in parts], self.sample_rate)

    def render(self, ids: list[int], manner: Manner) -> Iterator[Samples]:
        """The audio of one run of phonemes, chunk by chunk."""
        utterance = self.begin(ids, manner)
        for each in (self._plan if utterance.divisible else whole)(utterance.frames):
            yield self.go_on([utterance], each.end - each.start)[0]

    def begin(self, ids: list[int], manner: Manner, *, hasty: bool = False) -> Utterance:
        """Encode phonemes and decide how long each lasts: one call of the model.

        In haste it is over sooner, at the price of more processor time: for a machine that has nothing else to do.
        """
        sessions = self._hasty if hasty else self._usual
        if self._cut is None:
            sound, *durations = sessions.run(WHOLE, None, self._front_inputs(ids, manner))
            audio = sound.reshape(-1)
            frames = max(1, len(audio) // self._config.hop_length)
            return Utterance(frames, {}, divisible=False, audio=audio, lengths=self._lengths(durations))
        names = [self._cut.latent, *self._cut.others]
        tensors = sessions.run(FRONT, names + self._timed, self._front_inputs(ids, manner))
        given, durations = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        frames = given[self._cut.latent].shape[-1]
        return Utterance(frames, given, divisible=self._plan is not whole, lengths=self._lengths(durations))

    def go_on(self, utterances: list[Utterance], frames: int, *, hasty: bool = False) -> list[Samples]:
        """The next frames of each as audio, float in [-1, 1]: one call of the model, in haste as `begin`'s.

        Those that are rendered together must have the same number of frames before and after these to be seen.
        """
        if self._cut is None:
            return [self._at_once(each) for each in utterances]
        chunks = [chunk(each.done, frames, each.frames) for each in utterances]
        parts = [
            _seen(utterance, part.start - part.before, part.end + part.after)
            for utterance, part in zip(utterances, chunks, strict=True)
        ]
        batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        rows = self._sound(batch, chunks[0], self._cut, self._hasty if hasty else self._usual).reshape(len(parts), -1)
        for utterance, part in zip(utterances, chunks, strict=True):
            utterance.done = part.end
        return [self._levelled(row) for row in rows]

    @staticmethod
    def _sound(seen: dict[str, npt.NDArray[Any]], part: Chunk, cut: Cut, sessions: Sessions) -> Samples:
        """The audio of chunks that are alike, from what the front gave of all frames that they see."""
        before, after = min(BACK_OVERLAP_FRAMES, part.before), min(BACK_OVERLAP_FRAMES, part.after)
        size = part.end - part.start
        features = sessions.run(MIDDLE, None, seen)[0]
        features = _inner(features, part.before - before, before + size + after, part.after - after)
        return _inner(sessions.run(BACK, None, {cut.features: features})[0], before, size, after)

    def _at_once(self, utterance: Utterance) -> Samples:
        assert utterance.audio is not None
        utterance.done = utterance.frames
        return self._levelled(utterance.audio)

    def _levelled(self, samples: Samples) -> Samples:
        return samples if self._gain is None else amplify(samples, self._gain)

    def _lengths(self, durations: list[npt.NDArray[np.float32]]) -> Lengths | None:
        if not self._timed or not durations:
            return None
        lengths: Lengths = durations[0].reshape(-1).astype(np.int64) * self._config.hop_length
        return lengths

    def _runs(self, text: str) -> list[list[str]]:
        """The phonemes of each part of the text that the encoder takes at once. Raises `RuntimeError`."""
        spoken = normalise(text, self._language).text
        found = self._read(spoken)
        if found or not any(each.isalnum() for each in spoken):
            return found
        # A word of a script that the language has not, or espeak-ng can't open its dictionary, which it tells nobody:
        # it opens it at each call, and a process without a descriptor left would speak silence.
        if self._reads and not self._read(_WARM_UP_TEXT):
            raise RuntimeError("espeak-ng reads nothing any more; can it open its files?")
        return self._read(spoken)

    def _read(self, spoken: str) -> list[list[str]]:
        with _phonemizing:
            sentences = self._phonemizer.phonemize(spoken)
        return [run for phonemes in sentences for run in runs(phonemes)]

    def _first_ids(self, run: list[str]) -> list[int]:
        """Where in the ids of a run each of its phonemes begins, and where the last has ended."""
        to_ids = self._phonemizer.phonemes_to_ids
        around, end = len(to_ids([])), len(self._config.phoneme_id_map["$"])
        return list(accumulate((len(to_ids([phoneme])) - around for phoneme in run), initial=around - end))

    def _sounds(self, text: str) -> tuple[str, ...]:
        return (
            self._kept_sounds(text)
            if len(text) <= _LONGEST_KEPT
            else _sounds_alone(self._phonemizer, self._language, text)
        )

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


def _sounds_alone(phonemizer: PiperVoice, language: str, text: str) -> tuple[str, ...]:
    """What is spoken for a text that stands alone; see `tts.words`."""
    spoken = normalise(text, language).text
    with _phonemizing:
        sentences = phonemizer.phonemize(spoken)
    return symbols(phoneme for phonemes in sentences for phoneme in [*phonemes, " "])


def _session(path: Path, device: str, threads: int, spin_us: int = SPIN_US) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # The arena saves a fifth of the CPU time.
    # Memory patterns are for inputs of one shape.
    options.enable_mem_pattern = False
    use_shared_arena(options)
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        # The default search tries every algorithm anew for each length of sentence.
        providers.insert(0, ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}))
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _seen(utterance: Utterance, start: int, end: int) -> dict[str, npt.NDArray[Any]]:
    """What the middle takes for these frames; what has no frames (a speaker's embedding) stays whole."""
    return {
        name: tensor[..., start:end] if tensor.shape[-1] == utterance.frames else tensor
        for name, tensor in utterance.given.items()
    }


def _inner(computed: Samples, before: int, size: int, after: int) -> Samples:
    """What was computed of `size` frames, without those around them; the last axis is time, at any rate."""
    rate = computed.shape[-1] // (before + size + after)
    return computed[..., before * rate : (before + size) * rate]


def _snr_db(reference: Samples, other: Samples) -> float:
    """Signal to noise; minus infinity where the lengths differ."""
    if len(reference) != len(other):
        return -np.inf
    noise = float(np.mean((reference - other) ** 2, dtype=np.float64))
    signal = float(np.mean(reference**2, dtype=np.float64))
    return 10 * float(np.log10(signal / noise)) if noise else np.inf
