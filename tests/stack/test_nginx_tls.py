"""nginx with a certificate, in front of the fake replicas: who gets in how, and what a renewal changes."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.certificates import Authority, der
from tests.stack.test_nginx_behaviour import UPGRADE, Answer, Stage, docker, get, open_streams, published, raw

pytestmark = pytest.mark.stack

RELOADS = 20
STREAMS = 30


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Replicas for every test of this module."""
    made = Stage()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA, and its certificate for this machine."""
    made = Authority(tmp_path_factory.mktemp("tls") / "project")
    made.issue()
    return made


@pytest.fixture(scope="module")
def front(stage: Stage, authority: Authority) -> str:
    """nginx with that certificate."""
    return stage.nginx("front", "--volume", f"{authority.folder}:/run/tls:ro", NGINX_TLS="on")


@pytest.fixture(autouse=True)
async def calm(stage: Stage) -> AsyncIterator[None]:
    """Every replica serves and holds no stream, before a test and after it."""
    await stage.order(stream="ok", health="ok")
    yield
    while open_streams:
        open_streams.pop().close()
    await stage.settled(0)


async def sends_back(stream: Answer, word: bytes) -> None:
    """What goes in comes out: the stream is alive in both directions."""
    assert stream.reader is not None
    assert stream.writer is not None
    stream.writer.write(word)
    async with asyncio.timeout(30):
        await stream.reader.readuntil(word)


async def test_streams_and_health_are_served_by_tls(stage: Stage, front: str, authority: Authority) -> None:
    """On both balanced ports; the replica learns of it. Status and single replicas, bound to loopback, are plain."""
    trust = authority.trusting()
    port = published(front, 8000)
    stream = await get(port, headers=UPGRADE, tls=trust)
    assert stream.status == 101
    await sends_back(stream, b"hello")
    assert (await get(port, "/echo", tls=trust)).json["headers"]["x-forwarded-proto"] == "https"
    assert (await get(port, "/health", tls=trust)).json["status"] == "ok"
    assert (await get(published(front, 8003), "/health", tls=trust)).code == "overloaded"  # there is no TTS here
    assert (await get(published(front, 8001), "/health")).json["status"] == "ok"
    assert (await get(published(front, 8080), "/health")).json["status"] == "ok"


async def test_a_plain_request_is_told_to_use_tls(front: str) -> None:
    """In the protocol's JSON, for a stream and for health; nothing of it reaches a replica."""
    for number in (8000, 8003):
        for path in ("/v1/stream/asr", "/health"):
            answer = await get(published(front, number), path, UPGRADE)
            assert (answer.status, answer.code) == (400, "bad_message")
            assert "wss://" in answer.json["error"]["message"]


async def test_old_protocols_and_strangers_certificates_are_refused(front: str, authority: Authority) -> None:
    """TLS 1.2 and 1.3 alone; who does not know the CA, or asks for another name, does not go on."""
    port = published(front, 8000)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        only = authority.trusting()
        only.minimum_version = only.maximum_version = version
        assert (await get(port, "/health", tls=only)).status == 200
    old = authority.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own opinion of it
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await get(port, "/health", tls=old)
    with pytest.raises(ssl.SSLCertVerificationError):
        await get(port, "/health", tls=ssl.create_default_context())
    static_key = authority.trusting()
    static_key.maximum_version = ssl.TLSVersion.TLSv1_2
    static_key.set_ciphers("AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        await get(port, "/health", tls=static_key)


async def test_20_renewals_are_served_at_once_and_drop_no_stream(stage: Stage, authority: Authority) -> None:
    """Each by the next handshake, without a reload. Streams of every certificate go on, and nobody who connects in the
    meantime fails."""
    front = stage.nginx("renewed", "--volume", f"{authority.folder}:/run/tls:ro", NGINX_TLS="on")
    port = published(front, 8000)
    trust = authority.trusting()
    connected = 0
    renewed = asyncio.Event()

    async def keep_connecting() -> None:
        nonlocal connected
        while not renewed.is_set():
            assert (await get(port, "/health", tls=trust)).status == 200
            connected += 1

    certificates = [authority.issue("one.example"), authority.issue("two.example")]
    streams = [await get(port, headers=UPGRADE, tls=trust) for _ in range(STREAMS)]
    others = [asyncio.create_task(keep_connecting()) for _ in range(2)]
    for number in range(RELOADS):
        await asyncio.to_thread(authority.put, certificates[number % 2])
        streams.append(await get(port, headers=UPGRADE, tls=trust))
        assert streams[-1].certificate == der(certificates[number % 2])
        await asyncio.gather(*(sends_back(stream, b"round %d." % number) for stream in streams))
    renewed.set()
    await asyncio.gather(*others)
    assert connected
    assert sum(await stage.order()) == STREAMS + RELOADS
    written = docker("logs", front, stderr=True)
    assert "SSL" not in written  # as every complaint about a handshake or a certificate begins
    assert "PRIVATE KEY" not in written


async def test_a_certificate_that_goes_bad_fails_handshakes_and_no_stream(stage: Stage, authority: Authority) -> None:
    """A file that is cut short: the log names it, streams go on, and the next good one is served."""
    front = stage.nginx("broken", "--volume", f"{authority.folder}:/run/tls:ro", NGINX_TLS="on")
    port = published(front, 8000)
    trust = authority.trusting()
    stream = await get(port, headers=UPGRADE, tls=trust)
    good = authority.read()
    authority.put(good[:300])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await raw(port, b"", trust)
    await sends_back(stream, b"still here")
    assert "/run/tls/server.pem" in docker("logs", front, stderr=True)
    authority.put(good)
    assert (await get(port, "/health", tls=trust)).status == 200
