"""Streaming speech synthesis: Piper voices on ONNX Runtime, in chunks, scheduled by playback."""
