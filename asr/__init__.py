"""Streaming speech recognition: Whisper on CTranslate2, Silero voice detection."""
