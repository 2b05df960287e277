"""One request's audio on its way through its encoder, on a thread where it would hold up the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from serving.audio import Samples
from tts.encoders import Encoded, Encoder

log = logging.getLogger(__name__)

Deliver = Callable[[Encoded | Exception], None]


class RequestAudio:
    """Encodes in the order in which it is asked, and delivers in that order.

    Its methods are called on the event loop, and it delivers there: at once what is quick to encode; the rest is
    done by the loop's default threads, one piece at a time, so that a request has no more than its share of them.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder: Encoder | None = encoder
        """None once dropped: what it holds, megabytes, must not wait for whoever still knows of the request."""
        self._waiting: deque[tuple[Callable[[], Encoded], Deliver]] = deque()
        """The first one is being done. Bounded by how far the engine works ahead."""

    def encode(self, samples: Samples | None, deliver: Deliver) -> None:
        """Encode a chunk, or with None a sentence's end; deliver what can be sent, or what went wrong."""
        if (encoder := self._encoder) is not None:
            self._submit(encoder, lambda: encoder.encode(samples), deliver)

    def finish(self, deliver: Deliver) -> None:
        """Deliver what is left at the request's end."""
        if (encoder := self._encoder) is not None:
            self._submit(encoder, encoder.finish, deliver)

    def drop(self) -> None:
        """The request is over: encode nothing more, deliver nothing more."""
        self._waiting.clear()
        self._encoder = None

    def _submit(self, encoder: Encoder, work: Callable[[], Encoded], deliver: Deliver) -> None:
        if encoder.quick:
            deliver(_done(work))
            return
        self._waiting.append((work, deliver))
        if len(self._waiting) == 1:
            self._begin()

    def _begin(self) -> None:
        work, _ = self._waiting[0]
        asyncio.get_running_loop().run_in_executor(None, _done, work).add_done_callback(self._on_done)

    def _on_done(self, done: asyncio.Future[Encoded | Exception]) -> None:
        if not self._waiting:
            return  # dropped meanwhile
        _, deliver = self._waiting.popleft()
        if self._waiting:
            self._begin()
        deliver(done.result())


def _done(work: Callable[[], Encoded]) -> Encoded | Exception:
    try:
        return work()
    except Exception as error:
        log.exception("audio could not be encoded")
        return error
