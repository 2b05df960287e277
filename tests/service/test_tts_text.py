"""Text that people and language models write, spoken by the real voice."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from chorus.aio import connect_tts
from chorus.tts import Audio
from chorus.wire import tts as wire
from tts.voice import Voice

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

EXACT = {"noise_scale": 0, "noise_w_scale": 0}


@pytest.fixture(scope="module")
def voice(models_dir: Path) -> Voice:
    return Voice(models_dir / "piper-en_US-joe-medium", "en_US-joe-medium", device="cpu", threads=2)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("It costs **$5.20** 😀, i.e., 20% more.", "It costs five dollars and twenty cents, that is, 20 percent more."),
        ("Dr. Smith ran 5 km at 9 a.m. on 3 May 1999.",
         "Doctor Smith ran five kilometers at nine a.m on the third of May, nineteen ninety-nine."),
        ("Wait… what?", "Wait, what?"),
        ("# See [the page](https://example.com/a?b=c)", "See the page"),
    ],
)  # fmt: skip
async def test_what_is_written_sounds_like_what_is_read(voice: Voice, written: str, read: str) -> None:
    """The same phonemes as the words that a person would read."""
    assert voice.phonemize(written) == voice.phonemize(read)


async def test_words_without_their_dictionary_are_an_error_and_no_silence(voice: Voice) -> None:
    """espeak-ng opens it at each call, and without a descriptor reads every word as nothing, and says nothing of it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(RuntimeError, match="reads nothing"):
            voice.phonemize("There is a dictionary.")
        assert voice.phonemize("...") == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert voice.phonemize("There is a dictionary.")
    assert voice.phonemize("你好") is not None  # whatever the language makes of it, it is no error


async def said(address: str, fragments: list[str], **settings: object) -> tuple[list[str], bytes]:
    """The sentences announced, and their audio."""
    async with connect_tts(address, **EXACT, **settings) as stream:
        for fragment in fragments:
            await stream.send(stream.protocol.append(fragment))
        await stream.send(stream.protocol.close())
        events = [event async for event in stream]
    assert isinstance(events[-1], wire.Done)
    starts = [event.text for event in events if isinstance(event, wire.AudioStart)]
    return starts, b"".join(event.data for event in events if isinstance(event, Audio))


async def test_phonemes_pass_through_whatever_the_fragments(tts: str, voice: Voice) -> None:
    """A block is never cut, nor read as text, and is announced as written."""
    text = "Say [[ hə.lˈoʊ! wˈɜːld ]] now. Then stop."
    whole = await said(tts, [text])
    assert whole[0] == ["Say [[ hə.lˈoʊ! wˈɜːld ]] now.", "Then stop."]
    assert await said(tts, list(text)) == whole
    assert voice.phonemize("[[ həlˈoʊ ]]") == voice.phonemize("[[həlˈoʊ]]")
    assert voice.phonemize("Say [[ həlˈoʊ ]] now.") == voice.phonemize("Say hello now.")


ODD = {
    "emoji": "😀 👩‍🔬 🇩🇪 " * 50,
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "right to left": "\u202bשלום עולם\u202c \u200fمرحبا بالعالم؟ ",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff" * 100,
    "marks": "e" + "\u0301" * 500 + " ",
    "private and unassigned": "\ue000\U000f0000\u0378\uffff ",
    "brackets": "[[ ]] [[ [[ ]] ]] [ ]] ",
    "stops": "?!.…" * 300,
    "digits": "9" * 40 + " ",
}


def in_sevens(text: str) -> list[str]:
    return [text[start : start + 7] for start in range(0, len(text), 7)]


@pytest.mark.parametrize("odd", ODD)
async def test_odd_text_neither_ends_the_stream_nor_costs_the_rest(tts: str, odd: str) -> None:
    """What can be said is said; the sentences before and after it are there whole."""
    fragments = ["All is well. ", *in_sevens(ODD[odd]), "\n\nThe rest is here."]
    starts, audio = await said(tts, fragments)
    assert (starts[0], starts[-1]) == ("All is well.", "The rest is here.")
    first, last = await said(tts, ["All is well."]), await said(tts, ["The rest is here."])
    assert audio.startswith(first[1])
    assert audio.endswith(last[1])


async def test_a_hundred_thousand_characters_that_nobody_can_say(tts: str) -> None:
    """They are passed over, in sentences of which none is too long; the text behind them is spoken."""
    rest = "The rest is here."
    unsaid = ("😀 ☃. \x07\u200b✂ " * 20_000)[: 100_000 - len(rest) - 2]
    starts, audio = await said(tts, [unsaid, "\n\n", rest])
    assert starts == [rest]
    assert audio == (await said(tts, [rest]))[1]
