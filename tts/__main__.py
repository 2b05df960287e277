"""`python -m tts`: one synthesis replica, settings from the environment."""

from __future__ import annotations

from serving.run import run
from serving.settings import read_settings
from tts.service import TtsService
from tts.settings import TtsSettings


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(TtsSettings)
    run(lambda: TtsService(settings), settings, TtsService.name)


if __name__ == "__main__":
    main()
