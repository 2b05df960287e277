"""`python -m benchmarks.instant_asr`: a recognition replica whose recogniser answers at once.

What remains is what every stream costs before its words: the serving layer and the real voice detector.
"""

from __future__ import annotations

from asr.engine import Request, Transcript
from asr.service import AsrService
from asr.settings import AsrSettings
from asr.vad import SileroVad
from serving.run import run
from serving.settings import read_settings


class InstantEngine:
    """Hears the same word in everything."""

    languages = frozenset({"en"})
    tasks = frozenset({"transcribe"})

    def transcribe(self, requests: list[Request]) -> list[Transcript]:
        """That word, for each request."""
        return [Transcript("word", 1.0, "en") for _ in requests]


def load_models(settings: AsrSettings) -> tuple[SileroVad, InstantEngine]:
    """The real voice detector beside it."""
    return SileroVad(settings.models_dir / "silero-vad"), InstantEngine()


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(AsrSettings)
    run(lambda: AsrService(settings, load_models), settings, AsrService.name)


if __name__ == "__main__":
    main()
