"""Voices that `models.json` does not list: from the hub by its own digests, from a local folder, and once installed."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import fetch as fetching
from models.__main__ import main
from models.catalogue import read_catalogue, read_voice_hub
from tts.installed import PREFIX

pytestmark = pytest.mark.unit

VOICE = "pt_PT-tugão-medium"
ONNX, JSON = f"{VOICE}.onnx", f"{VOICE}.onnx.json"
FOLDER = "pt/pt_PT/tugão/medium"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class VoiceHub(http.server.BaseHTTPRequestHandler):
    """Lists and serves the files of one voice as the Hugging Face hub does: large ones by LFS, small ones by git."""

    files: dict[str, bytes]
    served: dict[str, bytes]
    """What is sent for a file, where that differs from what is listed."""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        hub = read_voice_hub()
        path = urllib.parse.unquote(self.path)
        if path == f"/api/models/{hub.repo}/tree/{hub.revision}/{FOLDER}":
            self.answer(json.dumps([self.entry(name, data) for name, data in self.files.items()]).encode())
        elif path.startswith(start := f"/{hub.repo}/resolve/{hub.revision}/{FOLDER}/"):
            name = path.removeprefix(start)
            self.answer(self.served.get(name, self.files[name]))
        else:
            self.send_error(404)

    def entry(self, name: str, data: bytes) -> dict[str, object]:
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"type": "file", "oid": git, "size": len(data), "path": f"{FOLDER}/{name}"}
        if name.endswith(".onnx"):
            entry |= {"oid": "0" * 40, "lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 130}}
        return entry

    def answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[VoiceHub]]:
    """A hub on this machine, with one voice."""
    files = {ONNX: b"weights" * 1000, JSON: b'{"audio": {}}', "MODEL_CARD": b"who it is"}
    handler = type("Handler", (VoiceHub,), {"files": files, "served": {}, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command installs; no hub and no local folder but what a test adds."""
    monkeypatch.setattr(fetching, "_silent", set())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("LOCAL_MODELS_DIR", raising=False)
    return tmp_path / "models"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder, empty yet."""
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(folder))
    return folder


def put(folder: Path, name: str, onnx: bytes = b"my weights") -> None:
    """The files of a voice of one's own."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(onnx)
    (folder / f"{name}.onnx.json").write_bytes(b"{}")


def test_any_voice_of_pipers_catalogue_comes_from_the_hub(
    models: Path, hub: type[VoiceHub], capsys: pytest.CaptureFixture[str]
) -> None:
    """At the pinned revision, verified by the hub's own digests; and it is said that no others are known."""
    assert main(["fetch", VOICE]) == 0
    target = models / f"{PREFIX}{VOICE}"
    assert (target / ONNX).read_bytes() == hub.files[ONNX]
    assert (target / JSON).read_bytes() == hub.files[JSON]
    assert "not in models.json" in capsys.readouterr().err
    assert f"{sha256(hub.files[ONNX])}  {ONNX}" in (target / "SHA256SUMS").read_text("utf-8").splitlines()


def test_what_is_installed_needs_no_hub(models: Path, hub: type[VoiceHub], capsys: pytest.CaptureFixture[str]) -> None:
    """The next start fetches nothing; damage is found, listed voices and these are listed."""
    assert main(["fetch", VOICE]) == 0
    hub.asked.clear()
    assert main(["fetch", f"piper-{VOICE}"]) == 0
    assert main(["verify", VOICE]) == 0
    assert hub.asked == []
    assert main(["list"]) == 0
    assert any(
        line.split()[:3] == [f"piper-{VOICE}", "piper-voice", "here"] for line in capsys.readouterr().out.splitlines()
    )
    (models / f"piper-{VOICE}" / ONNX).write_bytes(b"rot")
    assert main(["verify", VOICE]) == 1
    assert f"{ONNX} has sha256" in capsys.readouterr().err
    assert main(["fetch", VOICE]) == 0
    assert main(["verify", VOICE]) == 0


@pytest.mark.parametrize("name", [ONNX, JSON])
def test_bytes_that_differ_from_what_the_hub_lists_are_refused(
    models: Path, hub: type[VoiceHub], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the large file and of the small one; nothing is left that could be loaded."""
    hub.served = {name: b"other bytes"}
    assert main(["fetch", VOICE]) == 1
    assert name in capsys.readouterr().err
    assert not (models / f"piper-{VOICE}").exists()


@pytest.mark.parametrize("listing", [b"[]", b"{}", b"not JSON", b'[{"path": 1}]', b'["x"]'])
def test_a_listing_that_makes_no_sense_is_told(
    hub: type[VoiceHub], listing: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a message with what to do, not a traceback."""
    monkeypatch.setattr(hub, "do_GET", lambda self: self.answer(listing))
    assert main(["fetch", VOICE]) == 1
    assert "LOCAL_MODELS_DIR" in capsys.readouterr().err


def test_a_voice_that_the_hub_does_not_have_is_told(hub: type[VoiceHub], capsys: pytest.CaptureFixture[str]) -> None:
    """With where it was looked for."""
    assert main(["fetch", "en_GB-nobody-high"]) == 1
    assert "no en/en_GB/nobody/high in rhasspy/piper-voices" in capsys.readouterr().err


def test_without_the_hub_the_way_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A local folder."""
    assert main(["fetch", VOICE]) == 1
    said = capsys.readouterr().err
    assert "could not be asked" in said
    assert f"Put {ONNX} and {JSON} into a folder" in said


@pytest.mark.parametrize("place", [".", "my-voice", "piper-my-voice"])
def test_a_voice_of_ones_own_comes_from_the_local_folder(
    models: Path, local: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lying just so, or in a folder of its name; it may have any name, and is installed as every voice is."""
    put(local / place, "my-voice")
    assert main(["fetch", "my-voice"]) == 0
    assert (models / "piper-my-voice" / "my-voice.onnx").read_bytes() == b"my weights"
    assert "taken as it is" in capsys.readouterr().err
    assert main(["verify", "my-voice"]) == 0


def test_a_voice_that_was_trained_further_is_installed_anew(models: Path, local: Path) -> None:
    """The local folder is the truth for what only it has; without it, what is installed is."""
    put(local, "my-voice")
    assert main(["fetch", "my-voice"]) == 0
    put(local, "my-voice", b"better weights")
    assert main(["verify", "my-voice"]) == 0  # what is installed is whole
    assert main(["fetch", "my-voice"]) == 0
    assert (models / "piper-my-voice" / "my-voice.onnx").read_bytes() == b"better weights"
    (local / "my-voice.onnx").unlink()
    assert main(["fetch", "my-voice"]) == 0


def test_half_a_voice_in_the_local_folder_is_told(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The missing file is named."""
    put(local, "my-voice")
    (local / "my-voice.onnx.json").unlink()
    assert main(["fetch", "my-voice"]) == 1
    assert "my-voice.onnx.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["../../etc", "..", "a/b", "piper-../x", "piper-", "-x", "en_GB-alba", "EN_gb-alba-medium"]
)
def test_a_name_that_is_no_voice_is_told(local: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No path is made of it; the names that there are are told."""
    assert main(["fetch", "--", name]) == 1
    assert "whisper-tiny.en" in capsys.readouterr().err


def test_every_listed_voice_lies_where_its_name_says(hub: type[VoiceHub]) -> None:
    """The rule by which others are found holds for those that are pinned, at the same revision."""
    from models.voices import _on_hub

    for model in read_catalogue().values():
        if model.kind == "piper-voice":
            assert _on_hub(model.name.removeprefix(PREFIX)) == model.hub
