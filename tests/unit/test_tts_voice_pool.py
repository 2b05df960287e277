"""Voices within a memory budget: who is loaded, who goes, who waits; the loader does as each test tells it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from serving.errors import Overloaded, StreamError, UnknownVoice
from tests.conftest import eventually
from tests.unit.fake_voices import card_of
from tests.unit.fakes import RampVoice
from tts import voice_pool
from tts.installed import Installed, VoiceCard
from tts.metrics import VoiceMetrics
from tts.voice_pool import VoicePool, VoiceUse
from tts.voices import Voices

pytestmark = [pytest.mark.unit, pytest.mark.asyncio]


class Loader:
    """Loads at once, unless it is held up or a voice is broken; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, card: VoiceCard) -> RampVoice:
        assert threading.current_thread() is not threading.main_thread()
        self.asked.append(card.id)
        assert self.may_go_on.wait(timeout=10)
        if card.id in self.broken:
            raise RuntimeError(f"{card.id} is broken on purpose")
        return RampVoice(card.id)


class Waiter:
    """One request that wants a voice, and what it was told."""

    def __init__(self, pool: VoicePool, card: VoiceCard) -> None:
        self.told: list[StreamError | None] = []
        self.use: VoiceUse = pool.use(card, self.told.append)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
async def pool(loader: Loader) -> AsyncIterator[VoicePool]:
    """Room for three voices of ten."""
    made = VoicePool(loader, budget_mb=30, metrics=VoiceMetrics(CollectorRegistry()))
    yield made
    loader.may_go_on.set()
    made.stop()


A, B, C, D = (card_of(name) for name in "abcd")


async def visit(pool: VoicePool, *cards: VoiceCard) -> None:
    """Use voices one after another."""
    for card in cards:
        (await pool.loaded(card)).release()


def count(pool: VoicePool, outcome: str) -> float:
    return float(pool._metrics.loads.labels(outcome)._value.get())


async def test_the_voice_used_longest_ago_goes_first(pool: VoicePool, loader: Loader) -> None:
    """Using a loaded voice makes it the newest; loading beyond the budget takes out the oldest."""
    await visit(pool, A, B, C, A)
    assert pool.voice_ids() == ["b", "c", "a"]
    await visit(pool, D)
    assert pool.voice_ids() == ["c", "a", "d"]
    assert pool._metrics.evictions._value.get() == 1
    await visit(pool, B)
    assert (pool.voice_ids(), loader.asked) == (["a", "d", "b"], ["a", "b", "c", "d", "b"])


async def test_a_voice_counts_as_used_until_its_request_ends(pool: VoicePool) -> None:
    """Not since its request began."""
    first = await pool.loaded(A)
    await visit(pool, B, C)
    first.release()
    await visit(pool, D)
    assert pool.voice_ids() == ["c", "a", "d"]


class Watched(VoiceCard):
    """A card of which a test learns when it is read."""

    on_read: Callable[[], object] = str

    def __getattribute__(self, name: str) -> Any:
        if name in ("id", "memory_mb"):
            type(self).on_read()
        return super().__getattribute__(name)


async def test_what_is_loaded_may_be_asked_while_voices_come_and_go(
    pool: VoicePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `/health` and `/metrics` do, on threads of their own: what they count is what was there when they began."""
    watched = Watched(**{name: getattr(A, name) for name in VoiceCard.__dataclass_fields__})
    await visit(pool, watched, B)
    monkeypatch.setattr(Watched, "on_read", staticmethod(lambda: pool._voices.setdefault(C, voice_pool._Loaded(C))))
    assert pool.voice_ids() == ["a", "b"]
    del pool._voices[C]
    assert pool.memory_mb() == 20


async def test_a_voice_in_use_never_goes(pool: VoicePool) -> None:
    """Not for anybody; where all are in use, a client is told to come again, and then finds room."""
    held = [await pool.loaded(card) for card in (A, B, C)]
    with pytest.raises(Overloaded) as refused:
        pool.use(D, lambda _: None)
    assert refused.value.retry_after_ms
    assert pool.voice_ids() == ["a", "b", "c"]
    held[1].release()
    await visit(pool, D)
    assert pool.voice_ids() == ["a", "c", "d"]
    assert held[0].speaker is not None


async def test_nobody_goes_where_that_would_not_be_enough(pool: VoicePool) -> None:
    """A large voice that finds no room costs no other its place."""
    held = await pool.loaded(A)
    await visit(pool, B, C)
    with pytest.raises(Overloaded):
        pool.use(card_of("large", 25), lambda _: None)
    assert pool.voice_ids() == ["a", "b", "c"]
    held.release()
    await visit(pool, card_of("large", 25))
    assert pool.voice_ids() == ["large"]


async def test_a_voice_on_its_way_has_its_room_already(pool: VoicePool, loader: Loader) -> None:
    """Also where nobody waits for it any more: it is neither lost nor counted twice."""
    loader.may_go_on.clear()
    waiters = [Waiter(pool, card) for card in (A, B, C)]
    assert pool.memory_mb() == 30
    waiters[0].use.release()
    with pytest.raises(Overloaded):
        pool.use(D, lambda _: None)
    loader.may_go_on.set()
    await eventually(lambda: len(pool.voice_ids()) == 3)
    await visit(pool, D)
    assert pool.voice_ids() == ["b", "c", "d"]


async def test_many_who_wait_for_a_voice_load_it_once(pool: VoicePool, loader: Loader) -> None:
    """And all get the same one, told once each; who comes later has it at once and is told nothing."""
    loader.may_go_on.clear()
    waiters = [Waiter(pool, A) for _ in range(20)]
    assert all(waiter.use.speaker is None for waiter in waiters)
    loader.may_go_on.set()
    await eventually(lambda: all(waiter.told for waiter in waiters))
    assert {waiter.use.speaker for waiter in waiters} == {waiters[0].use.speaker}
    late = Waiter(pool, A)
    assert late.use.speaker is waiters[0].use.speaker
    assert ([waiter.told for waiter in waiters], late.told, loader.asked) == ([[None]] * 20, [], ["a"])


async def test_who_leaves_while_a_voice_is_loaded_is_told_nothing(pool: VoicePool, loader: Loader) -> None:
    """The others get it, and it stays for whoever comes next; a second release changes nothing."""
    loader.may_go_on.clear()
    gone, stays = Waiter(pool, A), Waiter(pool, A)
    gone.use.release()
    gone.use.release()
    loader.may_go_on.set()
    await eventually(lambda: stays.told)
    assert (gone.told, gone.use.speaker) == ([], None)
    await visit(pool, B, C)
    with pytest.raises(Overloaded):  # still held by the one that stayed
        pool.use(card_of("large", 25), lambda _: None)
    stays.use.release()
    await visit(pool, D)
    assert loader.asked == ["a", "b", "c", "d"]


async def test_one_that_ends_another_by_its_answer(pool: VoicePool, loader: Loader) -> None:
    """A request that ends because of what an earlier one was told is told nothing itself."""
    loader.may_go_on.clear()
    second: list[Waiter] = []
    pool.use(A, lambda _: second[0].use.release())
    second.append(Waiter(pool, A))
    third = Waiter(pool, A)
    loader.may_go_on.set()
    await eventually(lambda: third.told)
    assert second[0].told == []


async def test_a_voice_that_fails_says_why_and_leaves_the_others(pool: VoicePool, loader: Loader) -> None:
    """Everybody who waited is told; it takes no room; it is not tried again at once, but after a while."""
    loader.broken = {"b"}
    await visit(pool, A)
    loader.may_go_on.clear()
    waiters = [Waiter(pool, B), Waiter(pool, B)]
    loader.may_go_on.set()
    await eventually(lambda: waiters[1].told)
    for waiter in waiters:
        (error,) = waiter.told
        assert isinstance(error, UnknownVoice)
        assert "b is broken on purpose" in str(error)
        waiter.use.release()
    assert waiters[0].told[0] is not waiters[1].told[0]  # each request names itself in it
    assert (pool.voice_ids(), pool.memory_mb(), count(pool, "failed"), count(pool, "loaded")) == (["a"], 10, 1, 1)
    with pytest.raises(UnknownVoice, match="broken on purpose"):
        pool.use(B, lambda _: None)
    assert pool.failure(B) == "b is broken on purpose"
    assert loader.asked == ["a", "b"]
    await visit(pool, C, D)


async def test_a_voice_that_failed_is_tried_again(
    pool: VoicePool, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, or at once where it was installed anew: that is another card."""
    loader.broken = {"b"}
    with pytest.raises(UnknownVoice):
        await pool.loaded(B)
    loader.broken = set()
    with pytest.raises(UnknownVoice):
        await pool.loaded(B)
    await visit(pool, card_of("b"))
    monkeypatch.setattr(voice_pool, "TRY_AGAIN_S", 0.0)
    await visit(pool, B)


async def test_a_pool_that_stops_loads_no_more(loader: Loader) -> None:
    """What waits to be loaded is not, and a load that runs ends by itself."""
    pool = VoicePool(loader, budget_mb=30, metrics=VoiceMetrics(CollectorRegistry()))
    loader.may_go_on.clear()
    first, second = Waiter(pool, A), Waiter(pool, B)
    await eventually(lambda: loader.asked)
    pool.stop()
    loader.may_go_on.set()
    await eventually(lambda: pool.voice_ids() == ["a"])
    assert (second.told, loader.asked) == ([], ["a"])
    assert first.told == [None]


async def test_who_stops_waiting_for_a_voice_holds_it_no_more(pool: VoicePool, loader: Loader) -> None:
    """The replica may be told to end while it loads."""
    loader.may_go_on.clear()
    waiting = asyncio.create_task(pool.loaded(A))
    await eventually(lambda: loader.asked)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    loader.may_go_on.set()
    await eventually(lambda: pool.voice_ids() == ["a"])
    await visit(pool, B, C, D)
    assert pool.voice_ids() == ["b", "c", "d"]


def installed(*cards: VoiceCard, **broken: str) -> Installed:
    return Installed({card.id: card for card in cards}, broken)


async def test_hot_voices_are_loaded_ahead_and_only_the_default_stays(pool: VoicePool, loader: Loader) -> None:
    """One that fails, is not installed or finds no room is passed over."""
    loader.broken = {"c"}
    voices = Voices(installed(A, B, C, D), pool, "a")
    await voices.load(["b", "c", "missing"])
    assert pool.voice_ids() == ["a", "b"]
    assert list(voices.describe()["failed"]) == ["c"]
    await visit(pool, D, B, card_of("e"), card_of("f"))
    assert "a" in pool.voice_ids()
    assert len(pool.voice_ids()) == 3
    assert [voice.id for voice in voices.listing()] == ["a", "b", "d"]


async def test_without_its_default_a_replica_does_not_begin(pool: VoicePool, loader: Loader) -> None:
    """Whether it is not there, can't be read or can't be loaded; the reason is told."""
    with pytest.raises(UnknownVoice, match="not installed"):
        Voices(installed(B), pool, "a")
    with pytest.raises(UnknownVoice, match="no phonemes"):
        Voices(installed(B, a="no phonemes"), pool, "a")
    loader.broken = {"a"}
    with pytest.raises(UnknownVoice, match="broken on purpose"):
        await Voices(installed(A), pool, "a").load([])


async def test_a_voice_that_never_fits_is_not_offered(pool: VoicePool) -> None:
    """`overloaded` would make its client come again for ever."""
    voices = Voices(installed(A, card_of("large", 25)), pool, "a")
    await voices.load([])
    with pytest.raises(UnknownVoice, match="TTS_VOICE_MEMORY_MB"):
        voices.get("large")
    assert [voice.id for voice in voices.listing()] == ["a"]
    assert "large" in voices.describe()["failed"]


async def test_what_is_installed_meanwhile_can_be_spoken_with(pool: VoicePool) -> None:
    """New voices come, removed ones go once they are no longer in memory, and the default never."""
    voices = Voices(installed(A, B), pool, "a")
    await voices.load([])
    with pytest.raises(UnknownVoice, match="there are a, b"):
        voices.get("c")
    voices.update(installed(card_of("a"), C, D, b="truncated"))
    assert voices.get("c") is C
    assert voices.get(None) is voices.get("a") is A
    with pytest.raises(UnknownVoice, match="truncated"):
        voices.get("b")
    await visit(pool, C)
    voices.update(installed())
    assert [voice.id for voice in voices.listing()] == ["a", "c"]
    voices.update(installed(B, card_of("c")))
    assert voices.get("c") is not C
