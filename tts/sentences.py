"""Sentences from a text that arrives in pieces of any size."""

from __future__ import annotations

from collections import deque

from sentence_stream import SentenceBoundaryDetector

LONGEST = 2000
"""Characters without a sentence's end after which the text is broken at its best place."""
PIECE = 1000
"""Characters looked at at once, so that a very long text never holds up the event loop."""
BREAKS = ("; ", ": ", ", ", " – ", " — ", "\n", " ")
"""Where a text that does not end is broken, the best first."""


class SentenceSplitter:
    """Give it text with `feed` and `finish`, take sentences with `next`; text that is not asked for waits."""

    def __init__(self) -> None:
        self._detector = SentenceBoundaryDetector()
        self._incoming: deque[str] = deque()
        self._ready: deque[str] = deque()
        self._finished = False

    def feed(self, text: str) -> None:
        """Append text."""
        self._incoming.extend(text[start : start + PIECE] for start in range(0, len(text), PIECE))

    def finish(self) -> None:
        """No text follows: what is left is a sentence too."""
        self._finished = True

    def next(self) -> str | None:
        """The next whole sentence; None until more text comes, or for good once finished."""
        while not self._ready and self._incoming:
            piece = self._incoming.popleft()
            sentences = list(self._detector.add_chunk(piece))
            self._ready.extend(sentences)
            if len(self._detector.current_sentence) + len(self._detector.remaining_text) > LONGEST:
                self._break()
        if not self._ready and self._finished:
            rest = self._detector.finish()
            if rest:
                self._ready.append(rest)
        return self._ready.popleft() if self._ready else None

    def _break(self) -> None:
        """Cut the text that does not end at the last of the best breaks."""
        text = self._detector.current_sentence + self._detector.remaining_text
        for mark in BREAKS:
            at = text.rfind(mark, LONGEST // 2, LONGEST)
            if at >= 0:
                break
        else:
            at, mark = LONGEST, ""
        head, rest = text[: at + len(mark)].strip(), text[at + len(mark) :]
        self._detector = SentenceBoundaryDetector()
        if head:
            self._ready.append(head)
        self._incoming.appendleft(rest)
