"""Streaming speech recognition: Whisper on CTranslate2, Silero voice detection."""

import serving  # noqa: F401  before any native library is loaded
