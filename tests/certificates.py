"""Certificates for the tests, made by scripts/tls.sh in a folder of their own."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path

from tests.conftest import ROOT


def as_root(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> bytes:
    """Output of a command that needs root, as the key belongs to nginx's user."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n", "--preserve-env"]
    done = subprocess.run([*prefix, *command], env=os.environ | (env or {}), cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Authority:
    """A project folder with the scripts alone, where `make tls` is run; `server.pem` is in `folder`."""

    def __init__(self, project: Path) -> None:
        shutil.copytree(ROOT / "scripts", project / "scripts")
        self._project = project
        self.folder = project / "secrets" / "tls"
        self.file = self.folder / "server.pem"
        self.ca = self.folder / "ca.pem"
        """What clients trust."""

    def issue(self, names: str = "") -> bytes:
        """Have a certificate made and put in place, for other names than the last time; returns the file's content."""
        as_root("scripts/tls.sh", names, cwd=self._project, env={"CHORUS_TLS_DIR": "./secrets/tls"})
        return self.read()

    def read(self) -> bytes:
        """Certificate and key."""
        return as_root("cat", str(self.file))

    def put(self, content: bytes) -> None:
        """Put another file in its place, in one step as the script does."""
        new = self._project / "new"
        new.write_bytes(content)
        as_root("install", "-m", "600", "-o", "10001", "-g", "10001", str(new), str(self.folder / ".new"))
        as_root("mv", str(self.folder / ".new"), str(self.file))

    def trusting(self) -> ssl.SSLContext:
        """A client's settings."""
        return ssl.create_default_context(cafile=self.ca)


def der(pem: bytes) -> bytes:
    """The first certificate of a file, as a handshake shows it."""
    end = b"-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)].decode("ascii"))
