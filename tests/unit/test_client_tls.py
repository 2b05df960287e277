"""The client at `wss` addresses: whom it trusts, and what it says of those that it does not."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from chorus import sync
from chorus.__main__ import main
from chorus.connect import tls_context
from chorus.errors import Refused
from chorus.sources import from_bytes
from chorus.speech import speak
from chorus.transcription import transcribe
from tests.unit.scripted import SPOKEN, recognise, refusing, serving, synthesise
from tests.unit.test_client_commands import answering, run

pytestmark = pytest.mark.unit

HALF_A_SECOND = bytes(16000)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that is its own CA."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "certificate.pem"


@pytest.fixture
def server(certificate: Path) -> ssl.SSLContext:
    """The settings of a server that has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


@pytest.mark.parametrize("reconnect", [True, False])
async def test_a_ca_is_trusted_by_file_or_by_the_environment(
    certificate: Path, server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, reconnect: bool
) -> None:
    """By every driver."""
    async with serving(recognise, server) as asr, serving(synthesise, server) as tts:
        assert asr.url.startswith("wss://")
        source = from_bytes(HALF_A_SECOND, 16000)
        heard = await transcribe(source, asr.url, ca=certificate, reconnect=reconnect)
        assert heard.text == "hello world"
        assert (await speak("Hello.", tts.url, ca=str(certificate))).audio == SPOKEN
        monkeypatch.setenv("CHORUS_CA_FILE", str(certificate))
        assert (await speak("Hello.", tts.url)).audio == SPOKEN

        def by_threads() -> None:
            with sync.connect_asr(asr.url) as stream:
                stream.send(stream.protocol.close())
                list(stream)

        await asyncio.to_thread(by_threads)


async def test_a_stranger_is_not_trusted(
    server: ssl.SSLContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent; the command says what is wrong with the certificate, and what may help."""
    async with serving(recognise, server) as asr:
        with pytest.raises(ssl.SSLCertVerificationError):
            await transcribe(from_bytes(HALF_A_SECOND, 16000), asr.url)
        assert not asr.paths
        assert await run("speak", "Hello.", "--url", asr.url, "-o", str(tmp_path / "a.wav")) == 1
    said = capsys.readouterr().err
    assert "self-signed certificate" in said
    assert "--ca" in said


async def test_tls_where_there_is_none_and_none_where_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either mistake is told by its name."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # as nginx does
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as plain:
        url = f"wss://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
        assert await run("speak", "Hello.", "--url", url, "-o", str(tmp_path / "a.wav")) == 1
    assert "without a certificate the stack speaks ws://" in capsys.readouterr().err
    told = b'{"error":{"code":"bad_message","message":"this port speaks TLS: connect with wss:// or https://"}}'
    async with refusing(400, told) as url:
        with pytest.raises(Refused, match="speaks TLS"):
            await speak("Hello.", url)


async def test_health_is_asked_by_tls(
    certificate: Path, server: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a CA file too; a certificate that is not trusted is told in the table."""
    async with answering(200, {"status": "ok"}, server) as url:
        assert await run("health", "--url", url, "--ca", str(certificate)) == 0
        assert await run("health", "--url", url) == 1
    assert "bad certificate" in capsys.readouterr().out


def test_a_file_that_holds_no_certificates_is_told(tmp_path: Path) -> None:
    """By its name; at an address without TLS nothing is looked at."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing", encoding="utf-8")
    for file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match=file.name):
            tls_context("wss://host", file)
        assert tls_context("ws://host", file) is None
        assert main(["health", "--url", "wss://host", "--ca", str(file)]) == 1
