"""A replica that echoes as a process of its own: python -m tests.unit.echo_replica SETTINGS [hang|stuck].

SETTINGS is JSON. `hang`: its engine never stops. `stuck`: it makes no progress.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading

from serving.run import run
from tests.unit.fakes import EchoService

service = EchoService(port=0, admin_port=0, **json.loads(sys.argv[1]))
if "hang" in sys.argv:

    async def hang() -> None:
        await asyncio.to_thread(threading.Event().wait)

    service.stop = hang  # type: ignore[method-assign]
if "stuck" in sys.argv:
    service.stuck = 1e6
run(lambda: service, service.settings, "echo")
