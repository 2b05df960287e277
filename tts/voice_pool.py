"""Voices in memory, as many as the budget holds: loaded when first asked for, gone when others need the room.

Everything but the loading itself happens on the event loop, though any thread may ask what is loaded. Voices are loaded
one at a time on a thread of their own, so that neither the event loop nor the engine waits. A voice that a request
holds never goes; of the others the one that was let go of longest ago goes first.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from serving.errors import Overloaded, StreamError, UnknownVoice
from serving.logs import fields
from tts.engine import Speaker
from tts.installed import VoiceCard
from tts.metrics import VoiceMetrics

log = logging.getLogger(__name__)

LoadVoice = Callable[[VoiceCard], Speaker]
"""Blocks; may raise anything."""
Ready = Callable[[StreamError | None], None]

RETRY_MS = 2000
"""What a client is told to wait for room: about as long as a sentence is rendered, or a voice loaded."""
TRY_AGAIN_S = 60.0
"""Before a voice that could not be loaded is tried once more."""
LONGEST_REASON = 300
"""Characters."""


def cant_be_used(voice_id: str, reason: str) -> UnknownVoice:
    """What a client reads of a voice that is there and yet can't be spoken with."""
    return UnknownVoice(f"voice {voice_id!r} can't be used: {reason}")


def _nobody(_error: StreamError | None) -> None:
    """Nobody waits for the voice."""


@dataclass(eq=False)
class VoiceUse:
    """One request's hold on a voice, until `release`."""

    card: VoiceCard
    speaker: Speaker | None
    """None until it is loaded, and after the release."""
    _pool: VoicePool
    _ready: Ready

    def release(self) -> None:
        """Hold it no longer, also while it is being loaded; harmless a second time."""
        self.speaker = None
        self._ready = _nobody  # who would be told knows of this: both would wait for the garbage collector
        self._pool._release(self)


@dataclass(eq=False)
class _Loaded:
    """A voice that is in memory, or on its way."""

    card: VoiceCard
    speaker: Speaker | None = None
    uses: dict[VoiceUse, None] = field(default_factory=dict)


class VoicePool:
    """The loaded voices of a replica."""

    def __init__(self, load: LoadVoice, *, budget_mb: float, metrics: VoiceMetrics) -> None:
        self.budget_mb = budget_mb
        self._load = load
        self._metrics = metrics
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="voice loader")
        self._voices: dict[VoiceCard, _Loaded] = {}
        """The one that was let go of longest ago first."""
        self._failures: weakref.WeakKeyDictionary[VoiceCard, tuple[str, float]] = weakref.WeakKeyDictionary()
        """Why a voice could not be loaded, and when that was."""

    def use(self, card: VoiceCard, ready: Ready) -> VoiceUse:
        """Hold a voice; where it has to be loaded first, `ready` is called with None then, or with what went wrong.

        Raises `UnknownVoice` for one that could not be loaded a moment ago, `Overloaded` where every voice that would
        have to go is in use.
        """
        if (reason := self.failure(card)) is not None:
            raise cant_be_used(card.id, reason)
        voice = self._voices.get(card)
        if voice is None:
            voice = self._begin_to_load(card)
        use = VoiceUse(card, voice.speaker, self, ready)
        voice.uses[use] = None
        return use

    async def loaded(self, card: VoiceCard) -> VoiceUse:
        """Hold a voice once it is loaded. Raises `UnknownVoice` or `Overloaded`."""
        done: asyncio.Future[StreamError | None] = asyncio.get_running_loop().create_future()
        use = self.use(card, done.set_result)
        try:
            if use.speaker is None and (error := await done) is not None:
                raise error
        except asyncio.CancelledError:
            use.release()
            raise
        return use

    def failure(self, card: VoiceCard) -> str | None:
        """Why a voice could not be loaded a moment ago; None where there is no reason not to try."""
        failed = self._failures.get(card)
        return failed[0] if failed is not None and time.monotonic() - failed[1] < TRY_AGAIN_S else None

    def holds(self, card: VoiceCard) -> bool:
        """Whether a voice is in memory, or on its way."""
        return card in self._voices

    def voice_ids(self) -> list[str]:
        """The voices in memory, the one that was let go of longest ago first."""
        return [voice.card.id for voice in list(self._voices.values()) if voice.speaker is not None]

    def memory_mb(self) -> float:
        """MiB that the voices take, those on their way too."""
        return sum(card.memory_mb for card in list(self._voices))

    def stop(self) -> None:
        """Load no more; a load that runs comes to its end by itself."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _begin_to_load(self, card: VoiceCard) -> _Loaded:
        leaving = self._make_room(card)
        voice = self._voices[card] = _Loaded(card)
        loading = asyncio.get_running_loop().run_in_executor(self._loader, self._exchange, leaving, card)
        loading.add_done_callback(lambda done: self._on_loaded(voice, done))
        return voice

    def _make_room(self, card: VoiceCard) -> list[Speaker]:
        """Take out as many voices as have to go. Raises `Overloaded` where that would not be enough."""
        excess = self.memory_mb() + card.memory_mb - self.budget_mb
        leaving: list[_Loaded] = []
        for voice in self._voices.values():
            if excess <= 0:
                break
            if voice.speaker is not None and not voice.uses:
                leaving.append(voice)
                excess -= voice.card.memory_mb
        if excess > 0 and self._voices:  # a voice may always be the only one
            raise Overloaded(f"no room for voice {card.id!r}: the voices here are in use", retry_after_ms=RETRY_MS)
        for voice in leaving:
            del self._voices[voice.card]
            self._metrics.evictions.inc()
            log.info("voice goes", extra=fields(voice=voice.card.id, room_for=card.id))
        return [voice.speaker for voice in leaving if voice.speaker is not None]

    def _exchange(self, leaving: list[Speaker], card: VoiceCard) -> Speaker:
        """On the loader's thread: free the voices that leave, then load one."""
        leaving.clear()
        with self._metrics.load_seconds.time():
            return self._load(card)

    def _on_loaded(self, voice: _Loaded, done: asyncio.Future[Speaker]) -> None:
        if done.cancelled():
            return  # the replica stops
        card, error = voice.card, done.exception()
        if error is None:
            self._metrics.loads.labels("loaded").inc()
            voice.speaker = done.result()
            log.info("voice loaded", extra=fields(voice=card.id, voices=self.voice_ids()))
        else:
            self._metrics.loads.labels("failed").inc()
            reason = (str(error) or type(error).__name__)[:LONGEST_REASON]
            log.error("voice can't be loaded", extra=fields(voice=card.id, reason=reason), exc_info=error)
            self._failures[card] = (reason, time.monotonic())
            del self._voices[card]
        for use in list(voice.uses):
            if use in voice.uses:  # else what another one did with the answer made its request end
                use.speaker = voice.speaker
                use._ready(None if error is None else cant_be_used(card.id, reason))

    def _release(self, use: VoiceUse) -> None:
        voice = self._voices.get(use.card)
        if voice is not None and use in voice.uses:
            del voice.uses[use]
            self._voices[use.card] = self._voices.pop(use.card)  # the last one of them
