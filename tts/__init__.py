"""Streaming speech synthesis: Piper voices on ONNX Runtime, in chunks, scheduled by playback."""

import serving  # noqa: F401  before any native library is loaded
