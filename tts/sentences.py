"""Sentences from a text that arrives in pieces of any size; the size never shows in the sentences."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from sentence_stream import SentenceBoundaryDetector

LONGEST = 2000
"""Characters without a sentence's end after which the text is broken at its best place."""
BREAKS = ("; ", ": ", ", ", " – ", " — ", "\n", " ")
"""Where a text that does not end is broken, the best first."""
ABBREVIATIONS = ("e.g.", "i.e.", "cf.", "vs.", "approx.", "Prof.", "Capt.", "Messrs.")
"""A sentence does not end there; the detector knows those of up to three letters that begin with a capital."""
_UNDECIDED = re.compile(r"…[\W\d_]*$")
"""After an ellipsis the detector decides by what it sees; until a letter follows, it is shown neither."""


class SentenceSplitter:
    """Give it text with `feed` and `finish`, take sentences with `next`; text that is not asked for waits."""

    def __init__(self) -> None:
        self._detector = SentenceBoundaryDetector()
        self._incoming: deque[str] = deque()
        self._held = ""
        """Text that the detector has not been shown yet."""
        self._unended = ""
        """A sentence that ended in an abbreviation, and so did not."""
        self._ready: deque[str] = deque()
        self._finished = False

    def feed(self, text: str) -> None:
        """Append text."""
        # In pieces, so that a very long text is not copied again and again.
        self._incoming.extend(text[start : start + LONGEST] for start in range(0, len(text), LONGEST))

    def finish(self) -> None:
        """No text follows: what is left is a sentence too."""
        self._finished = True

    def waiting(self) -> int:
        """Characters that were fed and not taken as sentences yet."""
        return sum(map(len, self._incoming)) + len(self._open()) + len(self._unended) + sum(map(len, self._ready))

    def next(self) -> str | None:
        """The next whole sentence; None until more text comes, or for good once finished."""
        while not self._ready and self._incoming:
            self._take_in()
        if not self._ready and self._finished:
            self._add(self._detector.add_chunk(self._held))
            self._held = ""
            self._add([self._detector.finish()])
            if self._unended:
                self._ready.append(self._unended)
                self._unended = ""
        return self._ready.popleft() if self._ready else None

    def _open(self) -> str:
        """The text whose end is not known, without the space before it: some of that may have gone with a sentence."""
        text: str = self._detector.current_sentence + self._detector.remaining_text + self._held
        return text.lstrip()

    def _take_in(self) -> None:
        """Show the detector more text, but never more without an end than the longest sentence."""
        piece = self._incoming.popleft()
        room = LONGEST + 1 - len(self._open())
        if len(piece) > room:
            self._incoming.appendleft(piece[room:])
        text = self._held + piece[:room]
        undecided = _UNDECIDED.search(text)
        shown = undecided.start() if undecided else len(text)
        self._held = text[shown:]
        self._add(self._detector.add_chunk(text[:shown]))
        if len(text := self._open()) > LONGEST:
            self._break(text)

    def _break(self, text: str) -> None:
        """Cut the text that does not end at the last of the best breaks."""
        for mark in BREAKS:
            at = text.rfind(mark, LONGEST // 2, LONGEST)
            if at >= 0:
                break
        else:
            at, mark = LONGEST, ""
        self._detector = SentenceBoundaryDetector()
        self._held = ""
        self._add([text[: at + len(mark)].strip()])
        self._incoming.appendleft(text[at + len(mark) :])

    def _add(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            if not sentence:
                continue
            whole = f"{self._unended} {sentence}" if self._unended else sentence
            if whole.endswith(ABBREVIATIONS) and len(whole) < LONGEST // 2:
                self._unended = whole
            else:
                self._ready.append(whole)
                self._unended = ""
