"""`chorus prove`: the whole stack in one sentence, spoken and heard again."""

from __future__ import annotations

import argparse
import asyncio
import re
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chorus.commands.common import FAILED, OK, Commands, add_ca, add_key, explain, warn
from chorus.connect import ASR_URL, TTS_URL
from chorus.errors import ChorusError, Refused
from chorus.sources import from_bytes
from chorus.speech import speak
from chorus.transcription import transcribe

SENTENCE = "Good morning. The sun is shining on the river, and the children are playing in the garden."
"""One that can hardly be heard otherwise: "jumps over" and "jumped over" sound alike."""
SAMPLE_RATE = 16000
"""Hz."""
PATIENCE_S = 10
"""How long a 503 may last: a stack that has just started needs a moment, one that is full longer."""
WHAT_TO_DO = "look at  chorus health --all  and at the services' logs:  make logs"

T = TypeVar("T")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "prove",
        help="speak a sentence and transcribe it",
        description="Speak a sentence through the synthesis service, transcribe that audio through the recognition "
        "service at the speed of speech, and compare the words.",
        epilog="Exit status: 0 the right words came back, 1 they did not.",
    )
    parser.add_argument("--asr-url", default=ASR_URL, help="(default %(default)s)")
    parser.add_argument("--tts-url", default=TTS_URL, help="(default %(default)s)")
    add_key(parser)
    add_ca(parser)
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Run the command."""
    return asyncio.run(_prove(asked.asr_url, asked.tts_url, asked.key, asked.ca))


async def _prove(asr_url: str, tts_url: str, key: str | None, ca: str | None) -> int:
    url = tts_url
    try:
        # Without noise the rendering is the same every time, and a working stack hears every word of it.
        spoken = await _patiently(
            lambda: speak(SENTENCE, tts_url, key=key, ca=ca, sample_rate=SAMPLE_RATE, noise_scale=0, noise_w_scale=0)
        )
        url = asr_url
        audio = spoken.audio
        heard = await _patiently(
            lambda: transcribe(from_bytes(audio, SAMPLE_RATE), asr_url, key=key, ca=ca, realtime=True)
        )
    except (ChorusError, OSError, ValueError) as error:
        warn(f"the stack does not work: {explain(error, url)}")
        warn(WHAT_TO_DO)
        return FAILED
    first_ms = (spoken.first_audio_s or 0) * 1000
    print(f"spoken        {SENTENCE}")
    print(f"heard         {heard.text}")
    print(f"first audio   {first_ms:.0f} ms after the text; {spoken.seconds:.1f} s of it, from {tts_url}")
    print(f"last words    {heard.seconds_after_end * 1000:.0f} ms after the last sample, from {asr_url}")
    expected, got = words_of(SENTENCE), words_of(heard.text)
    wrong = distance(expected, got)
    if wrong:
        warn(f"the words differ: {wrong} of {len(expected)} are wrong")
        warn(WHAT_TO_DO)
        return FAILED
    return OK


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call again where a service asks for a little patience: nginx hears of a new replica within a second or two."""
    waited = 0.0
    while True:
        try:
            return await call()
        except Refused as refusal:
            if refusal.status != 503 or waited >= PATIENCE_S:
                raise
        await sleep(1)
        waited += 1


def words_of(text: str) -> list[str]:
    """The words alone, in lower case."""
    return re.findall(r"[a-z0-9']+", text.lower())


def distance(expected: list[str], got: list[str]) -> int:
    """How many words must be changed, left out or put in to make one of the other."""
    row = list(range(len(got) + 1))
    for count, word in enumerate(expected, 1):
        before, row[0] = row[0], count
        for column, other in enumerate(got, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (word != other))
    return row[-1]
