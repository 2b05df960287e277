"""The load test's parts without people: the mix, texts, recordings, whose words, and how late frames are."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from statistics import fmean

import numpy as np
import pytest
from pydantic import ValidationError

from loadtest.isolation import Isolation
from loadtest.metronome import FRAME_S, Metronome
from loadtest.references import same
from loadtest.settings import LoadSettings, shares, split
from loadtest.sockets import prepare
from loadtest.texts import name_of, replies, sentences
from loadtest.utterances import Library, Utterance, joined, utterance

pytestmark = pytest.mark.unit


def test_a_mix_is_split_into_whole_people() -> None:
    """All of them, each kind by its weight; a kind without weight has none."""
    assert split("voice=6,caption=1,reader=1,idle=0", 60) == {"voice": 45, "caption": 8, "reader": 7}
    assert split("voice=1", 7) == {"voice": 7}
    assert sum(split("voice=1,idle=1,slow=1", 100).values()) == 100


@pytest.mark.parametrize("mix", ["", "voice", "voice=x", "voice=-1", "voice=0", "people=1", "voice=1,voice=2"])
def test_a_wrong_mix_is_refused(mix: str) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=r"weight|KIND|number"):
        shares(mix)
    with pytest.raises(ValidationError):
        LoadSettings(mix=mix)


def test_settings_survive_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crew gets those of its parent."""
    given = LoadSettings(mix="voice=9,slow=1", turn_every_s=10, asr_url="ws://there:1", speech_from="synthesis")
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert LoadSettings() == given


def test_everybody_is_told_something_else() -> None:
    """Texts of the wanted length, none of which two people share."""
    texts = [text for number in range(100) for text in replies("voice", number, 0, 3, 15)]
    assert len(set(texts)) == 300
    lengths = [len(text.split()) for text in texts]
    assert 13 <= sum(lengths) / len(lengths) <= 17
    assert min(lengths) >= 5
    assert max(lengths) <= 38
    assert len({name_of(kind, number) for kind in ("voice", "reader") for number in range(600)}) == 1200


def test_what_people_say_is_as_long_as_it_is_to_be() -> None:
    """Sentences of everybody's own, by the speed of speech."""
    for seconds in (4.0, 8.0):
        said = [text for number in range(100) for text in sentences("voice", number, 0, 3, seconds)]
        assert len(set(said)) == 300
        assert sum(len(text.split()) for text in said) / len(said) / 2.7 == pytest.approx(seconds, abs=1)


def test_more_texts_than_there_are_of_a_length_are_no_endless_search() -> None:
    """Some come again."""
    assert len(replies("voice", 1, 0, 100, 5)) == 100
    assert len(sentences("voice", 1, 0, 100, 1)) == 100


SPEECH = np.full(16000, 5000, np.int16)


def recorded(count: int) -> list[Utterance]:
    return [utterance(f"number {each}", SPEECH) for each in range(count)]


def test_people_say_different_things() -> None:
    """With few recordings neighbours begin with different ones; with enough nobody says anybody else's."""
    few = Library(recorded(10), 1.0, 0)
    assert len({next(few.utterances(person, 60)).words for person in range(10)}) == 10
    own = islice(few.utterances(3, 60), 10)
    assert len({each.words for each in own}) == 10
    many = Library(recorded(40), 1.0, 0)
    said = [{each.words for each in islice(many.utterances(person, 10), 20)} for person in range(10)]
    assert sum(map(len, said)) == len(set[tuple[str, ...]]().union(*said)) == 40


def test_recordings_are_joined_and_left_out_to_the_length() -> None:
    """Ends of speech stay where they are in the whole."""
    clip = np.concatenate([np.zeros(1600, np.int16), np.full(8000, 5000, np.int16), np.zeros(1600, np.int16)])
    one = utterance("one", clip)
    assert (one.speech_start, one.speech_end) == (0.1, 0.6)
    both = joined([one, one])
    assert both.words == ("one", "one")
    assert both.seconds == pytest.approx(2 * 0.7 + 0.2)
    assert both.speech_end == pytest.approx(0.7 + 0.2 + 0.6)
    means = [each.seconds for each in islice(Library(recorded(10), 5.0, 0).utterances(0, 1), 200)]
    assert sum(means) / 200 == pytest.approx(5, abs=0.3)
    lengths = [utterance(f"number {each}", np.full(16000 * each, 5000, np.int16)) for each in range(1, 21)]
    said = [each.seconds for each in islice(Library(lengths, 6.0, 0).utterances(0, 1), 200)]
    assert max(said) == 11
    assert fmean(said) == pytest.approx(6, abs=0.3)


def test_the_mean_length_is_of_speech() -> None:
    """Silence at the ends of recordings is not counted; that between them is."""
    silence = np.zeros(4000, np.int16)
    spaced = [utterance(f"number {each}", np.concatenate([silence, SPEECH, silence])) for each in range(10)]
    for mean_s in (1.0, 2.0, 5.0):
        said = islice(Library(spaced, mean_s, 0).utterances(0, 1), 400)
        assert fmean(each.speech_s for each in said) == pytest.approx(mean_s, abs=0.1)


def test_words_of_another_are_told_from_errors() -> None:
    """Badly heard is not another's; what another has just said is; the own words before are not."""
    people = Isolation()
    for name, words in (("voice-1", "the sun is shining on the river"), ("voice-2", "please bring me the green book")):
        people.says(name, words.split())
        people.connected(name, "asr", f"connection of {name}")
    own = ["the", "sun", "is", "shining", "on", "the", "river"]
    assert people.whose("voice-1", own, ["the", "son", "is", "shining", "in", "a", "river"]) is None
    assert people.whose("voice-1", own, ["nonsense", "from", "beginning", "to", "end"]) is None
    assert people.whose("voice-1", own, []) is None
    owner = people.whose("voice-1", own, ["please", "bring", "me", "a", "green", "book"])
    assert owner is not None
    assert (owner.name, owner.connection_id) == ("voice-2", "connection of voice-2")
    people.says("voice-1", ["another", "sentence", "of", "the", "same", "person"])
    assert people.whose("voice-1", [], own) is None
    far = ["words", "of", "a", "person", "far", "away"]
    elsewhere = people.whose("voice-1", own, far, [far])
    assert elsewhere is not None
    assert elsewhere.name == ""


def test_a_part_of_the_own_words_is_nobody_elses() -> None:
    """Two say the same recording, one of them with more around it, of which nothing has been heard yet."""
    people = Isolation()
    shared = ["the", "stillness", "was", "awful", "creepy", "and", "uncomfortable"]
    longer = [*shared, *["some", "sung", "out", "tear", "down", "the", "fence", "tear", "down", "the", "fence"]]
    people.says("voice-1", longer)
    people.says("voice-2", shared)
    people.connected("voice-2", "asr", "another")
    assert people.whose("voice-1", longer, shared) is None
    elsewhere = people.whose("voice-1", ["nothing", "that", "was", "said", "in", "there", "at", "all"], shared)
    assert elsewhere is None  # it was said before
    stranger = people.whose("voice-3", ["nothing", "that", "was", "said", "in", "there", "at", "all"], shared)
    assert stranger is not None
    assert stranger.name == "voice-2"


def test_audio_is_the_same_or_not() -> None:
    """To the sample, or so nearly that nobody hears it; a beginning only where one is expected."""
    random = np.random.default_rng(0)
    one, other = (random.integers(-8000, 8000, 4000, np.int16) for _ in range(2))
    near = one + random.integers(-20, 20, 4000, np.int16)
    assert same(one.tobytes(), one.tobytes())
    assert same(near.astype(np.int16).tobytes(), one.tobytes())
    assert not same(other.tobytes(), one.tobytes())
    assert not same(one[:2000].tobytes(), one.tobytes())
    assert same(one[:2000].tobytes(), one.tobytes(), prefix=True)
    assert not same(other[:2000].tobytes(), one.tobytes(), prefix=True)


@pytest.mark.parametrize("length", [0, 125, 126, 640, 65535, 65536])
def test_prepared_frames_are_websocket_frames(length: int) -> None:
    """Binary, final, masked with a key that changes nothing."""
    payload = bytes(length)
    framed = prepare(payload)
    assert framed[0] == 0x82
    assert framed[1] & 0x80
    assert framed.endswith(bytes(4) + payload)
    assert len(framed) - length in ({6} if length < 126 else {8} if length < 65536 else {14})


async def test_a_stall_is_made_up_for_and_told() -> None:
    """Every frame goes out, and the lateness of those that waited is in the records."""
    metronome, due = Metronome(), list[float]()
    running = asyncio.create_task(metronome.run())
    try:
        metronome.join(due.append)
        await asyncio.sleep(0.1)
        metronome.look()
        time.sleep(0.3)  # noqa: ASYNC251  the loop is held up on purpose
        await asyncio.sleep(0.1)
        assert metronome.look().worst >= 0.2
        metronome.leave(due.append)
        count = len(due)
        await asyncio.sleep(0.1)
    finally:
        running.cancel()
    steps = np.diff(due)
    assert steps == pytest.approx([FRAME_S] * len(steps)), "none is left out"
    assert len(due) == count
