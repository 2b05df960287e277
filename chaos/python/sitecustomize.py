"""Python runs this at its start in the replicas of `make chaos`, and in nothing else: no production image has it.

An engine's call hangs while /chaos/hang-HOSTNAME is newer than the process: the call into the library, where a real one
would hang, and with the same lock held or not held.
"""

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import serving  # noqa: F401  sets what native libraries read when they are loaded

FLAG = f"/chaos/hang-{socket.gethostname()}"
STARTED = time.time()


def asked_to_hang() -> bool:
    """Whether the fault is on for this very process."""
    try:
        return os.stat(FLAG).st_mtime > STARTED
    except FileNotFoundError:
        return False


def hanging(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which does not return while it is asked to hang."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        while asked_to_hang():
            time.sleep(0.05)
        return call(*arguments, **named)

    return wrapped


def install() -> None:
    """Put it around what the engine of this image computes with."""
    if os.environ.get("SERVICE") == "asr":
        import ctranslate2

        whisper = ctranslate2.models.Whisper
        whisper.encode = hanging(whisper.encode)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession
        session.run = hanging(session.run)


def sleep(seconds: Any) -> None:
    """`time.sleep` by another system call."""
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


install()
if "faketime" in os.environ.get("LD_PRELOAD", ""):
    # libfaketime 0.9.10 refuses to sleep until a moment that has just passed, which Python asks for in short sleeps.
    time.sleep = sleep
