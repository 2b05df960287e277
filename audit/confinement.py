"""How services, their images and their containers are confined: what is asked for, and what is so in the end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from audit.docker import docker, within
from audit.findings import Finding

PUBLIC_PORTS = frozenset(("8000", "8003"))
"""Those that clients reach from everywhere."""
GIVES_BACK = ("cap_add", "privileged", "devices", "pid", "ipc", "network_mode", "userns_mode")
"""Options that take confinement away."""
SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh"))
EVERYONES = re.compile(r"/dev(/|$)|/proc(/|$)")
"""What every container may write to: nothing of it is kept, or it is the kernel's to refuse."""


def of_service(name: str, service: dict[str, Any]) -> Iterator[Finding]:
    """What Compose is not told to keep a service from."""
    if not service.get("read_only"):
        yield Finding(name, "its root can be written to (read_only)")
    if service.get("cap_drop") != ["ALL"]:
        yield Finding(name, "it has capabilities (cap_drop)")
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield Finding(name, "its processes may gain privileges (security_opt)")
    for option in GIVES_BACK:
        if service.get(option):
            yield Finding(name, f"it is given more than it needs ({option})")
    if "docker.sock" in json.dumps(service.get("volumes", [])):
        yield Finding(name, "it can order Docker about (docker.sock)")
    for limit in ("mem_limit", "pids_limit"):
        if not service.get(limit):
            yield Finding(name, f"nothing bounds it ({limit})")
    for port in service.get("ports", []):
        if port["published"] not in PUBLIC_PORTS and port.get("host_ip", "0.0.0.0") in ("0.0.0.0", "::"):
            yield Finding(name, f"port {port['published']} is open to everybody")


def of_image(name: str, known: dict[str, Any]) -> Iterator[Finding]:
    """What an image would allow if it were started without Compose. Raises `DockerError`."""
    user = known["Config"].get("User", "")
    if not re.fullmatch(r"[1-9]\d*(:\d+)?", user):
        yield Finding(name, f"its user is not a number other than 0 (it is {user or 'root'!r})")
    for file in within(name, "find", "/", "-xdev", "-perm", "/6000", "-type", "f").split():
        yield Finding(name, f"{file} runs with its owner's rights (setuid, setgid)")
    for line in within(name, "cat", "/etc/passwd").splitlines():
        fields = line.split(":")
        if fields[2] == user.split(":")[0] and not fields[6].endswith(("/nologin", "/false")):
            yield Finding(name, f"its user may log in ({fields[6]})")


def of_container(name: str) -> Iterator[Finding]:
    """What the processes of a running container may do. Raises `DockerError`."""
    status = docker("exec", name, "cat", "/proc/1/status")
    if re.search(r"^Uid:.*\b0\b", status, re.M):
        yield Finding(name, "it runs as root")
    for kind in re.findall(r"^Cap(Inh|Prm|Eff|Bnd|Amb):\s+(?!0+$)", status, re.M):
        yield Finding(name, f"it has capabilities (Cap{kind})")
    if not re.search(r"^NoNewPrivs:\s+1$", status, re.M):
        yield Finding(name, "it may gain privileges (NoNewPrivs)")
    for path in writable(name):
        yield Finding(name, f"it can write to {path}, which is neither a tmpfs nor a volume")
    for process in docker("top", name, "-eo", "pid,comm").splitlines()[1:]:
        if process.split()[-1] in SHELLS:
            yield Finding(name, f"a shell is left running (pid {process.split()[0]})")


def writable(container: str) -> list[str]:
    """Paths that a container's user may write to, but for its tmpfs, its volumes and what every container has."""
    (known,) = json.loads(docker("inspect", container))
    allowed = [
        *(known["HostConfig"].get("Tmpfs") or {}),
        *(each["Destination"] for each in known["Mounts"] if each["RW"]),
    ]
    # A device that is mounted read-only can be written to nevertheless: /dev/null, where there is no file.
    allowed += [each["Destination"] for each in known["Mounts"] if each["Source"] == "/dev/null"]
    everything = ("find", "/", "-path", "/proc", "-prune", "-o", "-writable", "!", "-type", "l", "-print")
    found = docker("exec", container, *everything, partly=True).splitlines()
    return [path for path in found if not EVERYONES.match(path) and not any(_is_in(path, place) for place in allowed)]


def _is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place.rstrip('/')}/")
