"""What each text sounds like: rendered through the service before a run, kept in a folder, compared with afterwards.

With `noise_scale` and `noise_w_scale` 0 a voice speaks a text with the same samples each time. Where computing in
batches may round them otherwise (a GPU), they are still the same to far below what can be heard: 30 dB and more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus.aio import TtsStream, connect_tts
from chorus.errors import ChorusError, StreamError
from chorus.tts import Audio
from chorus.wire import tts as wire
from chorus.wire.common import Error

STILL = {"noise_scale": 0, "noise_w_scale": 0}
"""Settings with which the same text sounds the same."""
SAME_DB = 30.0
"""Audio whose difference from its reference is so far below it is the same; of two texts it is about 0 dB."""
ATTEMPTS = 5
"""To render one text; between two the renderer waits as long as it is told, or a second."""
RENDERED_WITHIN_S = 120.0
"""Of one text; a service that takes longer before the run is not fit for one."""
FIRST_BYTES = 4096
"""By so much of an audio its owner is looked for first."""

Progress = Callable[[int, int], None]
"""Gets how many are done, and of how many."""


class Unrendered(Exception):
    """The service did not render a text."""


@dataclass(frozen=True)
class Wanted:
    """One text to be rendered, and for whom."""

    owner: tuple[str, int]
    """Kind and number of the person."""
    text: str
    speed: float = 1.0
    sample_rate: int | None = None
    """Hz; None for the voice's own."""

    @property
    def settings(self) -> dict[str, Any]:
        """Of the request."""
        rate = {} if self.sample_rate is None else {"sample_rate": self.sample_rate}
        return {**STILL, "speed": self.speed, **rate}


class References:
    """Renderings in a folder, by voice, settings and text."""

    def __init__(self, folder: Path, url: str, voice: str, at_once: int) -> None:
        """`voice` may be empty: the service's default."""
        self._folder = folder
        self._url = url
        self._voice = voice or None
        self._at_once = at_once
        self._paths: dict[Wanted, Path] = {}
        self._by_text: dict[tuple[tuple[str, int], str], Wanted] = {}

    async def prepare(self, wanted: Iterable[Wanted], on_progress: Progress) -> None:
        """Have all of them. What is in the folder is taken from there, if the service still speaks one of it so.

        Raises `Unrendered`, `ChorusError`, `OSError`.
        """
        everything = list(dict.fromkeys(wanted))
        if not everything:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        async with self._stream() as stream:
            assert stream.protocol.ready is not None
            voice = str(stream.protocol.ready.voice)
        paths = {each: self._folder / f"{_digest(voice, each)}.pcm" for each in everything}
        missing = [each for each in everything if not paths[each].exists()]
        known = [each for each in everything if paths[each].exists()]
        if known:
            # Another loudness, model file or version would make every kept rendering wrong: one is made again.
            probe = random.choice(known)
            async with self._stream() as stream:
                again = await _render(stream, probe)
            if not same(again, paths[probe].read_bytes()):
                missing = everything
        done = len(everything) - len(missing)
        on_progress(done, len(everything))
        waiting = iter(missing)

        async def work() -> None:
            nonlocal done
            async with self._stream() as stream:
                for each in waiting:  # all workers take from one iterator
                    _write(paths[each], await _render(stream, each))
                    done += 1
                    on_progress(done, len(everything))

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._at_once, len(missing))):
                    workers.create_task(work())
        except* FAILURES as failures:
            raise _first(failures) from None
        self._paths |= paths
        self._by_text |= {(each.owner, each.text): each for each in everything}

    def audio(self, owner: tuple[str, int], text: str) -> bytes | None:
        """How a text sounds; None where it was not prepared."""
        wanted = self._by_text.get((owner, text))
        return None if wanted is None else self._paths[wanted].read_bytes()

    def owner(self, audio: bytes) -> tuple[tuple[str, int], str] | None:
        """Whose audio that is, and its text; None if of nobody here. Reads every reference: not on the event loop."""
        for wanted, path in self._paths.items():
            with path.open("rb") as file:
                begin = file.read(min(len(audio), FIRST_BYTES))
                if begin and same(audio[: len(begin)], begin) and same(audio, begin + file.read(), prefix=True):
                    return wanted.owner, wanted.text
        return None

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[TtsStream]:
        async with connect_tts(self._url, voice=self._voice) as stream:
            yield stream


def same(audio: bytes, reference: bytes, *, prefix: bool = False) -> bool:
    """Whether 16-bit audio is that of the reference, or a `prefix` of it."""
    if len(audio) > len(reference) or (len(audio) < len(reference) and not prefix):
        return False
    reference = reference[: len(audio)]
    if audio == reference:
        return True
    heard, meant = (_samples(each) for each in (audio, reference))
    noise, power = float(((heard - meant) ** 2).sum()), float((meant**2).sum())
    return noise <= power * 10 ** (-SAME_DB / 10)


def _samples(audio: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(audio[: len(audio) // 2 * 2], "<i2").astype(np.float64)


def _digest(voice: str, wanted: Wanted) -> str:
    told = json.dumps([voice, wanted.settings, wanted.text], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _write(path: Path, audio: bytes) -> None:
    """Whole or not at all, whoever else writes the same."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(audio)
    part.replace(path)


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure


async def _render(stream: TtsStream, wanted: Wanted) -> bytes:
    """One text's audio. Raises `Unrendered`, `ChorusError`."""
    try:
        async with asyncio.timeout(RENDERED_WITHIN_S):
            return await _rendered(stream, wanted)
    except TimeoutError:
        raise Unrendered(f"{wanted.text!r} was not rendered within {RENDERED_WITHIN_S:.0f} s before the run") from None


async def _rendered(stream: TtsStream, wanted: Wanted) -> bytes:
    told = ""
    for _ in range(ATTEMPTS):
        await stream.send(stream.protocol.synthesize(wanted.text, **wanted.settings))
        audio = bytearray()
        while True:
            event = await stream.receive()
            if isinstance(event, Audio):
                audio += event.data
            elif isinstance(event, wire.SynthesisComplete):
                return bytes(audio)
            elif isinstance(event, Error):
                if not event.recoverable:
                    raise StreamError(event.code, event.message)
                told = f"{event.code}: {event.message}"
                wait = event.retry_after_ms if isinstance(event.retry_after_ms, int) else 1000
                break
        await asyncio.sleep(wait / 1000)
    raise Unrendered(f"{wanted.text!r} was not rendered before the run: {told}")


FAILURES: tuple[type[Exception], ...] = (Unrendered, ChorusError, OSError)
"""What stands in the way of preparing."""
