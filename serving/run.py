"""The life of a replica's process.

start     the admin port opens; `/health` says `loading`
loaded    status `ok`: the stream port opens
stuck     a busy engine made no progress for `stuck_s`: `failed`, the stream port closes until it goes on;
          after twice that the process ends, for the container's restart policy to replace it
SIGTERM   `draining`: the stream port closes; every session finishes what it has accepted, then closes with 1012
drained   or `drain_s` are over: the rest is closed with 1012, the engine stops, the admin port closes last
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
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

HURRY_S = 5.0
"""So long before the drain's end, streams that still have something open are asked to end it."""
WATCH_S = 1.0
EXIT_STUCK = 70  # EX_SOFTWARE


class Replica:
    """One process that serves one service."""

    def __init__(self, service: Service) -> None:
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
                await ending
                watch.cancel()
                trim.cancel()
                await self._drain()
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

    async def _drain(self) -> None:
        await self._set_status("draining")
        drain_s = self.service.settings.drain_s
        log.info("draining", extra=fields(streams=len(self.streams.sessions), seconds=drain_s))
        for session in list(self.streams.sessions.values()):
            session.drain()
        await self._wait_for_streams(drain_s - HURRY_S)
        for session in list(self.streams.sessions.values()):
            session.hurry()
        await self._wait_for_streams(min(drain_s, HURRY_S))

    async def _wait_for_streams(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.state.active_connections and loop.time() < end:
            await asyncio.sleep(0.05)

    async def _watch_engine(self) -> None:
        limit = self.service.settings.stuck_s
        while True:
            await asyncio.sleep(WATCH_S)
            stuck = self.service.seconds_stuck()
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


def run(make_service: Callable[[], Service], settings: ServiceSettings, name: str) -> None:
    """Run a replica until SIGTERM or SIGINT; the whole of `python -m asr` and `python -m tts`."""

    async def main() -> None:
        replica = Replica(make_service())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, replica.terminate.set)
        await replica.run()

    configure_logging(name, os.uname().nodename, settings.log_level)
    faulthandler.enable()
    uvloop.run(main())
