"""The reconnecting stream over sockets: servers that vanish, refuse and return; the clock is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from chorus.aio import ReconnectingAsrStream, reconnecting_asr
from chorus.errors import ConnectionLost, ContractViolation, Refused, StreamError
from chorus.reconnect import Interrupted, Resumed
from chorus.sources import from_bytes
from chorus.tasks import send_and_receive
from chorus.transcription import transcribe
from chorus.wire import asr as wire
from chorus.wire.common import Error, Ready, encode
from tests.unit.modelled import END_HOPS, HOP, ModelledServer, hops, of_words

pytestmark = pytest.mark.unit

SETTINGS = {"encoding": "mulaw", "sample_rate": 8000}
WORDS = range(1, 41)
SPEECH = [hops([word, *([0] * END_HOPS if word % 4 == 0 else [])]) for word in WORDS]
"""Forty words in frames, an utterance each four."""
TEXT = of_words(WORDS)
DOWN = 0
"""Of `Plan.endings`: the handshake is refused."""


@dataclass
class Plan:
    """What becomes of each attempt to connect, in order; after these, all goes well."""

    endings: list[int | tuple[int, int]]
    """Bytes of audio after which the connection is cut, or these and a code to close it with."""
    connections: list[ModelledServer] = field(default_factory=list)
    refusal: tuple[int, dict[str, str]] = (503, {"Retry-After": "3"})
    cut_after_close: bool = False
    url: str = ""


@asynccontextmanager
async def serving(*endings: int | tuple[int, int], **options: Any) -> AsyncIterator[Plan]:
    """Modelled servers behind one address."""
    plan = Plan(list(endings), **options)

    def refuse(_socket: ServerConnection, _request: Request) -> Response | None:
        if not plan.endings or plan.endings[0] != DOWN:
            return None
        plan.endings.pop(0)
        status, headers = plan.refusal
        return Response(status, HTTPStatus(status).phrase, Headers({**headers, "Content-Length": "0"}), b"")

    async def handle(socket: ServerConnection) -> None:
        ending = plan.endings.pop(0) if plan.endings else 10**9
        last, code = ending if isinstance(ending, tuple) else (ending, None)
        assert socket.request is not None
        server = ModelledServer(dict(parse_qsl(urlsplit(socket.request.path).query)))
        plan.connections.append(server)
        while True:
            while server.outbox:
                message = server.outbox.popleft()
                await socket.send(message)
                if '"done"' in message:
                    return
            frame = await socket.recv()
            server.receive(frame)
            if len(server.audio) >= last or (plan.cut_after_close and isinstance(frame, str)):
                plan.cut_after_close = False
                if code is None:
                    socket.transport.abort()
                else:
                    await socket.close(code)
                return
            server.think()

    # Without a bound on what it reads ahead, it sees the client's answer to a close behind any audio.
    async with serve(handle, "127.0.0.1", 0, process_request=refuse, compression=None, max_queue=None) as listener:
        plan.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield plan


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time."""
    now, waited = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        waited.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("chorus.aio.sleep", sleep)
    monkeypatch.setattr("chorus.aio.monotonic", lambda: now)
    return waited


async def talk(stream: ReconnectingAsrStream) -> list[Any]:
    """Say all, hear all."""
    events: list[Any] = []

    async def say() -> None:
        for frame in SPEECH:
            await stream.send(stream.protocol.audio(frame))
        await stream.send(stream.protocol.close())

    async def hear() -> None:
        events.extend([event async for event in stream])

    await send_and_receive(say(), hear())
    return events


@pytest.mark.parametrize(
    "endings",
    [
        (20 * HOP,),
        (1,),
        ((20 * HOP, 1012),),
        ((3 * HOP, 1011), (7 * HOP, 1013), 11 * HOP, (1, 1001), 13 * HOP),
    ],
    ids=str,
)
async def test_a_stream_goes_on_over_another_connection(endings: tuple[Any, ...]) -> None:
    """However often it is lost, and however: each word once, with numbers, times and totals of one stream."""
    async with serving(*endings) as plan, reconnecting_asr(plan.url, **SETTINGS) as stream:
        events = await talk(stream)
    protocol = stream.protocol
    assert protocol.text == TEXT
    assert [final.utterance for final in protocol.finals] == list(range(1, 11))
    assert sum(isinstance(event, Resumed) for event in events) == len(endings)
    assert sum(isinstance(event, Interrupted) for event in events) == len(endings)
    assert protocol.done is not None
    assert protocol.done.audio_seconds == pytest.approx(sum(map(len, SPEECH)) / 8000)
    assert protocol.done.utterances == 10
    assert protocol.violations == []
    assert events[-1] == protocol.done


async def test_refusals_are_waited_out(waits: list[float]) -> None:
    """Full twice at the reconnect: the client comes back when it was told to."""
    async with serving(20 * HOP, DOWN, DOWN) as plan, reconnecting_asr(plan.url, **SETTINGS) as stream:
        events = await talk(stream)
    assert stream.protocol.text == TEXT
    assert len(waits) == 3
    assert all(waited >= 3 for waited in waits[1:])
    assert sum(isinstance(event, Interrupted) for event in events) == 1, "one interruption, whatever it took"


async def test_close_is_said_again() -> None:
    """Lost after `close` and before `done`: the tail is delivered all the same."""
    async with serving(cut_after_close=True) as plan, reconnecting_asr(plan.url, **SETTINGS) as stream:
        await talk(stream)
    assert stream.protocol.text == TEXT
    assert stream.protocol.finished
    assert len(plan.connections) == 2


async def test_the_last_error_is_raised_in_the_end(waits: list[float]) -> None:
    """When patience is at its end: to whoever iterates, while a sender hears that the stream is over."""
    async with serving(20 * HOP, *[DOWN] * 50) as plan, reconnecting_asr(plan.url, patience_s=20, **SETTINGS) as stream:
        with pytest.raises(Refused) as refused:
            await talk(stream)
        assert (refused.value.status, refused.value.retry_after) == (503, 3)
        assert 10 < sum(waits) <= 20
        with pytest.raises(ConnectionLost, match="the stream is over"):
            await stream.send(b"late")
        with pytest.raises(Refused):
            await stream.receive()


async def test_a_refusal_that_stays_is_told_at_once(waits: list[float]) -> None:
    """A key that no longer holds is not tried again."""
    async with serving(20 * HOP, DOWN, refusal=(401, {})) as plan, reconnecting_asr(plan.url, **SETTINGS) as stream:
        with pytest.raises(Refused) as refused:
            await talk(stream)
    assert refused.value.status == 401
    assert len(waits) == 1


async def test_a_server_that_is_gone(waits: list[float]) -> None:
    """Nothing listens any more: the error of the socket, after the patience."""
    async with serving(20 * HOP) as plan:
        opened = reconnecting_asr(plan.url, **SETTINGS)
        stream = await opened.__aenter__()
    with pytest.raises(ConnectionRefusedError):
        await talk(stream)
    assert len(waits) > 5
    await opened.__aexit__(None, None, None)


async def test_the_first_connection_is_tried_once(waits: list[float]) -> None:
    """A wrong address or a full stack is told to whoever opens the stream."""
    async with serving(DOWN) as plan:
        with pytest.raises(Refused):
            async with reconnecting_asr(plan.url, **SETTINGS):
                raise AssertionError("refused")
    assert waits == []


async def test_fatal_errors_that_stay_are_raised() -> None:
    """The event comes, then the error; no reconnect."""
    error = Error(code="idle_timeout", message="say something", recoverable=False)

    async def slow(socket: ServerConnection) -> None:
        await socket.send(encode(Ready(connection_id="c", instance="i", service="asr", settings={})))
        await socket.send(encode(error))
        await socket.close(1008)

    async with serve(slow, "127.0.0.1", 0, compression=None) as listener:
        url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with reconnecting_asr(url) as stream:
            assert await stream.receive() == error
            with pytest.raises(StreamError, match="say something"):
                await stream.receive()


async def test_a_broken_promise_is_raised_or_noted() -> None:
    """As in any stream; over whichever connection it was broken."""

    async def lie(socket: ServerConnection) -> None:
        await socket.send(encode(Ready(connection_id="c", instance="i", service="asr", settings={})))
        await socket.send(encode(wire.SpeechEnd(utterance=3, time=0.0)))
        await socket.close(1012)

    async with serve(lie, "127.0.0.1", 0, compression=None) as listener:
        url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with reconnecting_asr(url) as strict:
            with pytest.raises(ContractViolation):
                await strict.receive()
        async with reconnecting_asr(url, strict=False) as lenient:
            for _ in range(6):
                await lenient.receive()
    assert len(lenient.protocol.violations) >= 2


async def test_a_user_who_listens_only_at_the_end_loses_nothing() -> None:
    """All is sent before anything is received, and the connection breaks meanwhile."""
    async with serving(20 * HOP, 20 * HOP) as plan, reconnecting_asr(plan.url, **SETTINGS) as stream:
        for frame in SPEECH:
            await stream.send(stream.protocol.audio(frame))
        await stream.send(stream.protocol.close())
        async for _ in stream:
            pass
    assert stream.protocol.text == TEXT
    assert len(plan.connections) == 3


async def test_cancelling_loses_no_frame(waits: list[float]) -> None:
    """A send or a receive that is given up leaves the stream as it was; the frame goes out."""
    async with serving(20 * HOP, DOWN, DOWN) as plan, reconnecting_asr(plan.url, **SETTINGS) as stream:
        for frame in SPEECH:
            for given_up in (stream.send(frame), stream.receive()):
                task = asyncio.ensure_future(given_up)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await stream.send(stream.protocol.close())
        async for _ in stream:
            pass
    assert stream.protocol.text == TEXT


async def test_leaving_ends_what_waits() -> None:
    """A sender that waits for room is told when the stream is left; nothing of it goes on."""
    async with serving(1, *[DOWN] * 50) as plan:
        async with reconnecting_asr(plan.url, resend_bytes=HOP, patience_s=10**9, **SETTINGS) as stream:

            async def say() -> None:
                while True:
                    await stream.send(hops([1]))

            saying = asyncio.create_task(say())
            async for event in stream:
                if isinstance(event, Interrupted):
                    break
        with pytest.raises(ConnectionLost, match="the stream is over"):
            await saying


async def test_transcribe_reconnects_where_asked() -> None:
    """One call, one transcript; without it the lost connection is raised."""
    audio = b"".join(SPEECH)
    async with serving(20 * HOP, DOWN, 30 * HOP) as plan:
        result = await transcribe(from_bytes(audio, 8000, 1, "mulaw"), plan.url, reconnect=True)
        assert (result.text, result.missing_finals, result.lost_seconds) == (TEXT, 0, 0)
        assert result.done.audio_seconds == pytest.approx(len(audio) / 8000)
        assert sum(isinstance(event, Interrupted) for event in result.events) == 2
        plan.endings.append(20 * HOP)
        with pytest.raises(ConnectionLost):
            await transcribe(from_bytes(audio, 8000, 1, "mulaw"), plan.url)
