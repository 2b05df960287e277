"""Messages of the synthesis stream, `GET /v1/stream/tts`.

Client: `config`, `synthesize`, `text` … `flush`, `cancel`, `list_voices`, `close`. Server: `ready`; then for
each request, sentence by sentence, `audio_start`, binary audio frames, `audio_end`, and where asked `word_timestamps`
ahead of the frames in which the words begin; then `synthesis_complete` or `cancelled`; last `done`. Requests of one
connection are spoken in order, one after another.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chorus.wire.common import Close, Configured, Error, Ready

PATH = "/v1/stream/tts"

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus", "mp3", "flac"]
RequestId = Annotated[str, Meta(min_length=1, max_length=128)]


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """Everything a client can set on a synthesis stream or a single request."""

    voice: Annotated[str, Meta(max_length=128)] | None = None
    """A voice id of `voice_list`; none for the replica's default."""
    encoding: Encoding = "pcm_s16le"
    sample_rate: Annotated[int, Meta(ge=8000, le=48000)] | None = None
    """Hz; none for the voice's own, or the next higher one that the encoding has."""
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    """1 is the voice's own pace, 2 twice as fast."""
    speaker: Annotated[str, Meta(max_length=128)] | int | None = None
    """Name or number of a speaker of a multi-speaker voice."""
    noise_scale: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Variation of the sound; none for the voice's own, 0 for the same bytes every time."""
    noise_w_scale: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Variation of the rhythm; as `noise_scale`."""
    sentence_silence_ms: Annotated[int, Meta(ge=0, le=5000)] = 0
    """Silence between two sentences of a request, milliseconds."""
    word_timestamps: bool = False
    """Whether to tell when each word is heard."""


class Synthesize(msgspec.Struct, tag="synthesize", tag_field="type", kw_only=True):
    """Client: speak this text, whole. Any setting may stand beside these fields, for this request alone."""

    text: str
    request_id: RequestId | None = None


class Text(msgspec.Struct, tag="text", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """Client: append a fragment to the request; whole sentences are spoken as soon as they are complete."""

    text: str
    request_id: RequestId | None = None


class Flush(msgspec.Struct, tag="flush", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """Client: the text is whole; speak what is pending, then complete."""

    request_id: RequestId | None = None


class Cancel(msgspec.Struct, tag="cancel", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """Client: stop now. Without an id: every request of the stream."""

    request_id: RequestId | None = None


class ListVoices(msgspec.Struct, tag="list_voices", tag_field="type", forbid_unknown_fields=True):
    """Client: answered by `voice_list`."""


ClientMessage = Synthesize | Text | Flush | Cancel | ListVoices | Close
CLIENT_TYPES = ("config", "synthesize", "text", "flush", "cancel", "list_voices", "close")


class AudioStart(msgspec.Struct, tag="audio_start", tag_field="type", kw_only=True):
    """One a sentence; the binary frames after it are this sentence's audio."""

    request_id: str
    sentence: int
    """1, 2, … within the request."""
    text: str
    sample_rate: int
    """Hz."""
    encoding: Encoding


class TimedWord(msgspec.Struct, kw_only=True):
    """One spoken word, seconds from the request's first sample."""

    word: str
    start: float
    end: float


class WordTimestamps(msgspec.Struct, tag="word_timestamps", tag_field="type", kw_only=True):
    """When words of the sentence just named are heard: those that begin in the audio to come, up to a pause."""

    request_id: str
    words: list[TimedWord]


class AudioEnd(msgspec.Struct, tag="audio_end", tag_field="type", kw_only=True):
    """The sentence's audio is complete."""

    request_id: str
    sentence: int
    seconds: float
    """Of its samples; a compressed sentence's last moment may still be with the encoder."""


class SynthesisComplete(msgspec.Struct, tag="synthesis_complete", tag_field="type", kw_only=True):
    """Everything of the request has been sent."""

    request_id: str
    seconds: float
    ttfa_ms: int | None
    """Milliseconds from the text's acceptance to its first audio queued; none when nothing was spoken."""


class Cancelled(msgspec.Struct, tag="cancelled", tag_field="type", kw_only=True):
    """No audio of the request follows."""

    request_id: str
    seconds_sent: float
    """What can be heard of what was sent."""


class Voice(msgspec.Struct, kw_only=True):
    """One voice that this replica can speak with."""

    id: str
    language: str
    sample_rate: int
    """Hz."""
    speakers: list[str]


class VoiceList(msgspec.Struct, tag="voice_list", tag_field="type", kw_only=True):
    """The answer to `list_voices`."""

    voices: list[Voice]


class Done(msgspec.Struct, tag="done", tag_field="type", kw_only=True):
    """The stream's totals."""

    requests: int
    cancelled: int
    audio_seconds: float


ServerMessage = (
    Ready
    | Configured
    | Error
    | AudioStart
    | WordTimestamps
    | AudioEnd
    | SynthesisComplete
    | Cancelled
    | VoiceList
    | Done
)
