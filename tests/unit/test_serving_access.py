"""API keys and origins: who opens a stream of a real replica, who does not, and what is written down of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from serving.access import MAX_FILE_BYTES, MAX_KEYS, POLL_S, KeysError, parse_origins, read_keys
from serving.logs import configure_logging
from serving.metrics import MAX_KEY_LABELS, ConnectionMetrics, new_registry
from serving.run import Replica
from serving.settings import ServiceSettings, read_settings
from tests.conftest import eventually, running
from tests.unit.fakes import EchoService

pytestmark = pytest.mark.unit

STREAM = "/v1/stream/asr"
ORIGIN = "https://app.example.com"


def new_key() -> str:
    return f"chorus_{secrets.token_urlsafe(32)}"


KEY, OTHER_KEY, WRONG_KEY = new_key(), new_key(), new_key()


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(file: Path, **keys: str) -> None:
    """The file as `make key` writes it: in place, in one go."""
    put(file, "".join(f"{name}:{digest(key)}\n" for name, key in keys.items()))


def put(file: Path, content: str | None) -> None:
    """Write a file in place, or remove it."""
    if content is None:
        file.unlink()
    else:
        file.write_text(content, encoding="utf-8")


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """A file with one key, of the name `phone`."""
    file = tmp_path / "api_keys"
    write(file, phone=KEY)
    return file


def guarded(keys_file: Path, **settings: Any) -> EchoService:
    """A service that wants a key."""
    return EchoService(CHORUS_API_KEYS_FILE=str(keys_file), **settings)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def open_stream(replica: Replica, headers: Any = None, query: str = "", **options: Any) -> ClientConnection:
    address = f"ws://127.0.0.1:{replica.stream_listener.port}{STREAM}{query}"
    stream = await connect(address, additional_headers=headers, compression=None, proxy=None, **options)
    assert json.loads(await stream.recv())["type"] == "ready"
    return stream


async def refusal(replica: Replica, headers: Any = None, query: str = "", **options: Any) -> tuple[int, str, Any]:
    """Status and message of a refused handshake, with its headers."""
    with pytest.raises(InvalidStatus) as refused:
        await open_stream(replica, headers, query, **options)
    response = refused.value.response
    error = json.loads(response.body or b"")["error"]
    assert set(error) == {"code", "message"}
    return response.status_code, error["message"], response.headers


async def status_of_get(port: int | None, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    def fetch() -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(fetch)


async def echoes(stream: ClientConnection, text: str) -> None:
    await stream.send(text)
    assert text in str(await stream.recv())


# The file


def test_a_file_of_keys_has_names_and_hashes(tmp_path: Path) -> None:
    """Comments, empty lines, upper case and a missing last newline are nothing special."""
    file = tmp_path / "api_keys"
    file.write_text(f"# ours\n\nphone:{digest(KEY)}\n  web-2.app_1:{digest(OTHER_KEY).upper()}", encoding="utf-8")
    expected = {"phone": bytes.fromhex(digest(KEY)), "web-2.app_1": bytes.fromhex(digest(OTHER_KEY))}
    assert read_keys(file) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no key"),
        ("# phone\n", "holds no key"),
        (f"phone:{KEY}\n", "line 1"),
        (f"{KEY}\n", "line 1"),
        (f"phone:{digest(KEY)}\n\nweb app:{digest(OTHER_KEY)}\n", "line 3"),
        (f"phone:{digest(KEY)[1:]}\n", "line 1"),
        (f"{'n' * 65}:{digest(KEY)}\n", "line 1"),
        (f"phone:{digest(KEY)}\nphone:{digest(OTHER_KEY)}\n", "line 2 has the name"),
        (f"phone:{digest(KEY)}\nweb:{digest(KEY)}\n", "same key"),
        (f"phone:{digest('')}\n", "empty key"),
        ("\n".join(f"k{n}:{digest(str(n))}" for n in range(MAX_KEYS + 1)), "more than 1000 keys"),
        ("#" * (MAX_FILE_BYTES + 1), "bytes"),
        ("phone:\udcff", "line 1"),
    ],
    ids=[
        "empty", "comment", "key", "key-without-name", "name-with-space", "short-hash", "long-name", "name-twice",
        "key-twice", "empty-key", "too-many", "too-large", "not-utf-8",
    ],
)  # fmt: skip
def test_a_broken_file_is_told_without_its_content(tmp_path: Path, content: str, said: str) -> None:
    """A key that somebody pasted there by mistake stays out of the message."""
    file = tmp_path / "api_keys"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(KeysError, match=said) as raised:
        read_keys(file)
    assert "chorus_" not in str(raised.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """So is a folder in its place."""
    with pytest.raises(KeysError, match="No such file"):
        read_keys(tmp_path / "none")
    with pytest.raises(KeysError, match="directory"):
        read_keys(tmp_path)


def test_a_mounted_file_that_was_replaced_is_told(keys_file: Path) -> None:
    """A container goes on seeing the old one, in which a revoked key is still valid."""
    with keys_file.open("rb") as held:
        mounted = Path(f"/proc/self/fd/{held.fileno()}")
        assert list(read_keys(mounted)) == ["phone"]
        new = keys_file.with_name("new")
        write(new, web=OTHER_KEY)
        os.replace(new, keys_file)
        with pytest.raises(KeysError, match="replaced"):
            read_keys(mounted)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("https://app.example.com", {"https://app.example.com"}),
        ("HTTPS://App.example.com/, http://localhost:3000", {"https://app.example.com", "http://localhost:3000"}),
        ("https://a.example:443,http://[::1]:80", {"https://a.example", "http://[::1]"}),
        ("capacitor://localhost", {"capacitor://localhost"}),
    ],
)
def test_origins_are_taken_as_browsers_send_them(text: str, origins: set[str]) -> None:
    """Lower case, without a path, a port only where it is not the scheme's own."""
    assert parse_origins(text) == origins


@pytest.mark.parametrize(
    "text", ["app.example.com", "https://", "https://a.example/page", "*", "https://*.example", "https://a.example:x",
             "https://me@a.example", "https://bücher.example", "null"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    """A wildcard would match nothing, a path would never be sent."""
    with pytest.raises(ValueError, match=r"origin|[Pp]ort"):
        parse_origins(text)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CHORUS_API_KEYS_FILE", "/nowhere/api_keys"), ("CHORUS_ALLOWED_ORIGINS", "app.example.com")],
)
def test_a_wrong_setting_stops_the_start_and_is_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody finds out later that the doors were open."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        read_settings(ServiceSettings)
    assert variable in capsys.readouterr().err


def test_unset_and_empty_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Compose hands on what .env does not have."""
    for variable in ("CHORUS_API_KEYS_FILE", "CHORUS_ALLOWED_ORIGINS"):
        monkeypatch.setenv(variable, "")
    settings = read_settings(ServiceSettings)
    assert (settings.api_keys_file, settings.origins) == (None, frozenset())


# Keys


async def test_without_a_valid_key_there_is_401_and_no_slot_is_used(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON as the protocol says, for a socket and for a plain request; the slots never move."""
    async with running(guarded(keys_file)) as replica:
        monkeypatch.setattr(replica.state, "acquire", lambda: pytest.fail("a slot was used"))
        for headers in ({}, bearer(WRONG_KEY), bearer(""), {"Authorization": f"Basic {KEY}"}, {"X-Api-Key": KEY}):
            status, message, answered = await refusal(replica, headers)
            assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
            assert "API key" in message
            assert (await status_of_get(replica.stream_listener.port, STREAM, headers))[0] == 401
        both = [*bearer(KEY).items(), *bearer(WRONG_KEY).items()]
        assert (await refusal(replica, both))[0] == 401
        beyond_ascii = bearer("ключ".encode().decode("latin-1"))
        assert (await status_of_get(replica.stream_listener.port, STREAM, beyond_ascii))[0] == 401


async def test_a_stranger_does_not_learn_how_busy_a_replica_is(keys_file: Path) -> None:
    """401 comes before 503 and before what is wrong in the query."""
    async with running(guarded(keys_file, max_connections=1)) as replica:
        stream = await open_stream(replica, bearer(KEY))
        assert (await refusal(replica, bearer(WRONG_KEY)))[0] == 401
        assert (await refusal(replica, query="?pitch=3"))[0] == 401
        assert (await refusal(replica, bearer(KEY)))[0] == 503
        await stream.close()


async def test_a_valid_key_opens_a_stream_and_is_counted_by_its_name(keys_file: Path) -> None:
    """By the header, in any case of its scheme; a plain request gets its 426; refusals are counted too."""
    async with running(guarded(keys_file)) as replica:
        for headers in (bearer(KEY), {"authorization": f"bearer  {KEY}"}):
            await (await open_stream(replica, headers)).close()
        assert (await status_of_get(replica.stream_listener.port, STREAM, bearer(KEY)))[0] == 426
        await refusal(replica)
        metrics = (await status_of_get(replica.admin_listener.port, "/metrics"))[1].decode()
        assert 'asr_connections_by_key_total{key="phone"} 2.0' in metrics
        assert "asr_connections_accepted_total 2.0" in metrics
        assert 'asr_connections_refused_total{status="401"} 1.0' in metrics


async def test_a_browser_sends_its_key_as_a_subprotocol(keys_file: Path) -> None:
    """The answer is `chorus`, never the key; without `chorus` on offer there would be none to answer."""
    async with running(guarded(keys_file)) as replica:
        stream = await open_stream(replica, subprotocols=["chorus", f"key.{KEY}"])
        assert stream.subprotocol == "chorus"
        await echoes(stream, "hello")
        await stream.close()
        assert (await refusal(replica, subprotocols=["chorus", f"key.{WRONG_KEY}"]))[0] == 401
        assert (await refusal(replica, subprotocols=["chorus"]))[0] == 401
        assert (await refusal(replica, subprotocols=[f"key.{KEY}"]))[0] == 401


async def test_without_keys_a_client_may_offer_the_subprotocol_and_a_key() -> None:
    """It connects as anybody does; a browser would hang up if its offer were not answered."""
    async with running(EchoService()) as replica:
        for offered, answered in ((["chorus", f"key.{KEY}"], "chorus"), (["other"], None), (None, None)):
            stream = await open_stream(replica, bearer(KEY), subprotocols=offered)
            assert stream.subprotocol == answered
            await stream.close()


@pytest.mark.parametrize("configured", [True, False])
async def test_a_key_in_the_query_is_refused(keys_file: Path, configured: bool) -> None:
    """Also beside a valid one in the header, also where none is needed; the answer tells where it belongs."""
    async with running(guarded(keys_file) if configured else EchoService()) as replica:
        for query in ("?key=", "?API_KEY=", "?access_token=", "?volume="):
            status, message, _ = await refusal(replica, bearer(KEY), query + KEY)
            assert status == 400
            assert "Authorization: Bearer" in message
            assert KEY not in message


async def test_health_and_metrics_need_no_key(keys_file: Path) -> None:
    """Those who watch have none."""
    async with running(guarded(keys_file, CHORUS_ALLOWED_ORIGINS=ORIGIN)) as replica:
        for port in (replica.stream_listener.port, replica.admin_listener.port):
            for path in ("/health", "/metrics"):
                assert (await status_of_get(port, path))[0] == 200


def test_the_names_of_keys_do_not_fill_the_metrics() -> None:
    """However many keys there have been, the time series stay few."""
    registry = new_registry()
    metrics = ConnectionMetrics("asr", registry)
    for number in range(2 * MAX_KEY_LABELS):
        metrics.count_accepted(f"key-{number}")
    metrics.count_accepted("key-0")
    metrics.count_accepted(None)
    assert len(next(iter(metrics.by_key.collect())).samples) == 2 * (MAX_KEY_LABELS + 1)
    assert registry.get_sample_value("asr_connections_by_key_total", {"key": "other"}) == MAX_KEY_LABELS
    assert registry.get_sample_value("asr_connections_by_key_total", {"key": "key-0"}) == 2


# Rotation


async def test_100_rotations_drop_no_stream(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new key opens streams and each old one no more, while every stream of an older key goes on."""
    monkeypatch.setattr("serving.access.POLL_S", 0.002)
    service = guarded(keys_file, max_connections=200)
    async with running(service) as replica:
        streams = [await open_stream(replica, bearer(KEY)) for _ in range(5)]
        old = KEY
        for number in range(100):
            new = new_key()
            write(keys_file, **{f"key-{number - 1}": old, f"key-{number}": new})
            await eventually(lambda number=number: f"key-{number}" in replica.streams.access._keys)
            streams.append(await open_stream(replica, bearer(new)))
            write(keys_file, **{f"key-{number}": new})
            await eventually(lambda: len(replica.streams.access._keys) == 1)
            assert (await refusal(replica, bearer(old)))[0] == 401
            await echoes(streams[number], f"round {number}")
            old = new
        await asyncio.gather(*(echoes(stream, "still here") for stream in streams))
        assert len(streams) == replica.state.active_connections == 105
        assert not service.ended
        await asyncio.gather(*(stream.close() for stream in streams))


@pytest.mark.parametrize("broken", ["", "not a line of keys\n", None])
async def test_a_file_that_breaks_keeps_the_keys_in_force(
    keys_file: Path, broken: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, once; a file that is whole again is taken over."""
    monkeypatch.setattr("serving.access.POLL_S", 0.002)
    caplog.set_level(logging.INFO)
    async with running(guarded(keys_file)) as replica:
        put(keys_file, broken)
        await eventually(lambda: "stay in force" in caplog.text)
        await asyncio.sleep(0.05)
        await (await open_stream(replica, bearer(KEY))).close()
        assert caplog.text.count("stay in force") == 1
        write(keys_file, web=OTHER_KEY)
        await eventually(lambda: "API keys changed" in caplog.text)
        await (await open_stream(replica, bearer(OTHER_KEY))).close()
        assert (await refusal(replica, bearer(KEY)))[0] == 401


def test_the_file_is_read_every_second() -> None:
    """What the documentation tells who revokes a key."""
    assert POLL_S <= 1


# Origins


async def test_only_allowed_origins_get_a_stream(keys_file: Path) -> None:
    """403 for a wrong one, whatever its key; who sends none is no browser, and needs its key alone."""
    async with running(guarded(keys_file, CHORUS_ALLOWED_ORIGINS=f"{ORIGIN}, http://localhost:3000")) as replica:
        for origin in (
            "https://evil.example",
            f"{ORIGIN}.evil.example",
            f"{ORIGIN}:8443",
            "http://app.example.com",
            "null",
        ):
            status, message, _ = await refusal(replica, bearer(KEY), origin=origin)
            assert status == 403
            assert "origin" in message
            asked = await status_of_get(replica.stream_listener.port, STREAM, bearer(KEY) | {"Origin": origin})
            assert asked[0] == 403
        twice = [("Origin", ORIGIN), ("Origin", "https://evil.example"), *bearer(KEY).items()]
        with pytest.raises(InvalidStatus):
            await open_stream(replica, twice)
        for origin in (ORIGIN, "http://localhost:3000", None):
            await (await open_stream(replica, bearer(KEY), origin=origin)).close()
        assert (await refusal(replica, origin=ORIGIN))[0] == 401


async def test_without_a_list_every_origin_is_allowed() -> None:
    """The default, as nothing is asked of anybody."""
    async with running(EchoService()) as replica:
        await (await open_stream(replica, origin="https://anywhere.example")).close()


# Logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that a replica at its most talkative writes, as `python -m asr` sets it up."""
    names = (None, "uvicorn", "uvicorn.error", "uvicorn.access", "websockets")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = logging.root.handlers[:]
    written, stdout = io.StringIO(), sys.stdout
    logging.root.handlers[:] = []
    sys.stdout = written
    try:
        configure_logging("asr", "test", "debug")
    finally:
        sys.stdout = stdout
    yield written
    logging.root.handlers[:] = handlers
    for logger, level in before:
        logger.setLevel(level)


async def test_no_key_is_ever_written_down(keys_file: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right, wrong, pasted into the file, in the address, in a handshake that is no handshake, beside a crash: none is
    in the log. Names are."""
    monkeypatch.setattr("serving.access.POLL_S", 0.002)
    async with running(guarded(keys_file, CHORUS_ALLOWED_ORIGINS=ORIGIN)) as replica:
        stream = await open_stream(replica, bearer(KEY))
        await stream.send("crash")
        await stream.wait_closed()
        await (await open_stream(replica, subprotocols=["chorus", f"key.{KEY}"])).close()
        await refusal(replica, bearer(WRONG_KEY))
        await refusal(replica, subprotocols=["chorus", f"key.{WRONG_KEY}"])
        await refusal(replica, query=f"?key={KEY}")
        await refusal(replica, query=f"?volume={KEY}")
        await refusal(replica, bearer(KEY), origin="https://evil.example")
        await status_of_get(replica.stream_listener.port, f"{STREAM}?token={KEY}", bearer(KEY))
        for head in (
            f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: , key.{KEY}\r\n\r\n",
            f"{KEY}\r\n\r\n",
            f"GET {STREAM}?key={KEY} HTTP/1.1\r\nAuthorization {KEY}\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", replica.stream_listener.port)
            writer.write(head.encode())
            await reader.read()
            writer.close()
        put(keys_file, f"phone:{KEY}\n")
        await eventually(lambda: "stay in force" in log.getvalue())
        write(keys_file, phone=KEY, web=OTHER_KEY)
        await eventually(lambda: "API keys changed" in log.getvalue())
        await eventually(lambda: log.getvalue().count("stream ended") == 2)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["key"] for line in lines if line["message"] == "stream ended"] == ["phone", "phone"]
    assert any(line.get("added") == ["web"] for line in lines)
    for key in (KEY, WRONG_KEY, OTHER_KEY):
        assert key not in log.getvalue()
        assert digest(key) not in log.getvalue()
