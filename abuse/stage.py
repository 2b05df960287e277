"""Puts up what is to be abused, and takes it down again.

`direct` are replicas of this machine, without Docker. `nginx` is a Compose project of its own from the images that
`make up` has built, on ports of its own: what runs already is not touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from abuse.targets import SERVICES, Service, Target
from benchmarks.ports import free_ports
from benchmarks.replica import ROOT, Replica

PROJECT = "chorus-abuse"
INNER_PORTS = {"asr": (8000, 8001), "tts": (8003, 8002)}
"""nginx's: balanced, and of the first replica."""
SLOTS = 64
"""Of a replica: abuse is of what is let in."""
STUCK_S = 300
"""A machine that has other things to do is no engine that hangs."""


@contextmanager
def opened(vias: Sequence[str], services: Sequence[Service] = SERVICES) -> Iterator[list[Target]]:
    """The services, direct, behind nginx, or both ways."""
    with ExitStack() as stack:
        targets = []
        if "direct" in vias:
            targets += [stack.enter_context(replica(service)) for service in services]
        if "nginx" in vias:
            targets += [each for each in stack.enter_context(project()) if each.service in services]
        yield targets


@contextmanager
def replica(service: Service) -> Iterator[Target]:
    """A replica without Docker."""
    # Quiet as to what each stream did: a hundred thousand inputs would be as many lines.
    named = {"max_connections": SLOTS, "threads": 1, "log_level": "warning", "stuck_s": STUCK_S}
    with Replica(service, service.upper(), **named) as running:
        port, admin_port = running.ports
        yield Target(service, "direct", "127.0.0.1", port, admin_port)


@contextmanager
def project() -> Iterator[list[Target]]:
    """Both services behind nginx."""
    ports = dict(zip((port for pair in INNER_PORTS.values() for port in pair), free_ports(4), strict=True))
    published = [f"127.0.0.1:{outer}:{inner}" for inner, outer in ports.items()]
    images = _images()
    asr, tts = (
        json.dumps({f"{each}_LOG_LEVEL": "warning", f"{each}_THREADS": "1", f"{each}_STUCK_S": str(STUCK_S)})
        for each in ("ASR", "TTS")
    )
    with tempfile.TemporaryDirectory(prefix="chorus-abuse-") as folder:
        override = Path(folder) / "abuse.yaml"
        override.write_text(
            f"services:\n"
            f"  asr: {{image: {json.dumps(images['asr'])}, environment: {asr}}}\n"
            f"  tts: {{image: {json.dumps(images['tts'])}, environment: {tts}}}\n"
            f"  nginx: {{image: {json.dumps(images['nginx'])}, ports: !override {json.dumps(published)}}}\n",
            encoding="utf-8",
        )
        environment = os.environ | {
            "COMPOSE_FILE": f"compose.yaml:compose.cpu.yaml:{override}",
            "COMPOSE_PROFILES": "",
            "ASR_MAX_CONNECTIONS": str(SLOTS),
            "TTS_MAX_CONNECTIONS": str(SLOTS),
            "CHORUS_API_KEYS_FILE": "",
        }

        def compose(*arguments: str) -> None:
            command = ["docker", "compose", "-p", PROJECT, *arguments]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")

        try:
            compose("run", "--rm", "--no-deps", "-T", "models")
            compose("up", "-d", "--no-build", "--no-deps", "--wait", "--wait-timeout", "300", "asr", "tts", "nginx")
            yield [
                Target(service, "nginx", "127.0.0.1", ports[INNER_PORTS[service][0]], ports[INNER_PORTS[service][1]])
                for service in SERVICES
            ]
        finally:
            compose("down", "--volumes", "--timeout", "5")


def _images() -> dict[str, str]:
    """What `make up` has built for this machine, or others by `ABUSE_IMAGES=asr=…,tts=…,nginx=…`."""
    images = {"asr": "chorus/asr:cpu", "tts": "chorus/tts:cpu", "nginx": "chorus/nginx"}
    given = os.environ.get("ABUSE_IMAGES", "")
    return images | dict(pair.split("=", 1) for pair in given.split(",") if pair)
