"""People who use the stack while it is hurt, and what they notice.

Speakers talk over `chorus.aio.reconnecting_asr`, and must lose no word. Listeners ask for one reply after the other; of
each they must hear all, or be told that they won't: by `cancelled`, an error, a close code, or the connection's end.
Somebody else connects and leaves again, and must get a stream or a 503.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from benchmarks import asr_reconnect
from benchmarks.asr_reconnect import Heard
from benchmarks.listening import texts
from benchmarks.speech import Speech, said_live
from chorus.aio import TtsStream, connect_asr, connect_tts, reconnecting_asr
from chorus.errors import ChorusError, ConnectionLost, ContractViolation, Refused
from chorus.reconnect import Event, Interrupted, Resumed
from chorus.tasks import send_and_receive
from chorus.wire import tts as wire
from chorus.wire.common import Error
from loadtest.clips import SAMPLE_RATE

PATIENCE_S = 150.0
"""Of a speaker's client: longer than a replica takes to be found stuck, ended and loaded on a slow machine."""
SILENT_S = 90.0
"""A listener who hears nothing for so long, and is told nothing, has been forgotten."""
KNOCK_S = 0.5
AGAIN_S = 1.0
"""Before a listener whose connection could not be opened tries again."""


@dataclass
class Noticed:
    """What all of them noticed."""

    interruptions: Counter[str] = field(default_factory=Counter)
    """Speakers' connections that ended, by what their clients were told."""
    lost_seconds: float = 0.0
    replies: int = 0
    """Heard to their end."""
    cut_replies: Counter[str] = field(default_factory=Counter)
    """Asked for and not heard to their end, by what the listener was told; each was asked for again."""
    connects: int = 0
    refused: int = 0
    """By 503, with `Retry-After`."""
    failed_connects: Counter[str] = field(default_factory=Counter)
    """By what the client was told instead."""
    slowest_connect_s: float = 0.0
    unseen: list[str] = field(default_factory=list)
    """Accepted, and neither delivered nor told of; and clients that gave up."""
    broken: list[str] = field(default_factory=list)
    """Promises of the protocol."""
    heard: list[tuple[Speech, Heard]] = field(default_factory=list)
    """Of each speaker."""


async def speak(speech: Speech, url: str, name: str, noticed: Noticed) -> None:
    """Say all of it at the speed of speech."""
    heard = Heard()

    def note(event: Event) -> None:
        if isinstance(event, Interrupted):
            noticed.interruptions[event.reason] += 1
        elif isinstance(event, Resumed):
            heard.seams.append(event.time)
            heard.lost_seconds += event.lost_seconds

    limit = asyncio.timeout(speech.seconds + PATIENCE_S + SILENT_S)
    try:
        async with (
            limit,
            reconnecting_asr(url, strict=False, sample_rate=SAMPLE_RATE, patience_s=PATIENCE_S) as stream,
        ):

            async def say() -> None:
                async for _, frame in said_live(speech):
                    await stream.send(stream.protocol.audio(frame))
                await stream.send(stream.protocol.close())

            async def listen() -> None:
                async for event in stream:
                    note(event)

            await send_and_receive(say(), listen())
            heard.finals = stream.protocol.finals
            heard.broken += stream.protocol.violations
            done = stream.protocol.done
        if done is None or abs(done.audio_seconds - speech.seconds) > 0.001:
            heard.broken.append(f"{speech.seconds:.3f} s were sent, done tells {done}")
    except (ChorusError, OSError) as error:  # a TimeoutError is an OSError
        forgotten = "neither the end of the stream nor a word of why"
        noticed.unseen.append(f"{name}: {forgotten if limit.expired() else f'gave up: {error}'}")
    else:
        noticed.lost_seconds += heard.lost_seconds
        noticed.heard.append((speech, heard))


class Forgotten(Exception):
    """Nothing comes of a reply that was accepted, nor a word of why."""


class Listener:
    """Asks for one reply after the other, over as many connections as it takes."""

    def __init__(self, url: str, name: str, noticed: Noticed) -> None:
        self._url = url
        self._name = name
        self._noticed = noticed
        self._waiting: str | None = None
        """What is to be heard, to its end."""
        self._asked = False
        """Whether the service has been asked for it over this connection."""

    async def listen(self, replies: Iterator[str], stop: asyncio.Event) -> None:
        """Until `stop`, and the last reply after it to its end."""
        while not stop.is_set() or self._waiting is not None:
            try:
                async with connect_tts(self._url, strict=False) as stream:
                    try:
                        await self._converse(stream, replies, stop)
                    finally:
                        self._noticed.broken += [f"{self._name}: {line}" for line in stream.protocol.violations]
            except Forgotten:
                self._noticed.unseen.append(f"{self._name}: nothing for {SILENT_S:.0f} s of a reply that was accepted")
                return
            except ContractViolation as error:
                self._noticed.broken.append(f"{self._name}: {error}")
                return
            except (ChorusError, OSError) as error:
                if self._asked:
                    self._noticed.cut_replies[str(error)] += 1
                self._asked = False
                await asyncio.sleep(AGAIN_S)

    async def _converse(self, stream: TtsStream, replies: Iterator[str], stop: asyncio.Event) -> None:
        while not stop.is_set() or self._waiting is not None:
            self._waiting = self._waiting or next(replies)
            await stream.send(stream.protocol.synthesize(self._waiting))
            self._asked = True
            began = time.monotonic()
            pause_s = await self._hear(stream)
            self._asked = False
            try:
                # While it is played, and no longer than anybody waits for the end.
                async with asyncio.timeout(max(0.0, min(5.0, pause_s - (time.monotonic() - began)))):
                    await stop.wait()
            except TimeoutError:
                pass

    async def _hear(self, stream: TtsStream) -> float:
        """To the end of the reply, or to where its end is told; seconds until the next one is asked for."""
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    event = await stream.receive()
            except TimeoutError:
                raise Forgotten from None
            if isinstance(event, wire.SynthesisComplete):
                if not event.seconds:
                    self._noticed.unseen.append(f"{self._name}: a reply was complete without a sound")
                self._waiting = None
                self._noticed.replies += 1
                return event.seconds
            if isinstance(event, wire.Cancelled):
                self._noticed.cut_replies["cancelled"] += 1
                return 0.0
            if isinstance(event, Error):
                self._noticed.cut_replies[event.code] += 1
                return (event.retry_after_ms or 1000) / 1000


async def knock(connect: Callable[[], AbstractAsyncContextManager[object]], noticed: Noticed) -> None:
    """Open a stream and leave again, until cancelled."""
    while True:
        began = time.monotonic()
        try:
            async with connect():
                noticed.connects += 1
        except Refused as refused:
            if refused.status == 503 and refused.retry_after is not None:
                noticed.refused += 1
            else:
                noticed.failed_connects[str(refused)] += 1
        except ConnectionLost as error:
            noticed.failed_connects[str(error)] += 1
        except OSError as error:
            noticed.failed_connects[type(error).__name__] += 1
        noticed.slowest_connect_s = max(noticed.slowest_connect_s, time.monotonic() - began)
        await asyncio.sleep(KNOCK_S)


class People:
    """All of them: `with` lets them come, leaving it waits until everybody has said and heard everything."""

    def __init__(self, speeches: list[Speech], listeners: int, urls: Mapping[str, str]) -> None:
        self.noticed = Noticed()
        self._speeches = speeches
        self._listeners = listeners
        self._asr_url = urls["asr"]
        self._tts_url = urls["tts"]
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._knocking: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> People:
        create, noticed = asyncio.create_task, self.noticed
        self._tasks = [
            create(speak(speech, self._asr_url, f"speaker {number}", noticed))
            for number, speech in enumerate(self._speeches, 1)
        ]
        for number in range(1, self._listeners + 1):
            listener = Listener(self._tts_url, f"listener {number}", noticed)
            self._tasks.append(create(listener.listen(texts(number), self._stop)))
        self._knocking = [
            create(knock(lambda: connect_asr(self._asr_url), noticed)),
            create(knock(lambda: connect_tts(self._tts_url), noticed)),
        ]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for task in self._knocking:
            task.cancel()
        self._stop.set()
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        results = await asyncio.gather(*self._tasks, *self._knocking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


def words(alone: list[tuple[Speech, Heard]], noticed: Noticed) -> asr_reconnect.Result:
    """What the speakers' streams have lost or doubled beside undisturbed ones of the same speeches."""
    result = asr_reconnect.Result()
    undisturbed = {id(speech): heard for speech, heard in alone}
    for number, (speech, heard) in enumerate(noticed.heard, 1):
        asr_reconnect.compare(speech, undisturbed[id(speech)], heard, f"speaker {number}", result)
    return result


def told(counted: Counter[str]) -> str:
    """What people were told, with how often, for the table."""
    return ", ".join(f"{count} × {reason}" for reason, count in counted.most_common())
