"""Who is rendered next, on a machine of known speed: no gaps, first sounds in order, admission as foreseen."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from serving.audio import Samples
from tests.unit.playback import Clock, CostlyVoice, Listener, World
from tts.chunks import FIRST_FRAMES, JOIN_FRAMES, chunk
from tts.engine import (
    FIRST_SIZES,
    HASTY_SIZES,
    LONELY_SIZES,
    LONGEST_CALL_S,
    MOST_SENTENCES,
    Engine,
    ListenerStream,
    Sentence,
)
from tts.metrics import TtsMetrics
from tts.outlook import NEXT_FRAMES, Piece, gather, jobs, lateness
from tts.pace import Pace, Ratio
from tts.voice import Manner, Utterance

pytestmark = pytest.mark.unit

SENTENCE = "x" * 60
"""2.9 s of speech."""


def practised(**world: float) -> World:
    """A world whose engine has learnt what its voice costs."""
    made = World(**world)  # type: ignore[arg-type]
    made.run([Listener(0, [SENTENCE] * 2)])
    return made


def listening(world: World, seconds: float, text: str = SENTENCE) -> Listener:
    """Somebody in the middle of a reply, with so many seconds of audio left and a sentence to come."""
    listener = Listener(0, [])
    world.submit(listener, text)
    listener.stream.sentences[0].queued = world.clock.now - 100
    listener.stream.plays_until = listener.plays_until = listener.first_sound = world.clock.now + seconds
    return listener


def next_in_turn(world: World) -> ListenerStream:
    """Whose turn it is."""
    turn = world.engine._next()
    assert turn is not None
    return turn.streams[0]


REPLIES = st.lists(
    st.tuples(st.floats(0, 15), st.lists(st.integers(3, 200), min_size=1, max_size=MOST_SENTENCES)),
    min_size=1,
    max_size=40,
)
"""When each is asked for, and the characters of its sentences."""


@settings(deadline=None, max_examples=40)
@given(REPLIES, st.floats(0.3, 2), st.sampled_from([1, 2, 4]))
def test_nobody_who_listens_ever_hears_a_gap(
    replies: list[tuple[float, list[int]]], slowness: float, workers: int
) -> None:
    """Whatever the load and the machine's speed: those who come too many wait, and everybody gets everything."""
    world = practised(workers=workers, front_s=0.00025 * slowness, chunk_s=0.00034 * slowness)
    listeners = [Listener(asks, ["x" * length for length in lengths]) for asks, lengths in replies]
    world.run(listeners)
    assert [listener.gaps for listener in listeners] == [[] for _ in listeners]
    assert all(listener.over for listener in listeners)
    for listener, (_, lengths) in zip(listeners, replies, strict=True):
        assert listener.seconds == pytest.approx(sum(lengths) * 4 * 0.012)


@settings(deadline=None, max_examples=20)
@given(REPLIES)
def test_first_sounds_come_in_the_order_of_asking(replies: list[tuple[float, list[int]]]) -> None:
    """Nobody who asks later is heard earlier."""
    world = practised()
    listeners = [Listener(asks, ["x" * length for length in lengths]) for asks, lengths in replies]
    world.run(listeners)
    by_asking = sorted(listeners, key=lambda each: each.asks)
    heard = [each.first_sound for each in by_asking]
    assert heard == sorted(heard)  # type: ignore[type-var]


def test_a_crowd_hears_no_gap_and_the_machine_is_not_wasted_on_overlaps() -> None:
    """Forty at once on a machine for twenty-odd: all in order, and nearly as much speech a second as for one alone."""
    alone, crowd = practised(), practised()
    for world, listeners in ((alone, 1), (crowd, 40)):
        world.busy = 0.0
        people = [Listener(0, [SENTENCE, SENTENCE]) for _ in range(listeners)]
        world.run(people)
        assert not any(each.gaps for each in people)
        world.busy /= sum(each.seconds for each in people)
    assert crowd.busy < 1.2 * alone.busy


@pytest.mark.parametrize("workers", [1, 2])
def test_listeners_who_come_again_and_again_hear_no_gap(workers: int) -> None:
    """Twenty-four who ask every six seconds load the machine to three quarters; nobody waits long."""
    chance = random.Random(1)
    world = practised(workers=workers, front_s=0.00025 * workers, chunk_s=0.00034 * workers)
    people = [
        Listener(phase + 6 * turn, ["x" * chance.randint(20, 110) for _ in range(chance.randint(1, 2))])
        for phase in (chance.uniform(0, 6) for _ in range(24))
        for turn in range(10)
    ]
    world.run(people)
    assert not any(each.gaps for each in people)
    assert max(each.waited for each in people) < 0.6


def test_several_workers_never_work_for_the_same_listener() -> None:
    """One chunk follows another; while one is being made the next worker turns to somebody else."""
    world = practised(workers=2)
    first, second = Listener(0, []), Listener(0, [])
    for each in (first, second):
        world.submit(each, SENTENCE)
    assert world._begin_call()
    assert next_in_turn(world) is second.stream
    assert world._begin_call()
    assert world.engine._next() is None
    assert world.engine._until_somebody_needs_more() is None


def test_a_very_short_sentence_before_a_long_one_is_no_gap() -> None:
    """The long one's first chunk is then small; and others who listen don't keep such a text from being begun."""
    world = practised(front_s=0.0005, chunk_s=0.0007)
    alone = Listener(0, ["xxx", "x" * 120])
    world.run([alone])
    assert not alone.gaps
    book = listening(world, 5, "x" * 200)
    shorty = Listener(0, ["xxx", "x" * 120])
    world.run([shorty])
    assert shorty.waited < 0.5
    assert not shorty.gaps
    assert not book.gaps


def test_whoever_runs_out_of_audio_first_is_next() -> None:
    """Of those who listen."""
    world = practised()
    long, short = listening(world, 5), listening(world, 1)
    assert next_in_turn(world) is short.stream
    short.stream.plays_until += 5
    assert next_in_turn(world) is long.stream


def test_a_first_sound_goes_first_while_there_is_slack() -> None:
    """It is made before anybody's next chunk that can wait."""
    world = practised()
    for _ in range(5):
        listening(world, 2)
    newcomer = Listener(0, [])
    world.submit(newcomer, SENTENCE)
    assert next_in_turn(world) is newcomer.stream


def test_a_first_sound_waits_while_somebody_would_run_dry_for_it() -> None:
    """Until those who listen have enough; they hear nothing of it."""
    world = practised()
    people = [listening(world, 0.13 + 0.065 * number) for number in range(5)]
    newcomer = Listener(0, [])
    world.submit(newcomer, SENTENCE)
    order = []
    while newcomer.first_sound is None:
        order.append(next_in_turn(world))
        world.turn()
    assert order[0] is people[0].stream
    assert order[-1] is newcomer.stream
    while world.turn():
        pass
    assert not any(each.gaps for each in (*people, newcomer))


def test_who_reads_long_texts_is_not_joined_by_more_than_the_machine_can_feed() -> None:
    """Thirty books at once where twenty-odd can be read: the last ones begin when others have come to their end."""
    world = practised()
    books = [Listener(0, []) for _ in range(30)]
    for book in books:
        for number in range(MOST_SENTENCES):
            world.submit(book, SENTENCE, last=number == MOST_SENTENCES - 1)
    while any(book.stream.sentences for book in books):
        for book in books:  # more text comes as long as the first minute lasts
            if len(book.stream.sentences) < MOST_SENTENCES and world.clock.now < 1060:
                world.submit(book, SENTENCE)
        if not world.turn():
            world.clock.now += 0.01
    assert not any(book.gaps for book in books)
    waits = sorted((book.first_sound or 0.0) - 1000 for book in books)
    assert waits[15] < 5
    assert waits[-1] > 30


def test_who_waits_for_a_first_sound_keeps_no_worker_awake() -> None:
    """Nothing changes until those who listen, and have enough, need more."""
    world = practised()
    for _ in range(30):
        book = listening(world, 15)
        for _ in range(MOST_SENTENCES - 1):
            world.engine.submit(book.stream, replace(book.stream.sentences[0]))
    world.submit(Listener(0, []), SENTENCE)
    assert world.engine._next() is None
    assert world.engine._until_somebody_needs_more() == pytest.approx(5)


@pytest.mark.parametrize("leave", ["cancel", "forget"])
async def test_who_leaves_makes_room_at_once(leave: str) -> None:
    """A worker that sleeps until somebody needs more is woken for who waits."""
    engine = Engine(
        ahead_s=10, post=asyncio.get_running_loop().call_soon_threadsafe, metrics=TtsMetrics(CollectorRegistry())
    )
    voice, heard = CostlyVoice(Clock()), asyncio.Event()
    books = [ListenerStream() for _ in range(40)]

    def sentence(owner: object) -> Sentence:
        return Sentence(SENTENCE * 5, voice, Manner(), owner, lambda _: heard.set())  # type: ignore[arg-type]

    for book in books:
        for _ in range(MOST_SENTENCES):
            engine.submit(book, sentence(book))
        book.plays_until = time.monotonic() + 1000
    newcomer = ListenerStream()
    engine.submit(newcomer, sentence(newcomer))
    engine.start()
    await asyncio.sleep(0.1)
    assert not heard.is_set()
    for book in books:
        if leave == "cancel":
            engine.cancel(book, book)
        else:
            engine.forget(book)
    async with asyncio.timeout(10):
        await heard.wait()
    engine.stop()


def test_a_first_chunk_is_small_and_larger_in_a_crowd() -> None:
    """Alone it sounds as early as can be; in a crowd it lasts until the others have had their turn."""
    sizes = []
    for listeners in (1, 12, 40):
        world = practised()
        world.voice.calls.clear()
        for _ in range(listeners):
            world.submit(Listener(0, []), SENTENCE)
        world.turn()
        world.turn()
        sizes.append(world.voice.calls[-1][1])
    assert sizes == [LONELY_SIZES[0], *FIRST_SIZES[1:]]


@pytest.mark.parametrize(
    ("workers", "slowness", "first"),
    [(1, 1, LONELY_SIZES[0]), (1, 5, 24), (1, 10, 48), (1, 40, 96), (2, 1, HASTY_SIZES[0]), (2, 3, LONELY_SIZES[0])],
)
def test_a_first_chunk_lasts_until_the_next_can_be_there(workers: int, slowness: float, first: int) -> None:
    """Where neighbours take the processor, too: a small one would end in a gap."""
    world = practised(workers=workers, front_s=0.00025 * slowness, chunk_s=0.00034 * slowness)
    world.voice.calls.clear()
    world.submit(Listener(0, []), SENTENCE)
    world.turn()
    world.turn()
    assert world.voice.calls[-1] == ("back", first)


def test_a_later_chunk_is_as_large_as_the_time_allows() -> None:
    """With time to spare all that a call may take; with none, what is just not too dear."""
    calm, tight = practised(), practised()
    someone = listening(calm, 3, "x" * 50)
    tight_ones = [listening(tight, 0.12) for _ in range(3)]
    for world in (calm, tight):
        world.turn()
        world.turn()
    assert calm.voice.calls[-1][1] == 200
    assert someone.over
    assert tight.voice.calls[-1][1] == NEXT_FRAMES
    assert tight_ones[0].seconds > 0


@pytest.mark.parametrize("left", [0.15, 0.28, 0.4, 0.7])
def test_a_chunk_that_takes_nearly_twice_as_long_as_ever_is_no_gap(left: float) -> None:
    """As happens where others get the core for a while."""
    world = practised(workers=2, chunk_s=0.0014)
    someone, _ = listening(world, left), listening(world, 60)
    world.turn()
    someone.stream.plays_until = someone.plays_until = world.clock.now + left
    world.voice.chunk_s *= 1.9
    world.turn()
    assert someone.seconds > 0
    assert not someone.gaps


def test_no_call_takes_long_where_its_size_can_help_it() -> None:
    """Also on a slow machine somebody who comes is not held up by one long chunk."""
    world = practised(chunk_s=0.0006)
    world.voice.calls.clear()
    someone = listening(world, 8)
    world.submit(someone, "x" * 250)
    while world.turn():
        pass
    backs = [size for kind, size in world.voice.calls if kind == "back"]
    assert max(backs) * 0.0006 <= LONGEST_CALL_S


def test_the_same_bytes_are_asked_for_in_the_same_chunks() -> None:
    """With both noises 0 a sentence is cut alike, whoever else is served: 24 frames, then twice as many each time."""
    cuts = []
    for others in (0, 10):
        world = practised()
        world.voice.calls.clear()
        for _ in range(others):
            world.submit(Listener(0, []), "y" * 9)
        exact = Listener(0, [])
        world.submit(exact, "x" * 100, noise_scale=0, noise_w_scale=0)
        mine = []
        while exact.stream.sentences:
            if next_in_turn(world) is exact.stream:
                world.turn()
                mine.append(world.voice.calls[-1])
            else:
                world.turn()
        cuts.append([size for kind, size in mine if kind == "back"])
    assert cuts[0] == cuts[1]
    assert cuts[0][:3] == [FIRST_FRAMES, 48, 96]
    assert sum(cuts[0]) == 400


def test_a_stream_far_enough_ahead_waits() -> None:
    """Until playback has used some of it up; production is bounded by it."""
    world = practised(ahead_s=5)
    someone = Listener(0, [])
    for _ in range(10):
        world.submit(someone, SENTENCE)
    while world.turn():
        pass
    assert 5 <= someone.seconds < 9
    assert world.engine._until_somebody_needs_more() == pytest.approx(someone.plays_until - 5 - world.clock.now)
    world.clock.now = someone.plays_until - 4
    assert world.turn()


def test_a_cancelled_request_frees_the_machine_at_once() -> None:
    """Whatever of it was still to be made is not; what is asked for next is as urgent as a first sound."""
    world = practised()
    someone = Listener(0, [])
    for _ in range(4):
        world.submit(someone, SENTENCE)
    for _ in range(3):
        world.turn()
    assert someone.stream.plays_until > world.clock.now
    world.engine.cancel(someone.stream, someone)
    assert world.engine.depth() == 0
    assert not world.turn()
    assert someone.stream.plays_until <= world.clock.now
    world.submit(someone, SENTENCE)
    assert someone.stream.silent


def test_what_is_cancelled_is_not_what_plays() -> None:
    """The audio of the request before it is heard to its end."""
    world = practised()
    someone = Listener(0, [])
    world.submit(someone, "x" * 100)
    while world.turn():
        pass
    until = someone.stream.plays_until
    another = Listener(0, [], stream=someone.stream)
    world.submit(another, SENTENCE)
    world.turn()
    world.engine.cancel(someone.stream, another)
    assert someone.stream.plays_until == until
    world.submit(another, SENTENCE)
    while another.stream.sentences:
        world.turn()
    assert another.stream.plays_until == pytest.approx(until + 2.88)
    world.engine.cancel(someone.stream, another)
    assert someone.stream.plays_until == pytest.approx(until)


def test_a_chunk_that_was_cancelled_while_it_was_rendered_reaches_nobody() -> None:
    """Nor does it count as heard, nor end the sentence that stands in the queue after it."""
    world = practised()
    someone, next_one = Listener(0, []), Listener(0, [])
    next_one.stream = someone.stream
    world.submit(someone, SENTENCE)
    world.submit(next_one, SENTENCE)
    world.turn()
    turn = world.engine._next()
    assert turn is not None
    world.engine.cancel(someone.stream, someone)
    world.engine._finish(turn, world.engine._call(turn))
    assert someone.seconds == 0
    assert not someone.over
    assert someone.stream.plays_until == 0
    assert len(someone.stream.sentences) == 1


def test_forgotten_streams_leave_nothing() -> None:
    """Neither a place in the queue nor their sentences."""
    world = practised()
    streams = []
    for _ in range(20):
        someone = Listener(0, [])
        world.submit(someone, SENTENCE)
        world.submit(someone, SENTENCE)
        streams.append(weakref.ref(someone.stream))
        world.turn()
        world.engine.forget(someone.stream)
        del someone
    gc.collect()
    assert [ref() for ref in streams] == [None] * 20
    assert world.engine.depth() == 0
    assert not world.turn()


def seen(world: World, name: str) -> float:
    """A figure of the engine's metrics."""
    value = world.registry.get_sample_value(name)
    assert value is not None
    return value


def test_slack_and_gaps_are_measured_while_a_listener_listens() -> None:
    """Not for a first chunk, nor for one after a silence that the listener's own next request ended."""
    world = World()
    someone = Listener(0, [SENTENCE])
    world.submit(someone, "x" * 6)
    while world.turn():
        pass
    assert seen(world, "tts_playback_slack_seconds_count") == 0
    world.submit(someone, "x" * 6)
    while world.turn():
        pass
    assert seen(world, "tts_playback_slack_seconds_count") == 1
    assert seen(world, "tts_gaps_total") == 0
    world.submit(someone, "x" * 6)
    world.clock.now = someone.plays_until + 1.5
    while world.turn():
        pass
    assert seen(world, "tts_gaps_total") == 1
    assert seen(world, "tts_gap_seconds_total") == pytest.approx(1.5, abs=0.1)
    world.clock.now += 100
    world.submit(someone, "x" * 6)
    while world.turn():
        pass
    assert seen(world, "tts_playback_slack_seconds_count") == 2
    assert seen(world, "tts_gaps_total") == 1


def test_every_call_is_measured() -> None:
    """Its time, its chunks, the audio of it, and the wait before."""
    world = World()
    world.run([Listener(0, [SENTENCE])])
    assert seen(world, "tts_front_seconds_count") == 1
    assert seen(world, "tts_front_seconds_sum") == pytest.approx(75 * 0.00025)
    assert seen(world, "tts_batch_chunks_sum") == seen(world, "tts_chunk_seconds_count") >= 2
    assert seen(world, "tts_rendered_seconds_total") == pytest.approx(2.88)
    assert seen(world, "tts_real_time_factor_count") == seen(world, "tts_chunk_seconds_count")
    assert seen(world, "tts_queue_wait_seconds_count") == 1


def test_costs_are_learnt() -> None:
    """From the first observation on, and anew where the machine becomes slower."""
    world = World(front_s=0.001, chunk_s=0.002)
    pace = world.engine._pace(world.voice)
    assert pace.chunk_s.value < 0.001
    world.run([Listener(0, [SENTENCE])])
    assert pace.front_s(85) == pytest.approx(0.1)
    assert pace.chunk_s.value == pytest.approx(0.002)
    assert (pace.frames.value, pace.frame_s.value) == pytest.approx((4, 0.012))
    world.voice.chunk_s = 0.004
    world.run([Listener(0, [SENTENCE] * 4) for _ in range(10)])
    assert pace.chunk_s.value == pytest.approx(0.004, rel=0.1)


def test_a_ratio_is_of_sums() -> None:
    """Many short calls do not hide what a long one costs."""
    ratio = Ratio(7)
    assert ratio.value == 7
    for _ in range(200):
        ratio.learn(1, 1)
        ratio.learn(300, 100)
    assert ratio.value == pytest.approx(301 / 101, rel=0.03)


def test_the_wait_is_foreseen_about_as_it_comes() -> None:
    """In a crowd that comes at once, and by those who come one after the other."""
    for apart in (0.0, 0.15):
        world = practised()
        people = [Listener(number * apart, [SENTENCE, SENTENCE]) for number in range(60)]
        world.run(people)
        waited, foreseen = (np.array([getattr(each, of) for each in people]) for of in ("waited", "foreseen"))
        assert foreseen[0] <= waited[0] < 0.1
        assert np.mean(waited) == pytest.approx(np.mean(foreseen), rel=0.5)
        assert 0.4 * foreseen.max() < waited.max() < 1.6 * foreseen.max()


def test_admission_refuses_just_what_would_wait_too_long() -> None:
    """Those let in are heard without a gap, nearly all in time; after the crowd everything is as before."""
    world = practised(max_wait_s=2)
    people = [Listener(0.02 * number, [SENTENCE] * 3) for number in range(100)]
    world.run(people)
    refused = [each for each in people if each.refused is not None]
    accepted = [each for each in people if each.refused is None]
    assert len(refused) > 30
    assert len(accepted) >= 20
    assert min(each.refused for each in refused) > 2  # type: ignore[type-var]
    assert max(each.foreseen for each in accepted) <= 2
    assert np.quantile([each.waited for each in accepted], 0.9) < 2.5
    assert not any(each.gaps for each in accepted)
    latecomer = Listener(0, [SENTENCE])
    world.run([latecomer])
    assert latecomer.refused is None
    assert latecomer.waited == pytest.approx(75 * 0.00025 + chunk(0, LONELY_SIZES[0], 240).work * 0.00034)


def test_who_comes_again_when_told_to_is_let_in() -> None:
    """What is foreseen above the limit is how long it takes to fall below it."""
    world = practised()
    for number in range(80):
        world.ask(Listener(0, [SENTENCE + "x" * number]))
    newcomer = Listener(0, [])
    foreseen = world.engine.wait(newcomer.stream, world.voice, 60, 1.0)
    assert foreseen > 4
    until = world.clock.now + foreseen - 2
    while world.clock.now < until:
        assert world.turn()
    assert world.engine.wait(newcomer.stream, world.voice, 60, 1.0) < 2 + 0.3 * foreseen


def test_who_listens_already_waits_only_for_its_own_audio() -> None:
    """A reply that follows another is due when that has been played: there is plenty of time for it."""
    world = practised()
    someone = listening(world, 4)
    for _ in range(10):
        world.submit(Listener(0, []), SENTENCE)
    assert world.engine.wait(someone.stream, world.voice, 60, 1.0) == 0
    waiting = Listener(0, [])
    world.submit(waiting, SENTENCE)
    assert world.engine.wait(waiting.stream, world.voice, 60, 1.0) == 0


def test_chunks_that_are_alike_go_into_one_call() -> None:
    """Where batches are wanted; each listener gets its own, and no more at once than may be."""
    world = practised(max_batch=4)
    people = [listening(world, 3 + number / 100) for number in range(6)]
    for each in people:
        world.engine._begin(each.stream.sentences[0], hasty=False)
    world.voice.calls.clear()
    turn = world.engine._next()
    assert turn is not None
    assert turn.streams == [each.stream for each in people[:4]]
    world.engine._finish(turn, world.engine._call(turn))
    assert [kind for kind, _ in world.voice.calls] == ["back"]
    assert len({each.seconds for each in people[:4]}) == 1
    assert people[0].seconds > 0
    assert people[4].seconds == 0
    world.engine.cancel(people[5].stream, people[5])
    while world.turn():
        pass
    assert [each.seconds for each in people] == pytest.approx([2.88] * 5 + [0])


class Indivisible(CostlyVoice):
    """A voice that can't be cut: everything is there after the first call."""

    def begin(self, ids: list[int], manner: Manner, *, hasty: bool = False) -> Utterance:
        begun = super().begin(ids, manner)
        begun.divisible = False
        return begun


def test_a_voice_that_bears_no_chunks_is_rendered_whole() -> None:
    """A sentence is one chunk, however long."""
    world = World()
    world.voice = Indivisible(world.clock)
    world.run([Listener(0, ["x" * 200])])
    assert [size for kind, size in world.voice.calls if kind == "back"] == [800]


def test_a_sentence_in_which_nothing_is_spoken_ends() -> None:
    """Without audio, and the one after it is spoken."""
    world = World()
    someone = Listener(0, ["   ", SENTENCE])
    world.run([someone])
    assert someone.over
    assert someone.seconds == pytest.approx(2.88)


def test_a_call_that_fails_ends_its_sentence_alone() -> None:
    """The error is delivered in place of the audio, and others are served on."""
    clock = Clock()
    told: list[Samples | Exception | None] = []

    class Broken(CostlyVoice):
        def go_on(self, utterances: list[Utterance], frames: int, *, hasty: bool = False) -> list[Samples]:
            raise RuntimeError("broken on purpose")

    def post(callback: object, outcome: Samples | Exception | None) -> None:
        told.append(outcome)

    engine = Engine(ahead_s=10, post=post, metrics=TtsMetrics(CollectorRegistry()), clock=clock)
    stream, other = ListenerStream(), ListenerStream()
    engine.submit(stream, Sentence("bad", Broken(clock), Manner(), object(), lambda _: None, 1000))
    engine.submit(other, Sentence("good", CostlyVoice(clock), Manner(), object(), lambda _: None, 1001))
    while (turn := engine._next()) is not None:
        engine._finish(turn, engine._call(turn))
    assert isinstance(told[0], RuntimeError)
    assert isinstance(told[1], np.ndarray)
    assert told[-1] is None
    assert engine.depth() == 0


def test_lateness_is_of_the_best_order() -> None:
    """What is due first is done first; the latest decides."""
    assert lateness(gather([]), 0, 1) == float("-inf")
    assert lateness(gather([(3, 1), (1, 1)]), 0, 1) == pytest.approx(0)
    assert lateness(gather([(3, 1), (1.5, 1), (2, 1.5)]), 0, 1) == pytest.approx(0.5)
    assert lateness(gather([(3, 1), (1.5, 1), (2, 1.5)]), 0, 2) == pytest.approx(0)


def test_jobs_of_a_listener_are_due_before_each_runs_out() -> None:
    """Piece by piece while that is near; what lies far ahead in longer stretches, due when the last of each is."""
    pace = Pace()
    pace.frame_s.learn(0.01, 1)
    pace.chunk_s.learn(0.001, 1)
    pace.learn_front(0.23, 100)
    near = list(jobs([Piece(pace, 100, 320)], 0, 1.0, 24))
    assert [due for due, _ in near] == pytest.approx([0.95, 1.19, 2.15, 3.11])
    works = [chunk(start, size, 320).work for start, size in ((0, 24), (24, 96), (120, 96), (216, 104))]
    assert [cost for _, cost in near] == pytest.approx([0.23 + works[0] / 1000, *(work / 1000 for work in works[1:])])
    far = list(jobs([Piece(pace, 0, 2000)], 0, 11.0))
    assert [due for due, _ in far] == pytest.approx([11 + 5.5 - 0.96 - 0.05, 16.5 + 8.25 - 0.96 - 0.05, 30.04 - 0.05])
    assert sum(cost for _, cost in far) == pytest.approx(2 + 20 * JOIN_FRAMES / 1000, rel=0.02)


def test_what_is_foreseen_stays_so() -> None:
    """After a piece of it has been done, the rest of a listener's work is what it was."""
    pace = Pace()
    before = list(jobs([Piece(pace, 0, 700)], 0, 1.0))
    rest = list(jobs([Piece(pace, 0, 700, NEXT_FRAMES)], 0.1, 1.0 + NEXT_FRAMES * pace.frame_s.value))
    assert np.array(rest) == pytest.approx(np.array(before[1:]))


def hastes(world: World, listeners: list[Listener], **manner: float) -> list[bool]:
    """Which of the first calls are made with every core."""
    for each in listeners:
        world.submit(each, SENTENCE * 4, **manner)
    made = []
    for _ in range(4):
        turn = world.engine._next()
        assert turn is not None
        made.append(turn.hasty)
        world.turn()
    return made


def test_who_listens_alone_is_rendered_for_in_haste_until_there_is_audio_enough() -> None:
    """Front and first chunk, and the second where it might else be late; then there is time."""
    assert hastes(practised(workers=2), [Listener(0, [])]) == [True, True, False, False]
    slow = practised(workers=2, front_s=0.001, chunk_s=0.00136)
    assert hastes(slow, [Listener(0, [])]) == [True, True, True, False]


def test_nobody_is_rendered_for_in_haste_beside_others() -> None:
    """Every core has its own work then, which takes less of it with one thread."""
    assert hastes(practised(workers=2), [Listener(0, []), Listener(0, [])]) == [False] * 4


def test_one_worker_knows_no_haste() -> None:
    """It has every core as it is."""
    assert hastes(practised(), [Listener(0, [])]) == [False] * 4


def test_the_same_bytes_are_never_made_in_haste() -> None:
    """Without noise a text's audio is the same whoever else is there."""
    assert hastes(practised(workers=2), [Listener(0, [])], noise_scale=0, noise_w_scale=0) == [False] * 4
