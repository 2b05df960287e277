"""Timed words as captions."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from chorus.wire import tts as wire


def webvtt(phrases: Iterable[list[wire.TimedWord]]) -> str:
    """A WebVTT file (W3C): a cue a phrase, in which players may light up word after word."""
    cues = [_cue(phrase) for phrase in phrases if phrase]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def _cue(phrase: list[wire.TimedWord]) -> str:
    first, *others = phrase
    timed = [f"<{_time(word.start)}>{escape(word.word, quote=False)}" for word in others]
    text = " ".join([escape(first.word, quote=False), *timed])
    return f"{_time(first.start)} --> {_time(phrase[-1].end)}\n{text}"


def _time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
