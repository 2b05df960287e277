"""From `docker compose config` to a stack file: what Swarm refuses is said in its own words, or told to be left out.

A service's keys that mean the same to Swarm are carried over, those below are translated, some are needless there, and
any other is an error, so that nothing that compose.yaml asks for is lost unnoticed.

    restart, mem_limit, pids_limit, cpus     deploy.restart_policy, deploy.resources.limits
    devices of a GPU                         one slot of a generic resource, `asr_gpu` or `tts_gpu`
    tmpfs                                    a volume of that type
    ports                                    of the node that runs the service; none that are bound to an address
    secrets                                  named by what they hold, since one of Swarm never changes
    models, once before the others           a job, once on every node
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = "3.13"
MODELS, FRONT = "models", "nginx"
REPLICATED = ("asr", "tts")
SERVICES = (MODELS, *REPLICATED, FRONT)
"""The services that a swarm gets; all others (monitoring, load test) stay with Compose."""

CARRIED = frozenset(
    (
        "cap_add", "cap_drop", "command", "dns", "entrypoint", "environment", "extra_hosts", "healthcheck", "hostname",
        "init", "labels", "logging", "read_only", "stop_grace_period", "stop_signal", "sysctls", "ulimits", "user",
        "working_dir",
    )
)  # fmt: skip
TRANSLATED = frozenset(
    ("cpus", "deploy", "image", "mem_limit", "pids_limit", "ports", "restart", "secrets", "tmpfs", "volumes")
)
NEEDLESS = frozenset(
    (
        "build",  # images are there already
        "cgroup_parent", "container_name",  # of one machine
        "depends_on",  # the models' job is deployed first, and waited for
        "networks",  # the one of the stack
        "profiles", "pull_policy",
        "security_opt",  # told
    )
)  # fmt: skip
DEPLOY = frozenset(("labels", "placement", "replicas", "resources"))

LINGER_S = 5
"""Seconds for which a replica that is told to go still takes streams: nginx asks for the list of replicas every second,
and what a node tells of its containers reaches the others within a few."""
RESTART_DELAY = "5s"
MOST_SECRET_BYTES = 500 * 1024
"""Swarm's own limit."""
UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}

Service = dict[str, Any]


class StackError(ValueError):
    """Something that can't be said to Swarm; the message names it."""


@dataclass
class Stack:
    """A stack file, and what of Compose's it does not have."""

    file: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def render(
    config: Mapping[str, Any],
    *,
    images: Mapping[str, str] | None = None,
    replicas: Mapping[str, int] | None = None,
    nodes: int = 1,
    project: Path | None = None,
    read: Callable[[str], bytes] | None = None,
) -> Stack:
    """The stack file of a project's configuration (`docker compose config --format json`, parsed).

    `images` has what nodes are to run in place of an image's name, which may mean another image tomorrow; `replicas`
    the numbers of replicas (1 where there is none); `nodes` those of the swarm; `project` the folder whose files other
    nodes don't have; `read` reads a secret's file. Raises `StackError`.
    """
    stack = Stack({})
    services = {}
    secrets = _secrets(config, read or (lambda path: Path(path).read_bytes()))
    volumes: set[str] = set()
    for name in SERVICES:
        if name not in config["services"]:
            raise StackError(f"there is no service {name}: COMPOSE_FILE needs compose.yaml, and not compose.swarm.yaml")
        given = config["services"][name]
        made = _service(name, given, stack.notes)
        made["image"] = (images or {}).get(given["image"], given["image"])
        made["deploy"]["endpoint_mode"] = "dnsrr"
        if name in REPLICATED:
            made["deploy"]["replicas"] = (replicas or {}).get(name, _given_deploy(given).get("replicas", 1))
        if held := [each for each in given.get("secrets", []) if each["source"] in secrets]:
            made["secrets"] = held
        if mounts := _mounts(name, given, nodes, project, stack.notes):
            made["volumes"] = mounts
            volumes |= {mount["source"] for mount in mounts if mount["type"] == "volume"}
        if ports := _ports(name, given, stack.notes):
            made["ports"] = ports
        services[name] = made
    if options := sorted({each for name in SERVICES for each in config["services"][name].get("security_opt") or []}):
        stack.notes.append(f"without security_opt ({', '.join(options)}), which Swarm can't say: see docs/swarm.md")
    if left := sorted(config["services"].keys() - services.keys()):
        stack.notes.append(f"left to Compose: {', '.join(left)}")
    network = config.get("networks", {}).get("default", {})
    stack.file = {
        "version": VERSION,
        "services": services,
        # Attachable: what Compose runs beside the stack, the monitoring for one, reaches it there.
        "networks": {"default": {"driver": "overlay", "attachable": True} | _only(network, "driver_opts", "internal")},
        "volumes": {name: _only(config["volumes"][name], "name", "driver", "driver_opts") for name in sorted(volumes)},
        "secrets": secrets,
    }
    return stack


def only(stack: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The same stack file with one service of its services."""
    return {**stack, "services": {name: stack["services"][name]}}


def _only(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names if given.get(name)}


def _service(name: str, given: Service, notes: list[str]) -> Service:
    asked = {key for key, value in given.items() if value not in (None, [], {})}
    if unknown := sorted(asked - CARRIED - TRANSLATED - NEEDLESS):
        raise StackError(f"{name}: {', '.join(unknown)} can't be said to Swarm (swarm/stack.py has what can)")
    if further := sorted((given.get("networks") or {}).keys() - {"default"}):
        raise StackError(f"{name}: networks: {', '.join(further)}: the stack has one network")
    made = {key: given[key] for key in sorted(asked & CARRIED)}
    made["deploy"] = _deploy(name, given)
    environment: dict[str, str] = dict(made.get("environment", {}))
    if name in REPLICATED:
        environment[f"{name.upper()}_LINGER_S"] = str(LINGER_S)
        if _devices(given):
            environment |= {"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
            made["command"] = _on_the_slots_gpu(_kind(name))
    if name == FRONT:
        environment |= {f"NGINX_{each.upper()}_HOST": f"tasks.{each}" for each in REPLICATED}
    if environment:
        made["environment"] = environment
    return made


def _kind(name: str) -> str:
    """Of the generic resource of which a replica takes one."""
    return f"{name}_gpu"


def _on_the_slots_gpu(kind: str) -> list[str]:
    """The image's own command, on the GPU that the name of the slot begins with: `1.3` is the third slot of GPU 1."""
    slot = f"DOCKER_RESOURCE_{kind.upper()}"
    return ["sh", "-c", f'CUDA_VISIBLE_DEVICES="$${{{slot}%%.*}}" exec python3 -m "$$SERVICE"']


def _given_deploy(given: Service) -> dict[str, Any]:
    found: dict[str, Any] = given.get("deploy") or {}
    return found


def _devices(given: Service) -> list[Any]:
    reservations = (_given_deploy(given).get("resources") or {}).get("reservations") or {}
    found: list[Any] = reservations.get("devices") or []
    return found


def _deploy(name: str, given: Service) -> dict[str, Any]:
    asked = _given_deploy(given)
    if unknown := sorted(asked.keys() - DEPLOY):
        raise StackError(f"{name}: deploy.{', deploy.'.join(unknown)} is for swarm/stack.py to choose")
    made: dict[str, Any] = _only(asked, "labels", "placement") | {"restart_policy": _restart(name, given)}
    if name == MODELS:
        made["mode"] = "global-job"
    elif name == FRONT:
        made |= {"mode": "global", "update_config": {"parallelism": 1, "failure_action": "rollback"}}
        made["placement"] = {"constraints": ["node.role == manager"], **made.get("placement", {})}
    else:
        # The old one is told to go when the new one is healthy; where no new one ever is, all is taken back.
        order = {"parallelism": 1, "order": "start-first"}
        made |= {
            "mode": "replicated",
            "update_config": order | {"failure_action": "rollback"},
            "rollback_config": order,
        }
    if resources := _resources(name, given):
        made["resources"] = resources
    return made


def _restart(name: str, given: Service) -> dict[str, Any]:
    policy, _, attempts = str(given.get("restart") or "no").partition(":")
    conditions = {"no": "none", "always": "any", "unless-stopped": "any", "on-failure": "on-failure"}
    if policy not in conditions:
        raise StackError(f"{name}: restart: {given['restart']} is unknown")
    made: dict[str, Any] = {"condition": conditions[policy], "delay": RESTART_DELAY}
    if attempts:
        made["max_attempts"] = int(attempts)
    return made


def _resources(name: str, given: Service) -> dict[str, Any]:
    asked = _given_deploy(given).get("resources") or {}
    limits = dict(asked.get("limits") or {})
    reservations = {key: value for key, value in (asked.get("reservations") or {}).items() if key != "devices"}
    for key, limit in (("mem_limit", "memory"), ("pids_limit", "pids"), ("cpus", "cpus")):
        if given.get(key):
            limits[limit] = int(given[key]) if limit == "pids" else str(given[key])
    if _devices(given):
        slot = {"discrete_resource_spec": {"kind": _kind(name), "value": 1}}
        reservations["generic_resources"] = [*reservations.get("generic_resources", []), slot]
    return _only({"limits": limits, "reservations": reservations}, "limits", "reservations")


def _mounts(name: str, given: Service, nodes: int, project: Path | None, notes: list[str]) -> list[dict[str, Any]]:
    made = []
    for each in given.get("volumes") or []:
        if each["type"] not in ("volume", "bind"):
            raise StackError(f"{name}: a mount of type {each['type']} can't be said to Swarm")
        if each["type"] == "bind" and nodes > 1 and project and Path(each["source"]).is_relative_to(project):
            notes.append(f"{name}: without {each['source']}, a folder of this machine that other nodes don't have")
            continue
        made.append(_only(each, "type", "source", "target", "read_only"))
    for tmpfs in given.get("tmpfs") or []:
        target, _, text = tmpfs.partition(":")
        options = dict(option.partition("=")[::2] for option in text.split(",") if option)
        if options.keys() - {"size", "mode"} or options.get("mode", "1777") != "1777":
            raise StackError(f"{name}: tmpfs {tmpfs}: Swarm knows its size alone, and its mode is 1777")
        size = {"size": _bytes(name, options["size"])} if "size" in options else {}
        made.append({"type": "tmpfs", "target": target, "tmpfs": size})
    return made


def _bytes(name: str, size: str) -> int:
    found = re.fullmatch(r"(\d+)([bkmg]?)b?", size.lower())
    if not found:
        raise StackError(f"{name}: {size} is no size")
    return int(found[1]) * UNITS[found[2]]


def _ports(name: str, given: Service, notes: list[str]) -> list[dict[str, Any]]:
    """Published by the node that runs the service itself: the client's address stays, and every stream is one hop."""
    made, bound = [], []
    for each in given.get("ports") or []:
        if each.get("host_ip") not in (None, "", "0.0.0.0", "::"):
            bound.append(each["published"])
            continue
        if not str(each.get("published", "")).isdecimal():
            raise StackError(f"{name}: port {each['target']}: a swarm publishes single ports that are named")
        port = {"target": each["target"], "published": int(each["published"])}
        made.append({**port, "protocol": each.get("protocol", "tcp"), "mode": "host"})
    if bound:
        notes.append(
            f"{name}: without {', '.join(bound)}, which are bound to one address: Swarm would open them to everybody"
        )
    return made


def _secrets(config: Mapping[str, Any], read: Callable[[str], bytes]) -> dict[str, Any]:
    """Of the services that the swarm gets, those that hold something: Swarm takes no empty one."""
    made = {}
    wanted = {each["source"] for name in SERVICES for each in config["services"].get(name, {}).get("secrets") or []}
    for name in sorted(wanted):
        file = config["secrets"][name].get("file")
        if not file:
            raise StackError(f"secret {name}: Swarm gets those that come from files")
        try:
            content = read(file)
        except OSError as error:
            raise StackError(f"secret {name}: {file} can't be read ({error.strerror}): make images") from None
        if len(content) > MOST_SECRET_BYTES:
            raise StackError(f"secret {name}: {file} has {len(content)} bytes, Swarm takes {MOST_SECRET_BYTES}")
        if content:
            digest = hashlib.sha256(content).hexdigest()[:12]
            made[name] = {"name": f"{config['name']}_{name}_{digest}", "file": file}
    return made
