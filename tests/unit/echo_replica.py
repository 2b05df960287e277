"""A replica that echoes as a process of its own: python -m tests.unit.echo_replica SETTINGS [hang|stuck|busy].

SETTINGS is JSON. `hang`: its engine never stops. `stuck`: it makes no progress. `busy`: one piece of work after the
other, each of a second of its process's own time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time

from serving.run import run
from tests.unit.fakes import EchoService

service = EchoService(port=0, admin_port=0, **json.loads(sys.argv[1]))
if "hang" in sys.argv:

    async def hang() -> None:
        await asyncio.to_thread(threading.Event().wait)

    service.stop = hang  # type: ignore[method-assign]
if "stuck" in sys.argv:
    service.stuck = 1e6
if "busy" in sys.argv:
    began = time.monotonic()

    def work() -> None:
        global began
        while True:
            began = time.monotonic()
            for _ in range(20):
                time.sleep(0.05)

    threading.Thread(target=work, daemon=True).start()
    service.seconds_stuck = lambda: time.monotonic() - began  # type: ignore[method-assign]
run(lambda: service, service.settings, "echo")
