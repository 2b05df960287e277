"""Whisper on CTranslate2 as the scheduler's engine: right-sized windows, and a guard.

A window is as long as the utterance and some silence after it, not 30 s: the encoder's cost is proportional to
it. Short windows now and then end in a loop or in words that were not said; the guard notices most of that and
decodes such an utterance again in the full window (docs/decisions/0002-right-sized-windows.md has the figures).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import numpy as np
import tokenizers

from asr.engine import SAMPLE_RATE, Request, Transcript
from asr.mel import FULL_WINDOW, Mel, raw_log_mel, window
from asr.repetition import repeats_itself

PADDING = 500
"""Frames of silence after an utterance in its window, 5 s."""
SHORTEST_WINDOW = 1200
"""Frames, 12 s; in shorter ones Whisper loops more often and hears worse."""
WINDOW_STEP = 100
"""Windows are rounded up to this many frames, so that those of a batch differ little."""

LOW_LOGPROB = -0.9
"""Mean log-probability of a token under which the guard decodes again."""
HIGH_COMPRESSION = 2.0
"""Compression ratio of the text over which the guard decodes again: it repeats itself."""
NO_SPEECH = 0.6
"""Probability of `<|nospeech|>` over which an unlikely text is taken for made up (openai/whisper's own value)."""
NO_SPEECH_LOGPROB = -1.0
"""The text is unlikely under this mean log-probability (openai/whisper's own value)."""
MADE_UP_LOGPROB = -1.5
"""A text less likely than this is taken for made up, whatever `<|nospeech|>` says."""

TOKENS_PER_SECOND = 12
"""More than anybody speaks; a text that is longer is a loop."""
TOKENS_AT_LEAST = 16
DETECT = "auto"
"""Language setting that leaves it to the model."""
PROMPT_TOKENS = 160
"""Of the prompt, hotwords and context together; the model's own limit is 223."""


@dataclass(frozen=True)
class _Hypothesis:
    """What one decoding gave."""

    text: str
    logprob: float
    """Mean over the tokens, the end token included."""
    no_speech: float
    capped: bool
    """Whether it was cut at the most tokens allowed."""

    @property
    def compression(self) -> float:
        raw = self.text.encode()
        return len(raw) / len(zlib.compress(raw)) if raw else 0.0

    @property
    def suspect(self) -> bool:
        return (
            self.logprob < LOW_LOGPROB
            or self.compression > HIGH_COMPRESSION
            or self.capped
            or repeats_itself(self.text)
        )

    @property
    def made_up(self) -> bool:
        if self.no_speech > NO_SPEECH and self.logprob < NO_SPEECH_LOGPROB:
            return True
        return self.logprob < MADE_UP_LOGPROB


_NOTHING = _Hypothesis("", 0.0, 0.0, False)


@dataclass(eq=False)
class _Item:
    """A request on its way through a batch."""

    request: Request
    mel: Mel
    language: str = ""
    hypothesis: _Hypothesis = _NOTHING
    redone: bool = False

    @property
    def frames(self) -> int:
        """Of the window that is right for it."""
        wanted: int = self.mel.shape[1] + PADDING
        return min(FULL_WINDOW, max(SHORTEST_WINDOW, -(-wanted // WINDOW_STEP) * WINDOW_STEP))

    @property
    def token_cap(self) -> int:
        """Tokens that an utterance of this length can have."""
        return TOKENS_AT_LEAST + TOKENS_PER_SECOND * len(self.request.samples) // SAMPLE_RATE


class WhisperEngine:
    """One model, shared by all streams; called from one thread at a time."""

    def __init__(self, model_dir: Path, *, device: str, compute_type: str, threads: int, beam_size: int) -> None:
        """Load the model. Raises CTranslate2's `RuntimeError` or `ValueError` where it can't be."""
        self._model = ctranslate2.models.Whisper(
            str(model_dir), device=device, compute_type=compute_type, intra_threads=threads, inter_threads=1
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._beam_size = beam_size
        self._bands: int = self._model.n_mels
        self._sot = self._token("<|startoftranscript|>")
        self._eot = self._token("<|endoftext|>")
        self._prev = self._token("<|startofprev|>")
        self._no_timestamps = self._token("<|notimestamps|>")
        self.languages = self._read_languages()

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        """The words of each request, in their order. Either all are final or none is."""
        items = [_Item(request, raw_log_mel(request.samples, self._bands)) for request in requests]
        if requests[0].final:
            self._decode_finals(items)
        else:
            self._decode_partials(items)
        return [_transcript(item) for item in items]

    def _decode_partials(self, items: list[_Item]) -> None:
        self._decode(items, beam_size=1)
        for item in items:
            # A doubtful partial is better not shown: the next one comes soon.
            if item.hypothesis.made_up or item.hypothesis.capped or repeats_itself(item.hypothesis.text):
                item.hypothesis = _NOTHING

    def _decode_finals(self, items: list[_Item]) -> None:
        self._decode(items, beam_size=self._beam_size)
        doubtful = [item for item in items if item.hypothesis.suspect and item.frames < FULL_WINDOW]
        if doubtful:
            self._decode(doubtful, beam_size=self._beam_size, frames=FULL_WINDOW)
        for item in doubtful:
            item.redone = True
        for item in items:
            if item.hypothesis.made_up:
                item.hypothesis = _NOTHING

    def _decode(self, items: list[_Item], *, beam_size: int, frames: int = 0) -> None:
        """Set each item's hypothesis, batched as CTranslate2 wants it: equal windows and equal prompt lengths."""
        frames = frames or max(item.frames for item in items)
        features = np.stack([window(item.mel, frames) for item in items])
        encoded = self._model.encode(ctranslate2.StorageView.from_array(features), to_cpu=False)
        self._set_languages(items, encoded)
        prompts = [self._prompt(item) for item in items]
        for length in sorted({len(prompt) for prompt in prompts}):
            rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
            group = [items[row] for row in rows]
            part = encoded if len(rows) == len(items) else self._rows(features, rows)
            results = self._model.generate(
                part,
                [prompts[row] for row in rows],
                beam_size=beam_size,
                patience=1,
                length_penalty=1,
                max_length=length + max(item.token_cap for item in group),
                return_scores=True,
                return_no_speech_prob=True,
                suppress_blank=True,
                suppress_tokens=[-1],
            )
            for item, result in zip(group, results, strict=True):
                item.hypothesis = self._hypothesis(item, result)

    def _rows(self, features: Mel, rows: list[int]) -> ctranslate2.StorageView:
        """Some rows of a batch encoded by themselves: an encoder output can't be sliced on the device."""
        return self._model.encode(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(features[rows])), to_cpu=False
        )

    def _hypothesis(self, item: _Item, result: ctranslate2.models.WhisperGenerationResult) -> _Hypothesis:
        ids = result.sequences_ids[0]
        words = [token for token in ids if token < self._eot]
        return _Hypothesis(
            text=self._tokenizer.decode(words).strip(),
            # The score is divided by the tokens without the end token (length penalty 1), its sum includes it.
            logprob=result.scores[0] * len(ids) / (len(ids) + 1),
            no_speech=result.no_speech_prob,
            capped=len(ids) >= item.token_cap,
        )

    def _prompt(self, item: _Item) -> list[int]:
        before = " ".join(filter(None, (item.request.options.hotwords, item.request.options.prompt)))
        prompt: list[int] = []
        if before:
            prompt = [self._prev, *self._encode(before)[-PROMPT_TOKENS:]]
        prompt.append(self._sot)
        if self._model.is_multilingual:
            prompt += [self._token(f"<|{item.language}|>"), self._token("<|transcribe|>")]
        return [*prompt, self._no_timestamps]

    def _set_languages(self, items: list[_Item], encoded: ctranslate2.StorageView) -> None:
        """The language asked for, or the one that is heard."""
        asked = [item.request.options.language or DETECT for item in items]
        if not self._model.is_multilingual:
            asked = ["en"] * len(items)
        if DETECT in asked:
            heard = self._model.detect_language(encoded)
            asked = [
                likely[0][0].strip("<|>") if language == DETECT else language
                for language, likely in zip(asked, heard, strict=True)
            ]
        for item, language in zip(items, asked, strict=True):
            item.language = language

    def _read_languages(self) -> frozenset[str]:
        if not self._model.is_multilingual:
            return frozenset(("en", DETECT))
        added = self._tokenizer.get_added_tokens_decoder().values()
        codes = (token.content.strip("<|>") for token in added)
        return frozenset((DETECT, *(code for code in codes if code.isalpha() and len(code) in (2, 3))))

    def _encode(self, text: str) -> list[int]:
        """Tokens of text as it stands after a space."""
        tokens: list[int] = self._tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
        return tokens

    def _token(self, name: str) -> int:
        number: int | None = self._tokenizer.token_to_id(name)
        if number is None:
            raise ValueError(f"the model's tokenizer has no token {name}")
        return number


def _transcript(item: _Item) -> Transcript:
    hypothesis = item.hypothesis
    confidence = min(1.0, math.exp(hypothesis.logprob)) if hypothesis.text else 0.0
    return Transcript(hypothesis.text, confidence, item.language, item.redone)
