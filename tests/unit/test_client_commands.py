"""The command line: what it prints where, what it asks the services for, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket as sockets
import ssl
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from chorus import wav
from chorus.__main__ import main
from chorus.commands import health
from chorus.commands.prove import SENTENCE, distance, words_of
from chorus.flac import HEADER_BYTES, with_length
from chorus.wire import asr, tts
from tests.conftest import ROOT
from tests.unit.scripted import (
    SPOKEN,
    Server,
    asr_ready,
    final,
    recognise,
    refusing,
    say,
    serving,
    synthesise,
    totals,
    tts_ready,
)

pytestmark = pytest.mark.unit

SECOND = bytes(32000)


async def run(*arguments: str) -> int:
    """Run a command in a thread, as it brings its own event loop."""
    try:
        return await asyncio.to_thread(main, list(arguments))
    except SystemExit as leaving:
        return int(leaving.code or 0)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A second of silence as a WAV file."""
    path = tmp_path / "clip.wav"
    path.write_bytes(wav.header("pcm_s16le", 16000, 1, len(SECOND)) + SECOND)
    return str(path)


@pytest.fixture
def unused() -> str:
    """A URL at which nothing listens."""
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{taken.getsockname()[1]}"


def pipe(monkeypatch: pytest.MonkeyPatch, command: str, data: bytes) -> None:
    """Put data on the standard input of a command."""
    monkeypatch.setattr(f"chorus.commands.{command}.raw_stdin", lambda: io.BytesIO(data))


# The command line itself


async def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """One number, in pyproject.toml and in the code that runs without being installed."""
    assert await run("--version") == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert capsys.readouterr().out.strip() == f"chorus {project['version']}"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["transcribe"],
        ["transcribe", "a.wav", "--concurrency", "0"],
        ["transcribe", "a.wav", "--endpointing-ms", "soon"],
        ["transcribe", "-", "--encoding", "mp3"],
        ["speak"],
        ["speak", "a", "--encoding", "midi"],
    ],
)
async def test_wrong_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And with a usage line, before anything is connected."""
    assert await run(*arguments) == 2
    assert "usage: chorus" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["transcribe", "speak", "health", "prove"])
async def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a percent sign in it would break argparse."""
    assert await run(command, "--help") == 0
    assert "usage: chorus" in capsys.readouterr().out


async def test_an_interrupt_ends_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no traceback."""

    def interrupted(_asked: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("chorus.commands.health.run", interrupted)
    assert await run("health") == 130


# transcribe


async def test_transcribe_prints_the_words_of_a_file(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output and nothing else there; of a stream that went well nothing on standard error."""
    async with serving(recognise) as server:
        assert await run("transcribe", clip, "--url", server.url) == 0
    assert capsys.readouterr() == ("hello world\n", "")
    assert bytes(server.audio) == SECOND


async def test_transcribe_sends_the_settings_it_was_given_and_no_others(clip: str) -> None:
    """What no flag names is left to the service."""
    async with serving(recognise) as server:
        await run("transcribe", clip, "--url", server.url)
        flags = "--language en --endpointing-ms 300 --no-interim --prompt Chorus --hotwords a,b --vad-threshold .6"
        flags += " --task translate --endpointing adaptive --word-timestamps"
        await run("transcribe", clip, "--url", server.url, *flags.split(), "--max-utterance-s", "9")
    bare, full = (parse_qs(urlsplit(path).query) for path in server.paths)
    audio = {"encoding": ["pcm_s16le"], "sample_rate": ["16000"], "channels": ["1"]}
    assert bare == audio
    assert full == audio | {
        "language": ["en"],
        "task": ["translate"],
        "word_timestamps": ["true"],
        "endpointing": ["adaptive"],
        "endpointing_ms": ["300"],
        "interim_results": ["false"],
        "prompt": ["Chorus"],
        "hotwords": ["a,b"],
        "vad_threshold": ["0.6"],
        "max_utterance_s": ["9.0"],
    }


async def test_transcribe_takes_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw samples of the rate and kind that the flags tell."""
    pipe(monkeypatch, "transcribe", SECOND)
    async with serving(recognise) as server:
        flags = ("--rate", "8000", "--encoding", "alaw", "--channels", "2")
        await run("transcribe", "-", "--url", server.url, *flags)
        pipe(monkeypatch, "transcribe", wav.header("mulaw", 44100, 1) + SECOND)
        await run("transcribe", "-", "--url", server.url)
    raw, told = (parse_qs(urlsplit(path).query) for path in server.paths)
    assert raw == {"encoding": ["alaw"], "sample_rate": ["8000"], "channels": ["2"]}
    assert told == {"encoding": ["mulaw"], "sample_rate": ["44100"], "channels": ["1"]}
    assert bytes(server.audio) == SECOND + SECOND


async def test_transcribe_prints_events_as_json(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, with the file's name, exactly as the wire has them."""
    async with serving(recognise) as server:
        assert await run("transcribe", clip, "--json", "--url", server.url) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["ready", "speech_start", "partial", "speech_end", "final", "done"]
    assert {line["file"] for line in lines} == {clip}
    assert lines[4]["text"] == "hello world"
    assert "words" not in lines[4]


async def test_transcribe_sums_up_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a file on standard output, a summary on standard error, never more at once than asked for."""
    names = []
    for number in range(5):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav.header("pcm_s16le", 16000, 1, 3200) + bytes(3200))
        names.append(str(path))
    at_once = most = 0
    two = asyncio.Event()

    async def script(_server: Server, socket: ServerConnection) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 2:
            two.set()
        async with asyncio.timeout(10):
            await two.wait()  # the first is not over before the second has come
        await recognise(Server(), socket)
        at_once -= 1

    async with serving(script) as server:
        assert await run("transcribe", *names, "--concurrency", "2", "--url", server.url) == 0
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [f"{name}\thello world" for name in names]
    assert "5 files, 0 failed; 5 utterances, 0 without a final; 0 contract violations; 0.5 s of audio" in err
    assert most == 2


async def test_transcribe_goes_on_after_a_file_that_fails(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are transcribed, the failed one is named, and the status tells."""
    async with serving(recognise) as server:
        assert await run("transcribe", "gone.flac", clip, "--url", server.url) == 1
    out, err = capsys.readouterr()
    assert out == f"{clip}\thello world\n"
    assert "gone.flac" in err
    assert "2 files, 1 failed" in err


async def test_transcribe_tells_of_a_broken_contract(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The words are printed all the same; the promise that was broken is on standard error, and the status is 3."""

    async def lose_a_final(server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready(), asr.SpeechStart(utterance=1, time=0.0), asr.SpeechEnd(utterance=1, time=0.5))
        await server.hear(socket)
        await say(socket, final(1, "the first", 1.0), asr.SpeechStart(utterance=2, time=1.0), totals(1.0, 2))

    async with serving(lose_a_final) as server:
        assert await run("transcribe", clip, "--url", server.url) == 3
    out, err = capsys.readouterr()
    assert out == "the first\n"
    assert "1 utterances have no final" in err


async def test_transcribe_tells_what_to_do_when_nothing_listens(
    clip: str, unused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commonest mistake of all."""
    assert await run("transcribe", clip, "--url", unused) == 1
    err = capsys.readouterr().err
    assert unused in err
    assert "connection refused; is the stack up? (make up)" in err
    assert "Traceback" not in err


async def test_transcribe_tells_of_a_refusal(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the server said, and when to come back."""
    body = b'{"error":{"code":"overloaded","message":"full"}}'
    async with refusing(503, body, Retry_After="7") as url:
        assert await run("transcribe", clip, "--url", url) == 1
    assert "503 overloaded: full (retry after 7 s)" in capsys.readouterr().err


async def test_a_key_that_is_missing_is_told_with_where_it_belongs(
    clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command that opens a stream says so."""
    async with refusing(401, b'{"error":{"code":"bad_message","message":"an API key is needed"}}') as url:
        assert await run("transcribe", clip, "--url", url) == 1
        assert await run("speak", "Hello.", "--url", url) == 1
        assert await run("prove", "--asr-url", url, "--tts-url", url) == 1
    assert capsys.readouterr().err.count("an API key is needed (give it with --key, or in CHORUS_API_KEY)") == 3


async def test_a_key_is_sent_by_the_flag_or_the_environment(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag comes first."""
    async with serving(recognise) as server:
        monkeypatch.setenv("CHORUS_API_KEY", "of-the-environment")
        await run("transcribe", clip, "--url", server.url)
        await run("transcribe", clip, "--url", server.url, "--key", "of-the-flag", "--no-reconnect")
    sent = [headers["Authorization"] for headers in server.headers]
    assert sent == ["Bearer of-the-environment", "Bearer of-the-flag"]


async def test_transcribe_goes_on_over_another_connection(
    clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are whole on standard output, the interruption is told beside them; not where it is not wanted."""
    connections = 0

    async def no_wait(_seconds: float) -> None:
        pass

    async def go_away_once(_server: Server, socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections % 2 == 0:
            await recognise(Server(), socket)
            return
        await say(socket, asr_ready())
        await Server().hear(socket)
        await socket.close(1012, "going away")

    monkeypatch.setattr("chorus.aio.sleep", no_wait)
    async with serving(go_away_once) as server:
        assert await run("transcribe", clip, "--url", server.url) == 0
        out, err = capsys.readouterr()
        assert out == "hello world\n"
        assert "1012, going away); reconnecting" in err
        assert "reconnected, going on from second 0.0\n" in err
        assert await run("transcribe", clip, "--json", "--url", server.url) == 0
        types = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
        assert types[:3] == ["ready", "interrupted", "resumed"]
        assert await run("transcribe", clip, "--no-reconnect", "--url", server.url) == 1
        assert "1012" in capsys.readouterr().err


async def test_transcribe_tells_of_audio_that_is_lost(
    clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much, and by the status: a transcript with a hole is no success."""
    heard = asyncio.Event()

    async def no_wait(_seconds: float) -> None:
        pass

    async def hear_and_vanish(_server: Server, socket: ServerConnection) -> None:
        if heard.is_set():
            await recognise(Server(), socket)
            return
        await say(socket, asr_ready())
        await Server().hear(socket)
        heard.set()
        socket.transport.abort()

    monkeypatch.setattr("chorus.aio.sleep", no_wait)
    monkeypatch.setattr("chorus.transcription.KEPT_BYTES", len(SECOND) // 2)
    async with serving(hear_and_vanish) as server:
        assert await run("transcribe", clip, "--url", server.url) == 1
    assert "0.5 s of audio are lost" in capsys.readouterr().err


async def test_standard_input_can_be_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    """There is only one of it."""
    assert await run("transcribe", "-", "-") == 1
    assert "once" in capsys.readouterr().err


# speak


async def test_speak_writes_a_wav_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the right header; how long it is and how soon it came are on standard error."""
    target = tmp_path / "out.wav"
    async with serving(synthesise) as server:
        assert await run("speak", "Hello.", "-o", str(target), "--url", server.url) == 0
    samples, rate = soundfile.read(target, dtype="int16")
    assert (samples.tobytes(), rate) == (SPOKEN, 16000)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{target}: 1.00 s of audio, the first after " in err


async def test_speak_has_a_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """speech.wav where one is."""
    monkeypatch.chdir(tmp_path)
    async with serving(synthesise) as server:
        assert await run("speak", "Hello.", "--url", server.url) == 0
    assert (tmp_path / "speech.wav").is_file()


async def test_speak_writes_raw_samples_to_a_pipe(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Nothing but samples on standard output."""
    async with serving(synthesise) as server:
        assert await run("speak", "Hello.", "-o", "-", "--url", server.url) == 0
    assert capfdbinary.readouterr().out == SPOKEN


async def test_speak_sends_the_settings_it_was_given_and_no_others(tmp_path: Path) -> None:
    """What no flag names is left to the service."""
    target = str(tmp_path / "a.wav")
    async with serving(synthesise) as server:
        await run("speak", "Hello.", "-o", target, "--url", server.url)
        flags = "--voice v --speed 1.5 --sample-rate 8000 --encoding mulaw --speaker 2 --noise-scale 0"
        flags += " --sentence-silence-ms 200"
        await run("speak", "Hello.", "-o", target, "--url", server.url, *flags.split())
    bare, full = (parse_qs(urlsplit(path).query) for path in server.paths)
    assert bare == {}
    assert full == {
        "voice": ["v"],
        "speed": ["1.5"],
        "sample_rate": ["8000"],
        "encoding": ["mulaw"],
        "speaker": ["2"],
        "noise_scale": ["0.0"],
        "sentence_silence_ms": ["200"],
    }


async def test_speak_takes_text_as_it_comes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From a pipe, fragment by fragment; a character that a read cut in two comes whole."""

    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(3)

    monkeypatch.setattr("chorus.commands.speak.raw_stdin", lambda: Pieces("Grüße an alle. Ende.".encode()))
    async with serving(synthesise) as server:
        assert await run("speak", "-", "-o", str(tmp_path / "a.wav"), "--url", server.url) == 0
    *texts, close = server.texts
    assert "".join(str(each["text"]) for each in texts) == "Grüße an alle. Ende."
    assert len(texts) > 3
    assert close == {"type": "close"}


def compressed(encoding: str, *frames: bytes) -> Callable[[Server, ServerConnection], Awaitable[None]]:
    """A service that sends these frames; the last of them is the container's end."""

    async def serve(server: Server, socket: ServerConnection) -> None:
        *audio, last = frames
        await say(socket, tts_ready())
        await server.hear(socket)
        start = tts.AudioStart(request_id="r", sentence=1, text="", sample_rate=16000, encoding=encoding)  # type: ignore[arg-type]
        await say(socket, start, *audio, tts.AudioEnd(request_id="r", sentence=1, seconds=0.5), last)
        await say(socket, tts.SynthesisComplete(request_id="r", seconds=0.5, ttfa_ms=1))
        await say(socket, tts.Done(requests=1, cancelled=0, audio_seconds=0.5))

    return serve


async def test_speak_leaves_compressed_audio_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container of the service is the file, named after it."""
    monkeypatch.chdir(tmp_path)
    async with serving(compressed("mp3", b"ID3", b"...", b"!")) as server:
        assert await run("speak", "Hello.", "--encoding", "mp3", "--url", server.url) == 0
    assert (tmp_path / "speech.mp3").read_bytes() == b"ID3...!"


async def test_speak_tells_the_length_of_a_flac_file(tmp_path: Path) -> None:
    """A stream's header leaves it open; a file's does not, and programs that need it can read the file."""
    samples = np.arange(8000, dtype=np.int16)
    whole = io.BytesIO()
    soundfile.write(whole, samples, 16000, format="FLAC")
    stream = with_length(whole.getvalue()[:HEADER_BYTES], 0) + whole.getvalue()[HEADER_BYTES:]
    assert soundfile.info(io.BytesIO(stream)).frames != 8000
    target = tmp_path / "a.flac"
    async with serving(compressed("flac", stream[:1000], stream[1000:])) as server:
        assert await run("speak", "Hello.", "-o", str(target), "--url", server.url) == 0
    assert target.read_bytes() == whole.getvalue()


@pytest.mark.parametrize(
    ("name", "asked"), [("a.opus", "opus"), ("a.OGG", "opus"), ("a.mp3", "mp3"), ("a.flac", "flac"), ("a.wav", None)]
)
async def test_speak_asks_for_what_the_file_is_to_hold(tmp_path: Path, name: str, asked: str | None) -> None:
    """By its name, where no flag says more."""
    async with serving(synthesise) as server:
        await run("speak", "Hello.", "-o", str(tmp_path / name), "--url", server.url)
    query = parse_qs(urlsplit(server.paths[0]).query)
    assert query == ({} if asked is None else {"encoding": [asked]})


@pytest.mark.parametrize(("name", "encoding"), [("a.opus", "mp3"), ("a.wav", "opus"), ("a.flac", "pcm_s16le")])
async def test_speak_names_no_file_what_it_is_not(
    tmp_path: Path, name: str, encoding: str, unused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag that contradicts the file's name is a usage error, and nothing is asked of the service."""
    arguments = ("speak", "Hello.", "-o", str(tmp_path / name), "--encoding", encoding, "--url", unused)
    assert await run(*arguments) == 2
    assert encoding in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "words.jsonl",
            '{"word":"Hi,","start":0.0,"end":0.1}\n{"word":"<you>","start":0.2,"end":0.3}\n'
            '{"word":"there.","start":3723.4,"end":3723.5}\n',
        ),
        (
            "words.vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:00.300\nHi, <00:00:00.200>&lt;you&gt;\n\n"
            "01:02:03.400 --> 01:02:03.500\nthere.\n",
        ),
    ],
)
async def test_speak_writes_when_words_are_heard(tmp_path: Path, name: str, expected: str) -> None:
    """As lines of JSON, or as captions whose words light up one by one."""

    async def timed(server: Server, socket: ServerConnection) -> None:
        await say(socket, tts_ready())
        await server.hear(socket)
        words = [tts.TimedWord(word="Hi,", start=0, end=0.1), tts.TimedWord(word="<you>", start=0.2, end=0.3)]
        last = tts.TimedWord(word="there.", start=3723.4, end=3723.5)
        seconds = 4000.0
        await say(
            socket,
            tts.AudioStart(request_id="r", sentence=1, text="", sample_rate=24000, encoding="opus"),
            tts.WordTimestamps(request_id="r", words=words),
            b"OggS",
            tts.WordTimestamps(request_id="r", words=[last]),
            tts.AudioEnd(request_id="r", sentence=1, seconds=seconds),
            tts.SynthesisComplete(request_id="r", seconds=seconds, ttfa_ms=1),
            tts.Done(requests=1, cancelled=0, audio_seconds=seconds),
        )

    flags = ("-o", str(tmp_path / "a.opus"), "--encoding", "opus", "--words", str(tmp_path / name))
    async with serving(timed) as server:
        assert await run("speak", "Hi.", *flags, "--url", server.url) == 0
    assert parse_qs(urlsplit(server.paths[0]).query)["word_timestamps"] == ["true"]
    assert (tmp_path / name).read_text(encoding="utf-8") == expected


async def test_speak_leaves_no_file_behind_when_it_fails(
    tmp_path: Path, unused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal, a dead address or a text without words: nothing is overwritten."""
    target = tmp_path / "a.wav"
    target.write_text("precious")

    async def silent(server: Server, socket: ServerConnection) -> None:
        await say(socket, tts_ready())
        await server.hear(socket)
        await say(socket, tts.SynthesisComplete(request_id="r", seconds=0.0, ttfa_ms=None))
        await say(socket, tts.Done(requests=1, cancelled=0, audio_seconds=0.0))

    assert await run("speak", "Hello.", "-o", str(target), "--url", unused) == 1
    async with refusing(400, b'{"error":{"code":"bad_config","message":"speed: too fast"}}') as url:
        assert await run("speak", "Hello.", "-o", str(target), "--url", url) == 1
    async with serving(silent) as server:
        assert await run("speak", "...", "-o", str(target), "--url", server.url) == 1
    assert target.read_text() == "precious"
    err = capsys.readouterr().err
    assert "make up" in err
    assert "400 bad_config: speed: too fast" in err
    assert "nothing in the text can be spoken" in err


async def test_speak_tells_of_a_broken_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Audio that nobody announced."""

    async def babble(server: Server, socket: ServerConnection) -> None:
        await say(socket, tts_ready())
        await server.hear(socket)
        await say(socket, b"\0\0")

    async with serving(babble) as server:
        assert await run("speak", "Hello.", "-o", str(tmp_path / "a.wav"), "--url", server.url) == 3
    assert "broke the protocol" in capsys.readouterr().err


# prove


def hears(text: str) -> Any:
    """A script that recognises always the same words."""

    async def script(server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready(), asr.SpeechStart(utterance=1, time=0.0))
        await server.hear(socket)
        seconds = len(server.audio) / 32000
        await say(socket, asr.SpeechEnd(utterance=1, time=seconds), final(1, text, seconds), totals(seconds))

    return script


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (SENTENCE, 0),
        (SENTENCE.upper().replace(",", " –"), 0),
        (SENTENCE.replace("river", "water"), 1),
        (SENTENCE.replace("river", "water").replace("fox", "box"), 1),
        ("", 1),
    ],
)
async def test_prove_wants_the_right_words(text: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Letter case and punctuation aside, every word of them."""
    async with serving(hears(text)) as ears, serving(synthesise) as voice:
        assert await run("prove", "--asr-url", ears.url, "--tts-url", voice.url) == status
    assert bytes(ears.audio) == SPOKEN
    out, err = capsys.readouterr()
    for told in (SENTENCE, text, ears.url, voice.url, "ms after the text", "ms after the last sample"):
        assert told in out
    assert ("make logs" in err) is (status == 1)


async def test_prove_tells_which_service_does_not_answer(unused: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And what to look at."""
    async with serving(synthesise) as voice:
        assert await run("prove", "--asr-url", unused, "--tts-url", voice.url) == 1
    err = capsys.readouterr().err
    assert unused in err
    assert "make logs" in err


async def test_prove_waits_for_a_stack_that_has_just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 is asked again for a while, and no other refusal; the waits are the test's own."""
    waits: list[float] = []

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("chorus.commands.prove.sleep", no_wait)
    for status, asked_again in ((503, 10), (404, 0)):
        waits.clear()
        async with refusing(status, b"") as url:
            assert await run("prove", "--asr-url", url, "--tts-url", url) == 1
        assert sum(waits) == asked_again


def test_words_are_compared_as_words() -> None:
    """The distance counts words changed, left out and put in."""
    assert distance(words_of("a b c"), words_of("A, b; c!")) == 0
    assert distance(words_of("a b c"), words_of("a x c")) == 1
    assert distance(words_of("a b c"), words_of("a c")) == 1
    assert distance(words_of("a b c"), words_of("a b b c d")) == 2
    assert distance(words_of("a b c"), []) == 3


def test_prove_and_health_need_no_audio_packages() -> None:
    """They run where only websockets and msgspec are: inside an image, or on a bare machine's Python."""
    code = (
        "import sys; sys.modules['numpy'] = sys.modules['soundfile'] = None\n"
        "from chorus.__main__ import main\n"
        "try: main(['prove', '--asr-url', 'ws://127.0.0.1:1', '--tts-url', 'ws://127.0.0.1:1'])\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=True,
    )
    used = set(done.stdout.split()) - set(sys.stdlib_module_names) - site_modules()
    blocked = {"numpy", "soundfile"}
    assert used - blocked <= {"chorus", "websockets", "msgspec", "typing_extensions"}  # the last where it is there
    assert "is the stack up? (make up)" in done.stderr


def site_modules() -> set[str]:
    """What this Python imports by itself at its start."""
    code = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(started.stdout.split())


def test_a_real_pipe_ends_with_its_stream(unused: str) -> None:
    """With a microphone that never stops on standard input, a failure still ends the command."""
    reader, writer = os.pipe()
    try:
        os.write(writer, bytes(6400))
        done = subprocess.run(
            [sys.executable, "-m", "chorus", "transcribe", "-", "--url", unused],
            env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
            stdin=reader,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 1
    assert "make up" in done.stderr
    assert "Traceback" not in done.stderr


# health


@asynccontextmanager
async def answering(status: int, body: dict[str, Any] | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a replica's `/health`, and of metrics that tell 200 MiB."""

    def answer(_socket: ServerConnection, request: Request) -> Response:
        found = json.dumps(body).encode() if body is not None else b"<html>"
        if request.path == "/metrics":
            found = b"# HELP x\nprocess_resident_memory_bytes 2.097152e+08\n"
        headers = Headers({"Content-Length": str(len(found)), "Connection": "close"})
        return Response(status, HTTPStatus(status).phrase, headers, found)

    async def never(_socket: ServerConnection) -> None:
        raise AssertionError("the handshake was answered")

    async with serve(never, "127.0.0.1", 0, process_request=answer, ssl=tls) as listener:
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


HEALTHY = {
    "status": "ok",
    "service": "asr",
    "instance": "abc",
    "model": "whisper-tiny.en",
    "active_connections": 3,
    "max_connections": 50,
    "queue_depth": 2,
    "gpu": {"index": 1, "name": "x", "memory_used_mb": 10, "memory_total_mb": 80, "utilization": 5},
}


async def test_health_asks_each_service(capsys: pytest.CaptureFixture[str], unused: str) -> None:
    """A line each; 0 only where all serve."""
    async with answering(200, HEALTHY) as good, answering(503, {**HEALTHY, "status": "draining"}) as leaving:
        assert await run("health", "--url", good) == 0
        first = capsys.readouterr().out.splitlines()
        assert await run("health", "--url", good, "--url", leaving) == 1
        second = capsys.readouterr().out.splitlines()
        assert await run("health", "--url", unused) == 1
        third = capsys.readouterr()
    assert first[0].split() == list(health.COLUMNS)
    assert first[1].split()[1:] == ["asr", "ok", "3/50", "2", "-", "1:", "10/80", "MB", "whisper-tiny.en", "abc"]
    assert "draining" in second[2]
    assert "down" in third.out
    assert "make up" in third.err


async def test_health_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    """A page that is not the service's is told by its status; a service that loads is down without a body too."""
    async with answering(502, None) as proxy:
        assert await run("health", "--url", proxy) == 1
    assert "HTTP 502" in capsys.readouterr().out
    assert await run("health", "--url", "ftp://host") == 1


async def test_health_lists_every_replica(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each direct port that has one, with its memory; a port without one is left out and is no failure."""
    gone = {"error": {"code": "overloaded", "message": "this replica is not running"}}
    loading = {**HEALTHY, "status": "loading"}
    async with answering(200, HEALTHY) as one, answering(503, loading) as two, answering(503, gone) as three:
        direct = [health.base_address(url) for url in (one, two, three)]
        monkeypatch.setattr(health, "direct_addresses", lambda _address: direct)
        assert await run("health", "--url", one, "--all") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["status", "ok", "ok", "loading"]
    assert "200 MiB" in lines[2]


def test_direct_ports_are_the_stacks() -> None:
    """8001, 8011 … 8051 and 8002, 8012 … 8052, on the host of the balanced port; without TLS, which they never have."""
    found = health.direct_addresses(health.base_address("wss://speech.example:8000/v1"))
    ports = [8001, 8011, 8021, 8031, 8041, 8051, 8002, 8012, 8022, 8032, 8042, 8052]
    assert found == [f"http://speech.example:{port}" for port in ports]
    assert health.direct_addresses("http://[::1]:8000")[0] == "http://[::1]:8001"
