"""Messages of the recognition stream, `GET /v1/stream/asr`.

Client: audio frames, `config`, `finalize`, `reset`, `close`. Server: `ready`; then for each utterance
`speech_start`, any number of `partial`, `speech_end`, `final`; last `done`. Finals come in the order of their
utterances. Times are seconds on the stream's own audio clock plus `start_offset_s`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chorus.wire.common import Close, Configured, Error, Ready

PATH = "/v1/stream/asr"

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """Everything a client can set on a recognition stream."""

    encoding: Encoding = "pcm_s16le"
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)] = 16000
    """Hz."""
    channels: Annotated[int, Meta(ge=1, le=2)] = 1
    """Two channels are mixed down."""
    language: Annotated[str, Meta(max_length=16)] | None = None
    """ISO 639-1 code, `auto`, or none for the model's default."""
    task: Literal["transcribe", "translate"] = "transcribe"
    interim_results: bool = True
    """Whether partials are sent."""
    word_timestamps: bool = False
    prompt: Annotated[str, Meta(max_length=1000)] = ""
    """Text that the speech is likely to continue, as context for the model."""
    hotwords: Annotated[str, Meta(max_length=1000)] = ""
    """Rare words and names to expect, separated by commas."""
    endpointing: Literal["fixed", "adaptive"] = "fixed"
    endpointing_ms: Annotated[int, Meta(ge=100, le=5000)] = 500
    """Silence that ends an utterance, milliseconds."""
    vad_threshold: Annotated[float, Meta(ge=0.01, le=0.99)] = 0.5
    """Speech probability from which a hop counts as speech."""
    max_utterance_s: Annotated[float, Meta(ge=1, le=28)] = 28.0
    """Seconds after which an utterance is cut at its quietest place."""
    start_offset_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Seconds added to every time, so that a resumed stream goes on counting."""


FIXED_BY_FIRST_AUDIO = ("encoding", "sample_rate", "channels", "start_offset_s")
"""Settings that can't change once audio has been received."""


class Finalize(msgspec.Struct, tag="finalize", tag_field="type", forbid_unknown_fields=True):
    """Client: end the current utterance now."""


class Reset(msgspec.Struct, tag="reset", tag_field="type", forbid_unknown_fields=True):
    """Client: drop the current utterance; answered by `reset_done`."""


ClientMessage = Finalize | Reset | Close
CLIENT_TYPES = ("config", "finalize", "reset", "close")


class SpeechStart(msgspec.Struct, tag="speech_start", tag_field="type", kw_only=True):
    """The voice detector heard speech begin."""

    utterance: int
    """1, 2, …"""
    time: float
    """Seconds."""


class Partial(msgspec.Struct, tag="partial", tag_field="type", kw_only=True):
    """The words so far. No later message of the utterance changes `stable_text`, a prefix of `text`."""

    utterance: int
    text: str
    stable_text: str
    start_time: float
    """Seconds."""
    end_time: float
    """Seconds."""


class SpeechEnd(msgspec.Struct, tag="speech_end", tag_field="type", kw_only=True):
    """The utterance is over; its final is being decoded."""

    utterance: int
    time: float
    """Seconds."""


class Word(msgspec.Struct, kw_only=True):
    """One word of a final."""

    word: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    confidence: float
    """0 to 1."""


class Final(msgspec.Struct, tag="final", tag_field="type", kw_only=True):
    """The words of one utterance, for good. `end_time` of the newest final is the stream's commit point."""

    utterance: int | None
    """None only in the empty answer to a `finalize` with no speech pending."""
    text: str
    start_time: float
    """Seconds."""
    end_time: float
    """Seconds."""
    confidence: float
    """0 to 1, from the probabilities of the tokens."""
    language: str
    words: list[Word] | msgspec.UnsetType = msgspec.UNSET
    latency_ms: int
    """Milliseconds from the decision that the utterance ended until this message was queued."""
    from_finalize: bool


class ResetDone(msgspec.Struct, tag="reset_done", tag_field="type", kw_only=True):
    """The answer to `reset`."""

    utterance: int | None
    dropped_seconds: float


class Done(msgspec.Struct, tag="done", tag_field="type", kw_only=True):
    """The stream's totals: speech, silence and dropped seconds add up to the audio received."""

    audio_seconds: float
    speech_seconds: float
    silence_seconds: float
    dropped_seconds: float
    utterances: int


ServerMessage = Ready | Configured | Error | SpeechStart | Partial | SpeechEnd | Final | ResetDone | Done
