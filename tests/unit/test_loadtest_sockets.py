"""The load test's own sockets: the API key they send, and the certificates they trust."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from chorus.connect import KEY_VARIABLE
from chorus.errors import Refused
from loadtest import events, sockets
from loadtest.events import encode
from tests.conftest import eventually
from tests.unit.loadtest_stack import of, recognition, settings, synthesis, told

pytestmark = pytest.mark.unit

KEY = "chorus_a-key-that-nobody-else-has"
HERE = "127.0.0.1"
OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]


def both_connected(found: list[events.Event]) -> bool:
    return {each.service for each in of(found, events.Connected)} == {"asr", "tts"} or bool(of(found, events.Failed))


async def test_the_key_opens_a_stack_that_wants_one_and_is_told_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of both services, before the run and in it: in no record, in no setting, and in nothing that is written."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    async with recognition(key=KEY) as asr, synthesis(key=KEY) as tts:
        by = settings(tmp_path, asr_url=asr, tts_url=tts.url)
        found = await told(by, 1, both_connected)
    assert of(found, events.Failed) == []
    written = b"\n".join(map(encode, found)).decode() + f"{by!r}{by.environment()}" + "".join(capfd.readouterr())
    assert KEY not in written


async def test_without_the_key_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run where replies are to be rendered, as a failed connection where not."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    async with recognition(key=KEY) as asr, synthesis(key=KEY) as tts:
        by = settings(tmp_path, asr_url=asr, tts_url=tts.url)
        with pytest.raises(Refused, match="401"):
            await told(by, 1, both_connected)
        found = await told(by.model_copy(update={"mix": "idle=1"}), 1, lambda found: of(found, events.Failed))
    assert "API key is needed" in of(found, events.Failed)[0].what


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    """One that this address signed for itself, its private key beside it; what a test trusts the next does not."""
    made = tmp_path / "cert.pem"
    subprocess.run(
        [*OPENSSL, "-addext", f"subjectAltName=IP:{HERE}", "-out", made, "-keyout", made.with_suffix(".key")],
        check=True,
        capture_output=True,
    )
    sockets.trusted.cache_clear()
    yield made
    sockets.trusted.cache_clear()


async def test_a_stack_behind_tls_is_trusted_by_its_authority_alone(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSL_CERT_FILE` names it; without it there is no connection."""
    heard: list[str | bytes] = []

    async def echo(socket: ServerConnection) -> None:
        async for frame in socket:
            await socket.send(frame)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with serve(echo, HERE, 0, compression=None, ssl=context) as listener:
        url = f"wss://{HERE}:{listener.sockets[0].getsockname()[1]}"
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(ssl.SSLCertVerificationError):
            await sockets.connect(url, lambda at, frame: heard.append(frame), lambda code, reason: None, 10)
        sockets.trusted.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        socket = await sockets.connect(url, lambda at, frame: heard.append(frame), lambda code, reason: None, 10)
        socket.send("a text")
        socket.send(bytes(70_000))
        await eventually(lambda: len(heard) == 2)
        socket.abort()
    assert heard == ["a text", bytes(70_000)]
