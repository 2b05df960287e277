"""What the scheduler needs of a recogniser. `asr.whisper` is the real one; tests bring their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serving.audio import Samples

if TYPE_CHECKING:
    from asr.mel import MelCache

SAMPLE_RATE = 16000
"""Hz, of all audio inside the service."""


@dataclass(frozen=True)
class Options:
    """What a stream's settings ask of the recogniser."""

    language: str | None
    """ISO 639-1 code, `auto`, or None for the model's default."""
    prompt: str = ""
    hotwords: str = ""
    task: str = "transcribe"
    """One of the engine's tasks."""
    words: bool = False
    """Whether a final's words are to be told with their times."""


@dataclass(frozen=True)
class Context:
    """What the same stream said right before an utterance, in a pause's reach."""

    samples: Samples
    """From where that began up to the utterance's first sample."""
    text: str
    """Its words, as they were sent."""


@dataclass(frozen=True)
class Request:
    """One utterance, or what has been heard of it so far."""

    samples: Samples
    """Mono, 16 kHz."""
    final: bool
    """Whether these are the words for good: searched more widely, and checked."""
    options: Options
    features: MelCache | None = None
    """The utterance's own, shared by its requests, so that a sample's features are computed once."""
    context: Context | None = None
    """Of a final."""
    look_again: bool = True
    """Of a final: whether words of which the recogniser is not sure are worth a second decoding."""


@dataclass(frozen=True)
class Word:
    """One word of a transcript, marks included."""

    text: str
    start: float
    """Seconds after the request's first sample."""
    end: float
    confidence: float
    """0 to 1, the mean probability of its tokens."""


@dataclass(frozen=True)
class Transcript:
    """The words of a request."""

    text: str
    confidence: float
    """0 to 1, from the probabilities of the tokens."""
    language: str
    alternatives: tuple[str, ...] = ()
    """The other readings that the search ended with."""
    redone: bool = False
    """Whether the guard had it decoded again in the full window."""
    words: tuple[Word, ...] = ()
    """Of a final, where they were asked for; joined by spaces they are the text, where its language has spaces."""
    encoder_s: float = 0.0
    """Its share of the time that the encoder took."""


class Engine(Protocol):
    """A recogniser, called from as many threads as it was made for."""

    languages: frozenset[str]
    """Codes that `Options.language` may name; `auto` among them where the model can tell."""
    tasks: frozenset[str]
    """What `Options.task` may name."""

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        """The words of each request, in their order. Either all are final or none is."""
