"""The life of a replica's process.

start     the admin port opens; `/health` says `loading`
loaded    status `ok`: the stream port opens
stuck     a busy engine made no progress for `stuck_s`: `failed`, the stream port closes until it goes on;
          after twice that the process ends, for the container's restart policy to replace it; time in which the
          whole process was frozen does not count
SIGTERM   after `linger_s`, in which it serves as before, `draining`: the stream port closes; idle streams close with
          1012, the others once what they have accepted is delivered
hurry     near the end of `drain_s`, whatever is still open is brought to an end: an utterance ends where it is, a
          reply with its current sentence
cut       what is left even then is cancelled, and closed with 1012
drained   the engine stops, the admin port closes last; after `drain_s` the process ends whatever it still does
again     a second SIGTERM or SIGINT ends the process at once
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Callable

import uvloop

from serving.app import create_apps
from serving.gpu import GpuCollector, open_gpu
from serving.listener import Listener
from serving.logs import configure_logging, fields
from serving.memory import keep_trimmed
from serving.metrics import replica_metrics
from serving.service import Service
from serving.settings import ServiceSettings
from serving.state import ReplicaState, Status

log = logging.getLogger(__name__)

HURRY_AT = 0.75
"""Of `drain_s`: from here on, streams that still have something open are asked to end it."""
CUT_AT = 0.9
"""Of `drain_s`: here those that have not ended are cut."""
STOP_S = 5.0
"""Seconds that the process has at least for its end after that, however short `drain_s` is."""
CUT_S = 1.0
"""Seconds for a client to take its last messages; one that does not read keeps nobody longer."""
WATCH_S = 1.0
EXIT_STUCK = 70  # EX_SOFTWARE


class Replica:
    """One process that serves one service."""

    def __init__(self, service: Service) -> None:
        """To be made on the event loop that runs it."""
        loop = asyncio.get_running_loop()
        settings = service.settings
        self.service = service
        self.state = ReplicaState(settings.max_connections, settings.retry_after_s)
        gpu = open_gpu(settings.device)
        stream_app, admin_app, self.streams = create_apps(service, self.state, gpu)
        self.stream_listener = Listener(stream_app, settings.host, settings.port)
        self.admin_listener = Listener(admin_app, settings.host, settings.admin_port)
        self.terminate = asyncio.Event()
        service.registry.register(GpuCollector(gpu))
        replica_metrics(
            service.name,
            self.state,
            drain_s=settings.drain_s,
            sockets=lambda: self.stream_listener.sockets,
            tasks=lambda: len(asyncio.all_tasks(loop)),
            registry=service.registry,
        )

    async def run(self) -> None:
        """Serve until `terminate` is set, then drain and stop."""
        await self.admin_listener.open()
        loading = asyncio.create_task(self.service.load(), name="load")
        ending = asyncio.create_task(self.terminate.wait(), name="terminate")
        try:
            await asyncio.wait((loading, ending), return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                await loading
                await self._set_status("ok")
                log.info("serving", extra=fields(port=self.stream_listener.port, **self.service.describe()))
                watch = asyncio.create_task(self._watch_engine(), name="watch engine")
                trim = asyncio.create_task(keep_trimmed(), name="trim memory")
                keys = asyncio.create_task(self.streams.access.follow(), name="follow keys")
                await ending
                await self._linger()
                await self._drain()
                watch.cancel()
                trim.cancel()
                keys.cancel()
        finally:
            loading.cancel()
            ending.cancel()
            await self.stream_listener.stop()
            await self.service.stop()
            await self.admin_listener.stop()
            log.info("stopped")

    async def _set_status(self, status: Status) -> None:
        self.state.set_status(status)
        if self.state.status == "ok":
            await self.stream_listener.open()
        else:
            self.stream_listener.close()

    async def _linger(self) -> None:
        if seconds := self.service.settings.linger_s:
            log.info("lingering", extra=fields(seconds=seconds))
            await asyncio.sleep(seconds)

    async def _drain(self) -> None:
        await self._set_status("draining")
        drain_s = self.service.settings.drain_s
        began = asyncio.get_running_loop().time()
        log.info("draining", extra=fields(streams=len(self.streams.sessions), seconds=drain_s))
        for session in list(self.streams.sessions.values()):
            session.drain()
        await self._wait_for_streams(began + HURRY_AT * drain_s)
        for session in list(self.streams.sessions.values()):
            session.hurry()
        await self._wait_for_streams(began + CUT_AT * drain_s)
        if self.streams.sessions:
            log.warning("streams are cut", extra=fields(streams=len(self.streams.sessions)))
        for session in list(self.streams.sessions.values()):
            session.cut()
        await self._wait_for_streams(began + CUT_AT * drain_s + CUT_S)

    async def _wait_for_streams(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        # Until the peers have answered the close: a socket that is closed on a peer that still sends resets the
        # connection, and what was said last with it.
        while self.stream_listener.sockets and loop.time() < until:
            await asyncio.sleep(0.05)

    async def _watch_engine(self) -> None:
        limit = self.service.settings.stuck_s
        loop, stall = asyncio.get_running_loop(), Stall()
        while True:
            due = loop.time() + WATCH_S
            await asyncio.sleep(WATCH_S)
            stuck = stall.seconds(self.service.seconds_stuck(), late_s=loop.time() - due)
            if stuck >= 2 * limit:
                log.error("the engine made no progress for %.0f s; ending the process", stuck)
                faulthandler.dump_traceback()
                os._exit(EXIT_STUCK)  # its thread can't be stopped, and nothing of it can be trusted
            if stuck >= limit:
                if self.state.status == "ok":
                    log.error("the engine made no progress for %.0f s; no new streams", stuck)
                await self._set_status("failed")
            elif self.state.status == "failed":
                log.warning("the engine goes on")
                await self._set_status("ok")


class Stall:
    """For how long an engine has made no progress while this process could run.

    A process that was frozen (`docker pause`, a machine that moves) finds on waking that its engine's call has taken
    minutes. The watch itself was as late, and by so much the engine is excused.
    """

    def __init__(self) -> None:
        self._excused = 0.0

    def seconds(self, stuck_s: float, late_s: float) -> float:
        """Of one look: for how long the present call has run, and how much later than due the look is."""
        self._excused = min(stuck_s, self._excused + late_s)
        return stuck_s - self._excused


def longest_end_s(drain_s: float, linger_s: float = 0) -> float:
    """Seconds from SIGTERM after which the process has ended for certain."""
    return linger_s + max(drain_s, CUT_AT * drain_s + STOP_S)


def _on_signal(replica: Replica, number: signal.Signals) -> None:
    if replica.terminate.is_set():
        log.warning("a second signal; ending the process at once")
        os._exit(128 + number)
    replica.terminate.set()
    # Not a task: neither a busy event loop nor a thread that hangs, which Python would wait for, may hold it up.
    settings = replica.service.settings
    end = threading.Timer(longest_end_s(settings.drain_s, settings.linger_s), _end_late)
    end.daemon = True
    end.start()


def _end_late() -> None:
    log.error("the process has not ended in its time; ending it")
    faulthandler.dump_traceback()
    os._exit(EXIT_STUCK)


def run(make_service: Callable[[], Service], settings: ServiceSettings, name: str) -> None:
    """Run a replica until SIGTERM or SIGINT; the whole of `python -m asr` and `python -m tts`."""

    async def main() -> None:
        replica = Replica(make_service())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _on_signal, replica, number)
        await replica.run()

    configure_logging(name, os.uname().nodename, settings.log_level)
    faulthandler.enable()
    uvloop.run(main())
