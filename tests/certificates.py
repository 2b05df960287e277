"""Certificates for the tests, made by scripts/tls.sh in a folder of their own."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path

from tests.conftest import ROOT


class Authority:
    """A project folder with the scripts alone, where `make tls` is run; `server.pem` is in `folder`."""

    def __init__(self, project: Path) -> None:
        shutil.copytree(ROOT / "scripts", project / "scripts")
        self._project = project
        self.folder = project / "secrets" / "tls"

    def issue(self, names: str) -> None:
        """Put a new certificate in the place of the old one. Other names than the last time make a new one."""
        done = subprocess.run(
            ["scripts/tls.sh", names],
            cwd=self._project,
            env={"PATH": os.environ["PATH"], "CHORUS_TLS_DIR": "./secrets/tls"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    @property
    def ca(self) -> Path:
        """What clients trust."""
        return self.folder / "ca.pem"

    def trusting(self) -> ssl.SSLContext:
        """A client's settings."""
        return ssl.create_default_context(cafile=self.ca)
