"""Whisper on CTranslate2 as the scheduler's engine: right-sized windows, and a guard.

The encoder sees the utterance and two seconds of silence, not 30 s: that is what it costs by. The decoder sees
more: behind the utterance its states go on with those of a silent window, computed once, because without some
ten seconds of silence to look at it starts again from the top now and then. What still looks doubtful is decoded
again in the full window (docs/decisions/0002-right-sized-windows.md has the reasons and the figures).
"""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import tokenizers

from asr.engine import SAMPLE_RATE, Request, Transcript, Word
from asr.mel import FRAME, FULL_WINDOW, SILENT, LogMel, Mel, MelCache, raw_log_mel, window
from asr.repetition import repeats_itself
from asr.words import group_tokens, snug, timed

LEAD = 30
"""Frames of silence before an utterance in its window: one that begins with its first sample, as a stream may, is
heard wrongly without."""
PADDING = 200
"""Frames of silence after an utterance in its window, 2 s."""
KEPT_PADDING = 100
"""Frames of that silence whose states the decoder sees. Those at a window's edge are unlike any in training."""
SILENCE = 1000
"""Frames of silence that the decoder sees after those, 10 s, as far as the full window reaches."""

LOW_LOGPROB = -0.9
"""Mean log-probability of a token under which the guard decodes again."""
HIGH_COMPRESSION = 2.0
"""Compression ratio of the text over which the guard decodes again: it repeats itself."""
NO_SPEECH = ((0.6, -1.0), (0.8, 0.0))
"""Probability of `<|nospeech|>` and mean log-probability: over the one and under the other, a text is made up. The
first pair is openai/whisper's own. The second is for the silence behind our windows, which tells the two better
apart: noise, typing, breath and music have 0.82 to 0.97 there, speech under 0.55, lone or noisy words up to 0.75. It
asks for no log-probability: of a dog's barks the model reads "Whoa! Whoa!" with -0.3, as sure as of words."""

PARTIAL_BEAM = 3
"""Readings that a partial is searched with, and that a final gives, which may yet turn out to be a partial: they tell
which of its words are sure (asr/agreement.py)."""
TOKENS_PER_SECOND = 12
"""More than anybody speaks; a text that is longer is a loop."""
TOKENS_AT_LEAST = 16
DETECT = "auto"
"""Language setting that leaves it to the model."""
MAX_NEW_TOKENS = 224
"""Half of the positions that the decoder has; the other half is for what stands before."""
PROMPT_TOKENS = 160
"""Of the prompt, hotwords and context together; the model's own limit is 223."""

States = npt.NDArray[np.float32]
"""Of the encoder; float16 on some GPUs."""


@dataclass(frozen=True)
class _Hypothesis:
    """What one decoding gave."""

    text: str
    logprob: float
    """Mean over the tokens, the end token included."""
    no_speech: float
    capped: bool
    """Whether it was cut at the most tokens allowed."""
    alternatives: tuple[str, ...] = ()
    """The texts of the search's other readings."""
    tokens: tuple[int, ...] = ()
    """Of the text."""

    @property
    def compression(self) -> float:
        raw = self.text.encode()
        return len(raw) / len(zlib.compress(raw)) if raw else 0.0

    @property
    def loops(self) -> bool:
        return self.compression > HIGH_COMPRESSION or self.capped or repeats_itself(self.text)

    @property
    def suspect(self) -> bool:
        return self.logprob < LOW_LOGPROB or self.loops

    @property
    def made_up(self) -> bool:
        if any(self.no_speech > probability and self.logprob < logprob for probability, logprob in NO_SPEECH):
            return True
        # Barks for 20 s fill the window: there is little silence to tell them by, but no speech goes on like that.
        return self.no_speech > NO_SPEECH[0][0] and repeats_itself(self.text)


_NOTHING = _Hypothesis("", 0.0, 0.0, False)


@dataclass(eq=False)
class _Item:
    """A request on its way through a batch."""

    request: Request
    mel: Mel
    forced: str = ""
    """Words that the audio begins with and that are known."""
    forced_samples: int = 0
    """How much of the audio those are."""
    language: str = ""
    hypothesis: _Hypothesis = _NOTHING
    encoded: States | None = None
    """The encoder's states of its own window or a longer one; asked for up to three times."""
    seen: States = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """The states that the hypothesis was decoded from."""
    redone: bool = False
    encoder_s: float = 0.0
    words: tuple[Word, ...] = ()

    @property
    def frames(self) -> int:
        """Of the window that is right for it."""
        return min(FULL_WINDOW, int(self.mel.shape[1]) + PADDING)

    @property
    def states(self) -> int:
        """Encoder states, of two frames each, that the decoder sees of that window."""
        return min(FULL_WINDOW, int(self.mel.shape[1]) + KEPT_PADDING) // 2

    @property
    def doubtful(self) -> bool:
        """Whether its hypothesis is to be looked at again."""
        return self.hypothesis.suspect if self.request.look_again else self.hypothesis.loops

    @property
    def token_cap(self) -> int:
        """Tokens that an utterance of this length can have."""
        return TOKENS_AT_LEAST + TOKENS_PER_SECOND * len(self.request.samples) // SAMPLE_RATE


class WhisperEngine:
    """One model, shared by all streams."""

    def __init__(
        self, model_dir: Path, *, device: str, compute_type: str, workers: int, threads: int, beam_size: int
    ) -> None:
        """Load the model, for so many calls at a time, each with so many CPU threads.

        Raises CTranslate2's `RuntimeError` or `ValueError` where it can't be.
        """
        self._model = ctranslate2.models.Whisper(
            str(model_dir), device=device, compute_type=compute_type, intra_threads=threads, inter_threads=workers
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._beam_size = beam_size
        self._encodes_batches = device == "cuda"
        """On the CPU a batch costs as much as each by itself, in the longest one's window, and far more memory."""
        self._bands: int = self._model.n_mels
        self._log_mel = _log_mel_on(device)
        self._sot = self._token("<|startoftranscript|>")
        self._eot = self._token("<|endoftext|>")
        self._prev = self._token("<|startofprev|>")
        self._no_timestamps = self._token("<|notimestamps|>")
        self.languages = self._read_languages()
        self.tasks = frozenset(("transcribe", "translate") if self._model.is_multilingual else ("transcribe",))
        silence = window(np.zeros((self._bands, 0), np.float32), FULL_WINDOW)
        self._silence = self._encode_windows(silence[np.newaxis])[0]
        """States of a silent window, (1500, width)."""

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        """The words of each request, in their order. Either all are final or none is."""
        items = [_Item(request, self._features(request)) for request in requests]
        if requests[0].final:
            self._decode_finals(items)
        else:
            self._decode_partials(items)
        return [_transcript(item) for item in items]

    def _features(self, request: Request) -> Mel:
        return _led((request.features or MelCache()).frames(request.samples, self._bands, self._log_mel))

    def _decode_partials(self, items: list[_Item]) -> None:
        beam_size = min(PARTIAL_BEAM, self._beam_size)
        self._decode(items, beam_size=beam_size, readings=beam_size)
        for item in items:
            # A doubtful partial is better not shown: the next one comes soon.
            if item.hypothesis.made_up or item.hypothesis.capped or repeats_itself(item.hypothesis.text):
                item.hypothesis = _NOTHING

    def _decode_finals(self, items: list[_Item]) -> None:
        readings = min(PARTIAL_BEAM, self._beam_size)
        self._decode_in_context(items, readings)
        alone = [item for item in items if item.hypothesis is _NOTHING]
        if alone:
            self._decode(alone, beam_size=self._beam_size, readings=readings)
        doubtful = [item for item in alone if item.doubtful and not item.hypothesis.made_up]
        if doubtful:
            self._decode(doubtful, beam_size=self._beam_size, readings=readings, full_window=True)
        for item in doubtful:
            item.redone = True
        for item in alone:
            if item.hypothesis.made_up:
                item.hypothesis = _NOTHING
        self._set_words([item for item in items if item.request.options.words and item.hypothesis.text])

    def _decode_in_context(self, items: list[_Item], readings: int) -> None:
        """Set the hypotheses of what makes sense as the continuation of the words before it; leave the others."""
        followers = [item for item in items if item.request.context]
        if not followers:
            return
        # Noise after speech reads as more speech: whether there is any is asked of the utterance alone, by one token.
        self._decode(followers, beam_size=1, most_tokens=1)
        spoken = [item for item in followers if item.hypothesis.no_speech <= NO_SPEECH[0][0]]
        for item in followers:
            item.hypothesis = _NOTHING
        if not spoken:
            return
        continuations = [self._continuation(item) for item in spoken]
        self._decode(continuations, beam_size=self._beam_size, readings=readings)
        for item, continuation in zip(spoken, continuations, strict=True):
            heard = continuation.hypothesis
            item.encoder_s += continuation.encoder_s
            again = repeats_itself(f"{continuation.forced} {heard.text}")
            if heard.text and not heard.suspect and not again:
                item.hypothesis, item.language = heard, continuation.language
                item.seen, item.forced, item.forced_samples = (
                    continuation.seen,
                    continuation.forced,
                    continuation.forced_samples,
                )

    def _continuation(self, item: _Item) -> _Item:
        """The utterance together with what was said right before it."""
        context = item.request.context
        assert context is not None
        samples = np.concatenate((context.samples, item.request.samples))
        mel = _led(self._log_mel(samples, self._bands, 0))
        return _Item(item.request, mel, forced=context.text, forced_samples=len(context.samples))

    def _decode(
        self,
        items: list[_Item],
        *,
        beam_size: int,
        readings: int = 1,
        most_tokens: int = MAX_NEW_TOKENS,
        full_window: bool = False,
    ) -> None:
        """Set each item's hypothesis, in batches as CTranslate2 wants them: of prompts of one shape."""
        states = self._full_states(items) if full_window else self._states(items)
        self._set_languages(items, states)
        prompts = [self._prompt(item) for item in items]
        shapes = [(len(prompt), prompt.index(self._sot)) for prompt in prompts]
        for shape in sorted(set(shapes)):
            rows = [row for row, each in enumerate(shapes) if each == shape]
            group = [items[row] for row in rows]
            # What is forced counts as new, and CTranslate2 takes at most half of max_length for what is new.
            new = min(MAX_NEW_TOKENS, max(len(self._tokens(item.forced)) + item.token_cap for item in group))
            new = min(new, most_tokens)
            results = self._model.generate(
                ctranslate2.StorageView.from_array(states[rows]),
                [prompts[row] for row in rows],
                beam_size=beam_size,
                num_hypotheses=readings,
                patience=1,
                length_penalty=1,
                max_length=min(2 * MAX_NEW_TOKENS, max(2 * new, new + shape[0])),
                return_scores=True,
                return_no_speech_prob=True,
                suppress_blank=True,
                suppress_tokens=[-1],
            )
            for item, row, result in zip(group, rows, results, strict=True):
                item.hypothesis = self._hypothesis(item, result)
                item.seen = states[row]

    def _states(self, items: list[_Item]) -> States:
        """What the decoder sees of each item: its right-sized window, continued by silence."""
        encoded = self._encode(items)
        length = min(FULL_WINDOW // 2, max(item.states for item in items) + SILENCE // 2)
        # Each state of silence stands where it would in the full window: states know their position.
        states = np.repeat(self._silence[np.newaxis, :length], len(items), axis=0)
        for row, item in enumerate(items):
            states[row, : item.states] = encoded[row][: item.states]
        return states

    def _encode(self, items: list[_Item]) -> list[States]:
        """Each item's encoder states, of its own window or a longer one."""
        new = [item for item in items if item.encoded is None]
        if self._encodes_batches and new:
            together = self._encode_together(new, max(item.frames for item in new))
            for item, states in zip(new, together, strict=True):
                item.encoded = states
        found = []
        for item in items:
            if item.encoded is None:
                item.encoded = self._encode_together([item], item.frames)[0]
            found.append(item.encoded)
        return found

    def _full_states(self, items: list[_Item]) -> States:
        return self._encode_together(items, FULL_WINDOW)

    def _encode_together(self, items: list[_Item], frames: int) -> States:
        """Encoder states (n, frames / 2, width) of the items' windows of so many frames."""
        started = time.monotonic()
        states = self._encode_windows(np.stack([window(item.mel, frames) for item in items]))
        for item in items:
            item.encoder_s += (time.monotonic() - started) / len(items)
        return states

    def _encode_windows(self, windows: Mel) -> States:
        """Encoder states (n, frames / 2, width) of windows (n, bands, frames)."""
        encoded = self._model.encode(ctranslate2.StorageView.from_array(windows), to_cpu=True)
        states: States = np.asarray(encoded)
        return states

    def _hypothesis(self, item: _Item, result: ctranslate2.models.WhisperGenerationResult) -> _Hypothesis:
        # The forced words come back with the others; the score's sum leaves them out.
        forced = len(self._tokens(item.forced))
        text, *alternatives = (self._text(ids[forced:]) for ids in result.sequences_ids)
        ids = result.sequences_ids[0]
        new = max(0, len(ids) - forced)
        return _Hypothesis(
            text=text,
            # The score is divided by the tokens without the end token (length penalty 1), its sum includes it.
            logprob=result.scores[0] * len(ids) / (new + 1),
            no_speech=result.no_speech_prob,
            capped=new >= min(item.token_cap, MAX_NEW_TOKENS - forced),
            alternatives=tuple(alternatives),
            tokens=tuple(token for token in ids[forced:] if token < self._eot),
        )

    def _set_words(self, items: list[_Item]) -> None:
        """Set when each word was spoken, in batches of one language and one length of states."""
        shapes = [(self._language_and_task(item), len(item.seen)) for item in items]
        for asked, length in sorted(set(shapes)):
            group = [item for item, each in zip(items, shapes, strict=True) if each == (asked, length)]
            forced = [self._tokens(item.forced) for item in group]
            ends = [item.forced_samples + len(item.request.samples) for item in group]
            alignments = self._model.align(
                ctranslate2.StorageView.from_array(np.stack([item.seen for item in group])),
                [self._sot, *asked],
                [[*before, *item.hypothesis.tokens] for before, item in zip(forced, group, strict=True)],
                [min(2 * len(item.seen), LEAD + end // FRAME) for item, end in zip(group, ends, strict=True)],
            )
            for item, before, found in zip(group, forced, alignments, strict=True):
                item.words = self._timed(item, len(before), found)

    def _timed(self, item: _Item, forced: int, found: Any) -> tuple[Word, ...]:
        tokens = item.hypothesis.tokens
        words = group_tokens(
            [self._tokenizer.id_to_token(token) or "" for token in tokens],
            [self._tokenizer.decode(list(tokens[: at + 1])) for at in range(len(tokens))],
            item.language,
        )
        samples = item.request.samples
        found_words = timed(
            words,
            [(token - forced, state) for token, state in found.alignments],
            found.text_token_probs[forced:],
            skip=(LEAD * FRAME + item.forced_samples) / SAMPLE_RATE,
            seconds=len(samples) / SAMPLE_RATE,
        )
        return snug(found_words, samples)

    def _text(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode([token for token in ids if token < self._eot])
        return text.strip()

    def _prompt(self, item: _Item) -> list[int]:
        before = " ".join(filter(None, (item.request.options.hotwords, item.request.options.prompt)))
        prompt: list[int] = []
        if before:
            prompt = [self._prev, *self._tokens(before)[-PROMPT_TOKENS:]]
        prompt += [self._sot, *self._language_and_task(item), self._no_timestamps]
        return [*prompt, *self._tokens(item.forced)]

    def _language_and_task(self, item: _Item) -> tuple[int, ...]:
        """The tokens that tell a multilingual model what to write; others have none."""
        if not self._model.is_multilingual:
            return ()
        return self._token(f"<|{item.language}|>"), self._token(f"<|{item.request.options.task}|>")

    def _set_languages(self, items: list[_Item], states: States) -> None:
        """The language asked for, or the one that is heard."""
        asked = [item.request.options.language or DETECT for item in items]
        if not self._model.is_multilingual:
            asked = ["en"] * len(items)
        if DETECT in asked:
            heard = self._model.detect_language(ctranslate2.StorageView.from_array(states))
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

    def _tokens(self, text: str) -> list[int]:
        """Tokens of text as it stands after a space; none for none."""
        if not text:
            return []
        tokens: list[int] = self._tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
        return tokens

    def _token(self, name: str) -> int:
        number: int | None = self._tokenizer.token_to_id(name)
        if number is None:
            raise ValueError(f"the model's tokenizer has no token {name}")
        return number


def _led(mel: Mel) -> Mel:
    """Raw log-mel with the silence of `LEAD` before it."""
    return np.concatenate((np.full((mel.shape[0], LEAD), SILENT, np.float32), mel), axis=1)


def _transcript(item: _Item) -> Transcript:
    hypothesis = item.hypothesis
    confidence = min(1.0, math.exp(hypothesis.logprob)) if hypothesis.text else 0.0
    return Transcript(
        hypothesis.text,
        confidence,
        item.language,
        hypothesis.alternatives,
        item.redone,
        item.words,
        item.encoder_s,
    )


def _log_mel_on(device: str) -> LogMel:
    """Features by NumPy; on a GPU by torch, which only the GPU image has."""
    if device != "cuda":
        return raw_log_mel
    from asr.mel_torch import TorchMel

    return TorchMel(device)
