"""`python -m asr`: one recognition replica, settings from the environment."""

from __future__ import annotations

from asr.service import AsrService
from asr.settings import AsrSettings
from serving.run import run
from serving.settings import read_settings


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(AsrSettings)
    run(lambda: AsrService(settings), settings, AsrService.name)


if __name__ == "__main__":
    main()
