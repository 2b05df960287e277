"""Both drivers against a server that follows a script: what they send, give, and raise."""

from __future__ import annotations

import asyncio
import socket as sockets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from chorus import aio, sync
from chorus.connect import request_headers, stream_url
from chorus.errors import ChorusError, ConnectionLost, ContractViolation, Refused, StreamError
from chorus.sources import Source, from_bytes
from chorus.speech import speak
from chorus.tasks import from_thread, send_and_receive
from chorus.transcription import transcribe
from chorus.tts import Audio
from chorus.wire import asr as wire
from chorus.wire.common import Error
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

Recognise = Callable[..., Any]
"""Opens a stream, sends the audio and `close`, gives all events."""


async def by_asyncio(url: str, audio: bytes = b"", **options: Any) -> list[Any]:
    async with aio.connect_asr(url, **options) as stream:
        await stream.send(stream.protocol.audio(audio))
        await stream.send(stream.protocol.close())
        return [event async for event in stream]


async def by_threads(url: str, audio: bytes = b"", **options: Any) -> list[Any]:
    def run() -> list[Any]:
        with sync.connect_asr(url, **options) as stream:
            stream.send(stream.protocol.audio(audio))
            stream.send(stream.protocol.close())
            return list(stream)

    return await asyncio.to_thread(run)


both = pytest.mark.parametrize("drive", [by_asyncio, by_threads])


@both
async def test_a_stream_from_its_first_frame_to_its_last(drive: Recognise) -> None:
    """Settings go into the query, headers along, audio arrives byte for byte, and iteration ends after `done`."""
    async with serving(recognise) as server:
        audio = bytes(range(256)) * 125
        options = {"language": "en", "interim_results": False, "prompt": None, "headers": {"X-Request-ID": "7"}}
        events = await drive(server.url, audio, **options)
    assert [type(event).__name__ for event in events] == ["SpeechStart", "Partial", "SpeechEnd", "Final", "Done"]
    assert bytes(server.audio) == audio
    assert server.paths == ["/v1/stream/asr?language=en&interim_results=false"]
    assert server.headers[0]["X-Request-ID"] == "7"
    assert "Sec-WebSocket-Extensions" not in server.headers[0]


async def test_synthesis_by_threads() -> None:
    """The other service, the other driver: the audio comes whole, and a wait can be bounded."""

    def run(url: str) -> tuple[list[Any], Exception | None]:
        with sync.connect_tts(url) as stream:
            failure = None
            try:
                stream.receive(timeout=0.01)
            except TimeoutError as error:
                failure = error
            stream.send(stream.protocol.synthesize("Hello."))
            stream.send(stream.protocol.close())
            return list(stream), failure

    async with serving(synthesise) as server:
        events, failure = await asyncio.to_thread(run, server.url)
    assert isinstance(failure, TimeoutError)
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == SPOKEN
    assert server.paths == ["/v1/stream/tts"]


@both
async def test_a_refusal_tells_status_code_and_when_to_come_back(drive: Recognise) -> None:
    """The JSON body and Retry-After of an HTTP answer to the handshake."""
    body = b'{"error":{"code":"overloaded","message":"all 50 streams are taken"}}'
    async with refusing(503, body, Retry_After="5") as url:
        with pytest.raises(Refused) as refused:
            await drive(url)
    error = refused.value
    assert (error.status, error.code, error.message, error.retry_after) == (
        503,
        "overloaded",
        "all 50 streams are taken",
        5.0,
    )


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[1]", b'{"error":"no"}', b'{"error":{}}'])
async def test_a_refusal_by_something_else_is_a_refusal_too(body: bytes) -> None:
    """A proxy's page has no code of ours."""
    async with refusing(502, body) as url:
        with pytest.raises(Refused) as refused:
            await by_asyncio(url)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (502, "unknown", None)


@both
async def test_nobody_listens(drive: Recognise) -> None:
    """An `OSError`, as of every socket."""
    with sockets.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await drive(f"ws://127.0.0.1:{unused.getsockname()[1]}")


@both
async def test_something_else_listens(drive: Recognise) -> None:
    """A server that speaks no HTTP is told as part of the client's own tree of errors."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectionLost, match="no WebSocket answers there"):
            await drive(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@both
async def test_a_close_before_done_is_a_lost_connection(drive: Recognise) -> None:
    """With the server's code, so that the client knows to reconnect on 1012."""

    async def go_away(_server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        await socket.close(1012, "going away")

    async with serving(go_away) as server:
        with pytest.raises(ConnectionLost) as lost:
            await drive(server.url)
    assert (lost.value.close_code, lost.value.reason) == (1012, "going away")


@both
async def test_a_cut_connection_is_a_lost_connection(drive: Recognise) -> None:
    """Without a close frame there is no code."""

    async def vanish(_server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        socket.transport.abort()

    async with serving(vanish) as server:
        with pytest.raises(ConnectionLost) as lost:
            await drive(server.url)
    assert lost.value.close_code is None


@both
async def test_a_fatal_error_is_told_with_its_close_code(drive: Recognise) -> None:
    """The `error` message says why, the close frame ends it."""

    async def give_up(server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        await server.hear(socket)
        await say(socket, Error(code="internal", message="recognition failed", recoverable=False))
        await socket.close(1011, "internal")

    async with serving(give_up) as server:
        with pytest.raises(StreamError) as failed:
            await drive(server.url)
    assert (failed.value.code, failed.value.message, failed.value.close_code) == (
        "internal",
        "recognition failed",
        1011,
    )


@both
async def test_a_wrong_close_after_done_is_a_violation(drive: Recognise) -> None:
    """`done` is followed by 1000 and nothing else."""

    async def stumble(server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        await server.hear(socket)
        await say(socket, totals(0.0, utterances=0))
        await socket.close(1011)

    async with serving(stumble) as server:
        with pytest.raises(ContractViolation, match="1011"):
            await drive(server.url)
        assert len(await drive(server.url, strict=False)) == 1


@both
async def test_a_broken_promise_is_raised_or_noted(drive: Recognise) -> None:
    """A final of no utterance raises in a strict stream, and comes through in one that is not."""

    async def lie(server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        await server.hear(socket)
        await say(socket, final(1, "never said", 0.0), totals(0.0, utterances=0))

    async with serving(lie) as server:
        with pytest.raises(ContractViolation):
            await drive(server.url)
        events = await drive(server.url, strict=False)
    assert events[0].text == "never said"


async def test_a_stream_that_is_over_gives_no_more_events() -> None:
    """Asked for one more event, it says that there is none."""
    async with serving(recognise) as server, aio.connect_asr(server.url) as stream:
        await stream.send(stream.protocol.close())
        async for _ in stream:
            pass
        with pytest.raises(ConnectionLost) as over:
            await stream.receive()
        assert over.value.close_code == 1000
        with pytest.raises(ConnectionLost):
            await stream.send(b"late")


async def test_transcribe_does_a_whole_stream() -> None:
    """Audio in, words and totals out, every event on the way, the source's format in the settings."""
    seen: list[Any] = []
    async with serving(recognise) as server:
        result = await transcribe(from_bytes(bytes(32000)), server.url, on_event=seen.append, language="en")
    assert (result.text, result.done.audio_seconds, result.missing_finals) == ("hello world", 1.0, 0)
    assert [final.text for final in result.finals] == ["hello world"]
    assert seen == result.events
    assert type(result.events[0]).__name__ == "Ready"
    assert result.events[-1] == result.done
    assert server.paths == ["/v1/stream/asr?encoding=pcm_s16le&sample_rate=16000&channels=1&language=en"]
    assert len(server.audio) == 32000


async def test_transcribe_at_the_speed_of_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame goes out when its last sample would have been spoken; the clock is the test's own."""
    now = 100.0
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        if seconds > 0:
            waited.append(round(seconds, 6))
            now += seconds
        await asyncio.sleep(0)

    monkeypatch.setattr("chorus.transcription.monotonic", lambda: now)
    monkeypatch.setattr("chorus.transcription.sleep", sleep)
    async with serving(recognise) as server:
        await transcribe(from_bytes(bytes(32000 + 320)), server.url, realtime=True)
    assert waited == [0.02] * 50 + [0.01]


async def test_why_a_stream_ended_comes_before_the_failed_send() -> None:
    """The server gives up while audio is still being sent: its reason is told, not that a send failed."""

    async def too_slow(_server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        await socket.recv()
        await say(socket, Error(code="too_slow", message="read faster", recoverable=False))
        await socket.close(1008, "too_slow")

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(640)

    async with serving(too_slow) as server:
        with pytest.raises(StreamError) as failed:
            await transcribe(Source("endless", "pcm_s16le", 16000, 1, endless()), server.url)
    assert failed.value.code == "too_slow"


async def test_a_failed_send_waits_for_what_is_still_unread() -> None:
    """The receiver gets its time to reach the reason; another failure of the sender ends it at once."""

    async def fail(error: Exception) -> None:
        raise error

    async def read_on() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        raise StreamError("too_slow", "read faster")

    with pytest.raises(StreamError):
        await send_and_receive(fail(ConnectionLost(1008)), read_on())
    with pytest.raises(OSError, match="the disk is gone"):
        await send_and_receive(fail(OSError("the disk is gone")), read_on())


async def test_a_source_that_fails_ends_the_stream() -> None:
    """Its own error is raised, whether it reads ahead in a thread or not."""

    def broken() -> Iterator[bytes]:
        yield bytes(640)
        raise OSError("the disk is gone")

    async with serving(recognise) as server:
        for blocks in (False, True):
            with pytest.raises(OSError, match="the disk is gone"):
                await transcribe(Source("x", "pcm_s16le", 16000, 1, broken(), blocks), server.url)


async def test_a_pipe_that_says_nothing_holds_up_nobody() -> None:
    """The stream ends although the next block never comes."""
    never = threading.Event()

    def microphone() -> Iterator[bytes]:
        yield bytes(640)
        never.wait()
        yield b""

    async def go_away(_server: Server, socket: ServerConnection) -> None:
        await say(socket, asr_ready())
        await socket.recv()
        await socket.close(1012)

    async with serving(go_away) as server:
        with pytest.raises(ConnectionLost):
            await transcribe(Source("-", "pcm_s16le", 16000, 1, microphone(), blocks=True), server.url)
    never.set()


async def test_a_pipe_is_read_only_a_little_ahead() -> None:
    """A source that blocks is not drained into memory while nobody takes its items."""
    taken = 0

    def counted() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken = number
            yield number

    items = from_thread(counted())
    assert [await anext(items), await anext(items)] == [0, 1]
    for _ in range(50):
        await asyncio.sleep(0)
    assert taken < 20
    assert [number async for number in items] == list(range(2, 1000))


async def test_speak_does_a_whole_stream() -> None:
    """Text in, audio out with its format; one piece is one `synthesize`, several are `text` fragments."""
    async with serving(synthesise) as server:
        spoken = await speak("Hello.", server.url, speed=2.0)
        assert (spoken.audio, spoken.encoding, spoken.sample_rate, spoken.seconds) == (SPOKEN, "pcm_s16le", 16000, 1.0)
        assert spoken.first_audio_s is not None
        assert spoken.first_audio_s > 0

        async def pieces() -> AsyncIterator[str]:
            yield "Hel"
            yield "lo."

        assert (await speak(pieces(), server.url)).audio == SPOKEN
    assert server.paths[0] == "/v1/stream/tts?speed=2.0"
    assert [(each["type"], each.get("text")) for each in server.texts] == [
        ("synthesize", "Hello."),
        ("close", None),
        ("text", "Hel"),
        ("text", "lo."),
        ("close", None),
    ]


async def test_speak_tells_why_a_text_was_not_accepted() -> None:
    """A recoverable error is the end of a call that has only this one text."""

    async def overloaded(server: Server, socket: ServerConnection) -> None:
        await say(socket, tts_ready())
        await socket.recv()
        error = Error(code="overloaded", message="busy", recoverable=True, request_id="r", retry_after_ms=1000)
        await say(socket, error)
        await socket.wait_closed()

    async with serving(overloaded) as server:
        with pytest.raises(StreamError, match="busy") as failed:
            await speak("Hello.", server.url)
    assert failed.value.code == "overloaded"


async def test_a_cancelled_call_leaves_no_task_behind() -> None:
    """Cancelled in the middle, both sending and receiving end."""
    started = asyncio.Event()
    ended: list[str] = []

    async def forever(name: str) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    call = asyncio.create_task(send_and_receive(forever("send"), forever("receive")))
    await started.wait()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert sorted(ended) == ["receive", "send"]


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("ws://host:8000", "ws://host:8000/v1/stream/asr"),
        ("host:8000", "ws://host:8000/v1/stream/asr"),
        ("https://host/", "wss://host/v1/stream/asr"),
        ("http://[::1]:8000/prefix/", "ws://[::1]:8000/prefix/v1/stream/asr"),
        ("ws://host:8000/v1/stream/asr", "ws://host:8000/v1/stream/asr"),
    ],
)
def test_addresses_are_taken_as_people_write_them(base: str, url: str) -> None:
    """A host and a port will do; a whole stream URL too."""
    assert stream_url(base, wire.PATH, {}) == url


@pytest.mark.parametrize("base", ["ftp://host", "ws://", "", "ws://host:port"])
def test_an_address_that_is_none_is_told(base: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ValueError, match=r"address|port"):
        stream_url(base, wire.PATH, {})


def test_every_error_is_in_one_tree() -> None:
    """One `except` catches all that the service or the connection can do."""
    for kind in (Refused, StreamError, ConnectionLost, ContractViolation):
        assert issubclass(kind, ChorusError)


@both
async def test_an_api_key_goes_into_the_header(drive: Recognise, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the call, else that of the environment, never into the address."""
    monkeypatch.setenv("CHORUS_API_KEY", "secret-1")
    async with serving(recognise) as server:
        await drive(server.url)
        await drive(server.url, key="secret-2", headers={"X-Request-ID": "7"})
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer secret-1", "Bearer secret-2"]
    assert server.headers[1]["X-Request-ID"] == "7"
    assert not any("secret" in path for path in server.paths)


def test_headers_of_ones_own_and_no_key_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An `Authorization` that the caller gives is theirs; an empty key is none."""
    monkeypatch.setenv("CHORUS_API_KEY", " secret\n")
    assert request_headers(None, None) == {"Authorization": "Bearer secret"}
    assert request_headers(None, {"authorization": "Basic x"}) == {"authorization": "Basic x"}
    assert request_headers("", None) == {}
    monkeypatch.delenv("CHORUS_API_KEY")
    assert request_headers(None, {"X-Request-ID": "7"}) == {"X-Request-ID": "7"}


@pytest.mark.parametrize("key", ["two words", "two\r\nlines: x", "schlüssel"])
def test_a_key_that_cannot_be_one_is_told_without_showing_it(key: str) -> None:
    """It would break the handshake, or slip a header into it."""
    with pytest.raises(ValueError, match="CHORUS_API_KEY") as raised:
        request_headers(key, None)
    assert key not in str(raised.value)
