"""What Locust runs: `locust -f loadtest/locustfile.py`. Its users are people of a crew, in a process of its own.

Locust's greenlets only say who is there; everything that takes time happens in the crew (`loadtest.crew`).
"""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from locust import LoadTestShape, User, events, runners, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtest import web
from loadtest.master import Master, Tick
from loadtest.messages import TO_MASTER, TO_WORKER
from loadtest.options import add_arguments, read_options
from loadtest.runs import TROUBLED, runs_folder
from loadtest.settings import Kind
from loadtest.worker import Worker

ALIVE = Path("/tmp/loadtest-alive")
"""Touched while this process's loop runs and its master answers, for the container's health check."""
ALIVE_S = 2.0
ENDING_S = 120.0
"""A run that is under way when Locust is told to quit is brought to its report."""
runners.HEARTBEAT_LIVENESS = 15
"""Seconds without a sign of a worker after which it is lost. Locust's 3 end a soak for one busy moment; whether people
were late meanwhile is told by the crews themselves."""


class _Side:
    """What this process is; a Locust without others is both."""

    master: Master | None = None
    worker: Worker | None = None
    told_to_end: Any = None
    """Waits for SIGTERM."""


class Person(User):
    """One of a crew, for as long as Locust has this user."""

    abstract = True
    host = web.HOST
    kind: ClassVar[Kind]

    @task
    def live(self) -> None:
        """Until Locust ends it."""
        worker = _Side.worker
        assert worker is not None
        name = worker.come(self.kind)
        try:
            Event().wait()
        finally:
            worker.leave(name)


class VoiceAgentUser(Person):
    """Speaks, waits for its words, listens to a reply, pauses, and speaks again; its microphone is always on."""

    kind = "voice"


class CaptionUser(Person):
    """One long stream of speech."""

    kind = "caption"


class ReaderUser(Person):
    """Lets paragraphs be read to it."""

    kind = "reader"


class IdleUser(Person):
    """Holds a connection with silence."""

    kind = "idle"


class SlowUser(Person):
    """Reads more slowly than it is sent."""

    kind = "slow"


class Shape(LoadTestShape):
    """The one that the run's options choose."""

    use_common_options = True

    def tick(self) -> Tick:
        """How many people there are to be."""
        assert _Side.master is not None
        return _Side.master.tick()


def _add_arguments(parser: LocustArgumentParser) -> None:
    add_arguments(parser)


def _init(environment: Environment, **_: Any) -> None:
    runner, options = environment.runner, environment.parsed_options
    assert options is not None
    if isinstance(runner, WorkerRunner | LocalRunner):
        worker = _Side.worker = Worker(partial(_send, runner), environment.events.request.fire)
        runner.register_message(TO_WORKER, lambda environment, msg: worker.handle(msg.data))
        gevent.spawn(worker.flush_for_ever)
    if isinstance(runner, WorkerRunner):
        gevent.spawn(_touch, runner)
    if isinstance(runner, MasterRunner | LocalRunner):
        if options.headless:
            _check(vars(options))
            # Locust's own handler comes only after a shape's run; until then as Ctrl-C: the run ends with a report.
            # By the loop: what a handler of Python's raises comes up in whatever code runs just then, and can be lost.
            _Side.told_to_end = gevent.signal_handler(
                signal.SIGTERM, gevent.kill, gevent.get_hub().parent, KeyboardInterrupt
            )
        master = _Side.master = Master(environment, runs_folder())
        runner.register_message(TO_MASTER, lambda environment, msg: master.handle(msg.node_id, msg.data))
        if environment.web_ui is not None:
            web.install(environment, runs_folder(), _busy)


def _test_stop(environment: Environment, **_: Any) -> None:
    if _Side.master is None:
        return
    if environment.web_ui is None:
        _Side.master.finish()
    else:
        gevent.spawn(_Side.master.finish)  # the page that asked for the end does not wait for the report


def _quitting(environment: Environment, **_: Any) -> None:
    if _Side.told_to_end is not None:
        _Side.told_to_end.cancel()  # from here on by Locust's own
    if _Side.master is not None:
        if environment.runner is not None:
            environment.runner.stop()
        end = time.monotonic() + ENDING_S
        while _Side.master.current is not None and time.monotonic() < end:
            gevent.sleep(0.1)
        if environment.web_ui is None and environment.process_exit_code is None:
            environment.process_exit_code = TROUBLED  # no run was concluded; Locust would call that success
    if _Side.worker is not None:
        _Side.worker.close()
        _Side.worker.flush()


def _send(runner: WorkerRunner | LocalRunner, kind: str, data: dict[str, Any]) -> None:
    try:
        runner.send_message(kind, data)
    except RPCError as error:
        raise ConnectionError(str(error)) from error


def _check(options: dict[str, Any]) -> None:
    try:
        read_options(options)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


def _busy() -> str:
    current = _Side.master.current if _Side.master is not None else None
    if current is None:
        return ""
    return f"run {current.name} " + ("is being reported: try again in a moment" if current.ending else "is under way")


def _touch(runner: WorkerRunner) -> None:
    while True:
        if runner.connected:
            ALIVE.touch()
        gevent.sleep(ALIVE_S)


for hook, listener in (
    (events.init_command_line_parser, _add_arguments),
    (events.init, _init),
    (events.test_stop, _test_stop),
    (events.quitting, _quitting),
):
    hook.add_listener(listener)  # type: ignore[no-untyped-call]  # Locust does not say
