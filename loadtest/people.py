"""The people, and what each kind does.

Everybody goes by a schedule of its own that no service can slow down: who is answered late speaks again when it was
going to (coordinated omission), and records tell when everything was due.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, cycle
from typing import Any

from loadtest.line import AWAY_S, CLOSES_WITHIN_S, Line
from loadtest.microphone import Microphone, Saying
from loadtest.player import Player, Reply
from loadtest.scene import Scene
from loadtest.settings import Kind, LoadSettings
from loadtest.texts import paragraphs, replies
from loadtest.utterances import Utterance

ASKS_ANYWAY_S = 5.0
"""An agent that has heard no final so long after the end of speech asks for a reply all the same: the load of the one
service does not depend on the other."""
BARGES_IN_S = (0.0, 0.3)
"""After a reply's first audio: later, a short one has been sent whole, and there is nothing to cancel."""
READS_ON_S = (0.5, 2.0)
"""A reader's pause between two paragraphs; a caption speaker's between two utterances is as long."""
FIRST_TURN_S = (0.5, 3.0)
"""After a caller of the open loop has come."""
PARAGRAPHS = 2
"""Different ones of each reader."""


class Person:
    """One simulated person, from its coming to its leaving."""

    def __init__(
        self,
        scene: Scene,
        kind: Kind,
        name: str,
        number: int,
        utterances: Iterator[Utterance],
        turns: int | None = None,
    ) -> None:
        """`number` is the person's own among those of its kind, `utterances` what it says, without end.

        With `turns` it is a caller of the open loop: it leaves after so many, and at once where there is no room.
        """
        self.name = name
        self.kind = kind
        self.number = number
        self.turns = turns
        self.scene = scene
        self.settings: LoadSettings = scene.settings
        self.random = random.Random(f"person {self.settings.seed} {name}")
        self.came = time.monotonic()
        self.microphone: Microphone | None = None
        self.player: Player | None = None
        if kind in ("voice", "caption", "idle"):
            self.microphone = Microphone(scene, name, self.random)
        if kind in ("voice", "reader", "slow"):
            slow = float(self.settings.slow_bytes_per_s) if kind == "slow" else None
            self.player = Player(scene, name, self.random, (kind, number), slow)
        self.utterances = utterances
        self._running: dict[Line, asyncio.Task[None]] = {}

    @property
    def lines(self) -> list[Line]:
        """The person's streams."""
        return [line for line in (self.microphone, self.player) if line is not None]

    async def live(self) -> None:
        """Do what the kind does, until cancelled or all turns are over. Raises `Refused` as `Line.run`."""
        for line in self.lines:
            self._running[line] = asyncio.create_task(line.run(patient=self.turns is None), name=self.name)
        doing = asyncio.create_task(_behave(self), name=self.name)
        try:
            await asyncio.wait((doing, *self._running.values()), return_when=asyncio.FIRST_COMPLETED)
            for task in (*self._running.values(), doing):
                if task.done():
                    task.result()
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)

    async def leave(self) -> None:
        """Close the streams in order; those that have no connection are left at once."""
        open_ones = [line for line in self._running if line.opened.is_set()]
        for line in open_ones:
            line.close()
        waiting = [self._running[line] for line in open_ones]
        if waiting:
            await asyncio.wait(waiting, timeout=CLOSES_WITHIN_S)
        for line, task in self._running.items():
            if line in open_ones and not task.done():
                line.fail(f"the stream did not end within {CLOSES_WITHIN_S:g} s of close")
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        if self.player is not None:
            await self.player.judged()
        self.scene.isolation.left(self.name)

    async def connected(self) -> None:
        """Until there is a connection of each stream."""
        for line in self.lines:
            await line.opened.wait()


async def _behave(person: Person) -> None:
    await person.connected()
    await BEHAVIOUR[person.kind](person)


async def _voice(person: Person) -> None:
    """Speaks at its turn, is answered, pauses; the turns come by its schedule, whatever becomes of them."""
    settings, every = person.settings, person.settings.turn_every_s
    said, texts = person.utterances, cycle(_replies(person))
    first = FIRST_TURN_S if person.turns is not None else (0.0, every)
    begins = person.came + person.random.uniform(*first)
    begins += max(0.0, -((begins - time.monotonic()) // every)) * every  # who had to wait for room begins at its next
    for turn in count():
        due = begins + turn * every
        await _until(due)
        utterance = next(said)
        if person.random.random() < settings.hang_up_share:
            await _hang_up(person, utterance, due)
        else:
            await _turn(person, utterance, next(texts), due, due + every)
        if person.turns is not None and turn + 1 >= person.turns:
            return


async def _turn(person: Person, utterance: Utterance, text: str, due: float, ends: float) -> None:
    assert person.microphone is not None
    assert person.player is not None
    saying = person.microphone.say(utterance, due)
    if saying is None:
        return  # no connection now: the person comes back to it at its next turn
    asks_at = await _heard(saying, ends)
    if asks_at is None:
        return
    barges_in = person.random.random() < person.settings.barge_in_share
    reply = person.player.ask(text, asks_at)
    if barges_in and await _within(reply.first, ends):
        await _until(min(ends, time.monotonic() + person.random.uniform(*BARGES_IN_S)))
        person.player.cancel(reply)
    await _listen(person.player, reply, ends)


async def _heard(saying: Saying, ends: float) -> float | None:
    """Until the utterance has its final, or none is waited for any more; the moment to ask for a reply then.

    None where the next turn has come, or the stream has gone: there is nothing to answer.
    """
    if not await _within(saying.ended, ends):
        return None
    speech_end = saying.ended.result()
    anyway = speech_end + ASKS_ANYWAY_S
    await _until(min(speech_end, ends))
    if await _within(saying.final, min(anyway, ends)) and saying.final.result():
        return time.monotonic()
    await _until(min(anyway, ends))
    return anyway if anyway < ends else None


async def _listen(player: Player, reply: Reply, ends: float) -> None:
    """Play the reply; at the next turn the person speaks over what is left of it."""
    if not await _within(reply.over, ends):
        player.cancel(reply)
    await _until(min(ends, reply.played_at))


async def _hang_up(person: Person, utterance: Utterance, due: float) -> None:
    """Hang up in the middle of a turn, and come back."""
    assert person.microphone is not None
    assert person.player is not None
    saying = person.microphone.say(utterance, due)
    await asyncio.sleep(person.random.uniform(0.0, utterance.seconds))
    if saying is not None and person.random.random() < 0.5:
        person.player.ask(_replies(person)[0], time.monotonic())
        await asyncio.sleep(person.random.uniform(0.0, 0.5))
    for line in person.lines:
        line.hang_up()
    await asyncio.sleep(AWAY_S[0])


async def _caption(person: Person) -> None:
    """One stream of utterances, one after another."""
    assert person.microphone is not None
    due = time.monotonic()
    for turn, utterance in enumerate(person.utterances, start=1):
        due += person.random.uniform(*READS_ON_S)
        await _until(due)
        saying = person.microphone.say(utterance, due)
        due += utterance.seconds
        await _until(due)
        if person.turns is not None and turn >= person.turns:
            if saying is not None:
                await asyncio.wait((saying.final,))
            return


async def _reader(person: Person) -> None:
    """Paragraph after paragraph: the next is asked for when the one before would have been played without a wait."""
    assert person.player is not None
    due = time.monotonic()
    for turn, text in enumerate(cycle(_paragraphs(person)), start=1):
        due += person.random.uniform(*READS_ON_S)
        await _until(due)
        reply = person.player.ask(text, due)
        await asyncio.wait((reply.over,))
        due += reply.seconds
        if person.kind == "slow":
            # It asks for more once it has read all: its own slowness is no wait for the service.
            due = max(time.monotonic(), person.player.reads_on_at)
        if person.turns is not None and turn >= person.turns:
            await _until(due)
            return


async def _idle(person: Person) -> None:
    """Nothing but silence; a caller leaves after as long as its turns would take."""
    if person.turns is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(person.turns * person.settings.turn_every_s)


BEHAVIOUR: dict[Kind, Callable[[Person], Awaitable[None]]] = {
    "voice": _voice,
    "caption": _caption,
    "reader": _reader,
    "idle": _idle,
    "slow": _reader,
}


def texts_of(kind: Kind, number: int, settings: LoadSettings) -> list[str]:
    """Everything that such a person may ask for."""
    if kind == "voice":
        return replies(kind, number, settings.seed, settings.texts, settings.reply_words)
    if kind in ("reader", "slow"):
        return paragraphs(kind, number, settings.seed, PARAGRAPHS)
    return []


def _replies(person: Person) -> list[str]:
    return texts_of("voice", person.number, person.settings)


def _paragraphs(person: Person) -> list[str]:
    return texts_of(person.kind, person.number, person.settings)


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def _within(known: asyncio.Future[Any], moment: float) -> bool:
    """Whether a future is done, and not in vain, by that moment."""
    await asyncio.wait((known,), timeout=max(0.0, moment - time.monotonic()))
    return known.done() and not known.cancelled() and known.result() is not False
