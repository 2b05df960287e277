"""Whether a model's files are still those that were installed.

The `models` service verifies what it brings, but a replica that Docker starts anew comes back without it. A file that
was cut off ends the load by itself; one whose weights have changed is loaded, and talks nonsense.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

RECORD = "SHA256SUMS"
"""As `python -m models fetch` leaves it beside the files; a folder that was put there by hand has none, and passes."""


class DamagedModel(Exception):
    """A file that is not what it was; the message names it, and what to do."""


def check_model(folder: Path) -> None:
    """Compare every file that the folder's record names. Blocks. Raises `DamagedModel`, `OSError`."""
    record = folder / RECORD
    if not record.exists():
        return
    for line in record.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DamagedModel(
                    f"{folder.name}/{name} is damaged, its sha256 is another: `make models` or `make up` mends it"
                )
