"""What Compose makes of compose.yaml, with and without the CPU overlay, and what runs in the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from asr.settings import AsrSettings
from loadtest.settings import LoadSettings
from serving.run import longest_end_s
from serving.settings import ServiceSettings
from tests.conftest import ROOT
from tests.stack.conftest import compose_config, containers, docker, scale
from tts.settings import TtsSettings

pytestmark = pytest.mark.stack

GPU = "compose.yaml"
CPU = "compose.yaml:compose.cpu.yaml"
INTERNAL = {"host", "port", "admin_port", "device", "models_dir", "model", "linger_s"}
"""Settings that compose.yaml or a swarm's stack file fixes, or names otherwise."""


@pytest.mark.parametrize(("env", "asr", "tts"), [({}, "0", "1"), ({"ASR_GPU": "2", "TTS_GPU": "3"}, "2", "3")])
def test_every_replica_reserves_its_services_gpu(env: dict[str, str], asr: str, tts: str) -> None:
    """Device ids are pinned per service and follow ASR_GPU and TTS_GPU."""
    services = compose_config(COMPOSE_FILE=GPU, **env)["services"]
    for name, device in (("asr", asr), ("tts", tts)):
        (reserved,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert reserved["driver"] == "nvidia"
        assert reserved["device_ids"] == [device]
        assert reserved["capabilities"] == ["gpu"]
        assert services[name]["environment"][f"{name.upper()}_DEVICE"] == "cuda"


def test_the_cpu_overlay_takes_the_gpus_away() -> None:
    """No reservation is left, and the models are those that suit a CPU."""
    services = compose_config(COMPOSE_FILE=CPU)["services"]
    for name in ("asr", "tts"):
        assert "devices" not in str(services[name].get("deploy"))
        assert services[name]["environment"][f"{name.upper()}_DEVICE"] == "cpu"
    assert services["asr"]["environment"]["ASR_MODEL"] == "whisper-tiny.en"


@pytest.mark.parametrize("files", [GPU, CPU])
def test_every_service_is_hardened(files: str) -> None:
    """Init, read-only root, no capabilities, no new privileges, bounded logs, memory and processes, a health check."""
    for name, service in compose_config(COMPOSE_FILE=files, COMPOSE_PROFILES="loadtest")["services"].items():
        assert service["init"], name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # Nothing gives back what these take, nor reaches into the machine.
        assert not {"cap_add", "privileged", "user", "devices", "pid", "ipc", "network_mode"} & service.keys(), name
        assert "docker.sock" not in json.dumps(service.get("volumes", [])), name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        if name == "models":
            continue  # it ends by itself
        assert service["healthcheck"]["start_interval"], name
        if name in ("asr", "tts"):
            assert service["stop_grace_period"] == "1m15s", name
            assert service["depends_on"]["models"]["condition"] == "service_completed_successfully"
            assert all(volume["read_only"] for volume in service["volumes"])


def test_the_load_test_is_a_profile_that_only_this_machine_reaches() -> None:
    """`make up` neither builds nor starts it; its web UI, which puts load on the stack, is published on loopback."""
    assert not {"loadtest", "loadtest-worker"} & compose_config(COMPOSE_FILE=CPU)["services"].keys()
    services = compose_config(COMPOSE_FILE=CPU, COMPOSE_PROFILES="loadtest", LOCUST_WORKERS="3")["services"]
    (port,) = services["loadtest"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8089", 8089)
    assert "ports" not in services["loadtest-worker"]
    assert services["loadtest-worker"]["deploy"]["replicas"] == 3
    assert services["loadtest"]["command"] == ["--master", "--expect-workers", "3"]


def test_the_load_test_has_the_thresholds_of_what_it_runs_on() -> None:
    """Those of a GPU, or with the overlay those of a CPU, for master and workers alike."""
    for files, expected in ((GPU, "gpu"), (CPU, "cpu")):
        services = compose_config(COMPOSE_FILE=files, COMPOSE_PROFILES="loadtest")["services"]
        for name in ("loadtest", "loadtest-worker"):
            assert services[name]["environment"]["LOADTEST_THRESHOLDS"] == expected


def test_the_load_tests_settings_are_shown_with_their_defaults() -> None:
    """What compose.yaml hands in is what the people do without it, but for the addresses within the stack."""
    environment = compose_config(COMPOSE_FILE=GPU, COMPOSE_PROFILES="loadtest")["services"]["loadtest"]["environment"]
    for name, field in LoadSettings.model_fields.items():
        shown = environment.get(f"LOADTEST_{name.upper()}")
        if shown is None or name in ("asr_url", "tts_url"):
            continue
        assert shown == (f"{field.default:g}" if isinstance(field.default, float) else str(field.default)), name


@pytest.mark.parametrize(("bind", "address"), [({}, "127.0.0.1"), ({"CHORUS_ADMIN_BIND": "10.0.0.5"}, "10.0.0.5")])
def test_every_port_but_the_two_of_the_services_is_bound_to_loopback(bind: dict[str, str], address: str) -> None:
    """Of every service, those of profiles included; one variable changes all."""
    services = compose_config(COMPOSE_FILE=CPU, COMPOSE_PROFILES="*", **bind)["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    public = {port["published"] for port in ports if port.get("host_ip") != address}
    assert public == {"8000", "8003"}
    assert len(ports) >= 15


SCAN = """
import concurrent.futures, ipaddress, socket, struct, sys
routes = [line.split() for line in open("/proc/net/route")]
(host,) = [str(ipaddress.ip_address(struct.pack("=L", int(each[2], 16)))) for each in routes if each[1] == "00000000"]
def reached(target):
    address, port = target.rsplit(":", 1)
    with socket.socket() as sock:
        sock.settimeout(3)
        return sock.connect_ex((address.replace("host", host), int(port))) == 0
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(*[target for target, open in zip(sys.argv[1:], pool.map(reached, sys.argv[1:])) if open])
"""


def test_another_network_reaches_nothing_but_the_two_ports() -> None:
    """A container of somebody else's tries every published port of this machine, and each container by its address."""
    services = compose_config(COMPOSE_PROFILES="*")["services"].values()
    ports = [port for each in services for port in each.get("ports", [])]
    targets = [f"host:{port['published']}" for port in ports]
    inspect = ("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    for service, inner in (("asr", (8001, 9001)), ("tts", (8002, 9002)), ("nginx", (8000, 8003, 8080, 8001))):
        for name in containers(service):
            targets += [f"{docker(*inspect, name).strip()}:{port}" for port in inner]
    network = f"chorus-test-stranger-{os.getpid()}"
    docker("network", "create", network)
    try:
        run = ("run", "--rm", "--network", network, "--entrypoint", "python3", "chorus/models", "-c", SCAN)
        assert docker(*run, *targets).split() == ["host:8000", "host:8003"]
    finally:
        docker("network", "rm", network)


def test_keys_and_origins_reach_both_services_alone() -> None:
    """The file of keys as a secret where one is named; where none is, nobody is told of the one that stands in."""
    named = {"CHORUS_API_KEYS_FILE": "./secrets/api_keys", "CHORUS_ALLOWED_ORIGINS": "https://app.example.com"}
    for given, path, file in (({}, "", "/dev/null"), (named, "/run/secrets/api_keys", f"{ROOT}/secrets/api_keys")):
        config = compose_config(COMPOSE_FILE=CPU, **{"CHORUS_API_KEYS_FILE": "", "CHORUS_ALLOWED_ORIGINS": ""} | given)
        assert config["secrets"]["api_keys"]["file"] == file
        for name, service in config["services"].items():
            holds = [secret["source"] for secret in service.get("secrets", [])]
            assert ("api_keys" in holds) == (name in ("asr", "tts")), name
            if name in ("asr", "tts"):
                assert service["environment"]["CHORUS_API_KEYS_FILE"] == path
                assert service["environment"]["CHORUS_ALLOWED_ORIGINS"] == given.get("CHORUS_ALLOWED_ORIGINS", "")


def test_the_certificate_reaches_nginx_alone_and_can_not_be_written() -> None:
    """Its folder, so that a renewed file is seen; where none is named, TLS is off."""
    for folder, source, tls in (("", "/dev/null", ""), ("./secrets/tls", f"{ROOT}/secrets/tls", "on")):
        for name, service in compose_config(COMPOSE_FILE=CPU, CHORUS_TLS_DIR=folder)["services"].items():
            mounts = [volume for volume in service.get("volumes", []) if volume["target"] == "/run/tls"]
            assert len(mounts) == (name == "nginx"), name
            if mounts:
                assert (mounts[0]["source"], mounts[0]["read_only"]) == (source, True)
                assert service["environment"]["NGINX_TLS"] == tls


@pytest.mark.parametrize("name", ["asr", "tts"])
def test_draining_fits_into_the_grace_period(name: str) -> None:
    """A replica ends by itself before Docker's patience does, which counts from the same signal."""
    service = compose_config()["services"][name]
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", service["stop_grace_period"]).groups(default="0")  # type: ignore[union-attr]
    grace_s = 60 * int(minutes) + int(seconds)
    assert longest_end_s(float(service["environment"][f"{name.upper()}_DRAIN_S"])) + 5 <= grace_s


@pytest.mark.parametrize("container", ["chorus-asr-1", "chorus-tts-1", "chorus-nginx-1"])
def test_a_process_is_nobody_and_writes_nowhere_but_to_tmpfs(container: str) -> None:
    """Its user is nobody special, holds no capability and can gain none; of all files it may write those of /tmp,
    beside what every container has in /dev and /proc; /dev/null also stands for keys and certificates where there are
    none."""
    assert docker("exec", container, "id", "-u").strip() == "10001"
    status = docker("exec", container, "cat", "/proc/1/status")
    for line in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{line}:\s+0+$", status, re.M), line
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    everything = ("find", "/", "-path", "/proc", "-prune", "-o", "-writable", "!", "-type", "l", "-print")
    found = docker("exec", container, *everything, check=False).split()
    assert "/tmp" in found
    nothing = r"/(tmp|dev)(/|$)|/run/(secrets/api_keys|tls)$"
    assert not [path for path in found if not re.match(nothing, path)]


@pytest.mark.parametrize("container", ["chorus-asr-1", "chorus-tts-1"])
def test_onnx_runtime_reports_to_nobody(container: str) -> None:
    """Its telemetry does not even start: where it does, it complains of the read-only root."""
    assert docker("exec", container, "printenv", "ORT_DISABLE_TELEMETRY").strip() == "1"
    said = docker("exec", container, "sh", "-c", "python3 -c 'import onnxruntime; print(onnxruntime.__version__)' 2>&1")
    assert re.fullmatch(r"[0-9.]+\n", said), said


def test_every_service_is_healthy() -> None:
    """`docker compose ps` shows it."""
    for name in (*containers("asr"), *containers("tts"), *containers("nginx")):
        assert docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() == "healthy", name


def listed() -> dict[str, str]:
    """Every setting of .env.example and its default there."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    found = re.findall(r"^# ([A-Z][A-Z0-9_]+)=(\S*)", text, re.M)
    return {name: value.strip('"') for name, value in found}


def test_a_line_of_env_example_works_once_its_first_hash_is_gone(tmp_path: Path) -> None:
    """Compose reads the value alone: what the line says about it is a comment."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    uncommented = tmp_path / "env"
    uncommented.write_text(re.sub(r"^# ([A-Z][A-Z0-9_]+=)", r"\1", text, flags=re.M), encoding="utf-8")
    for files in (GPU, CPU):
        out = docker(
            "compose", "--env-file", str(uncommented), "config", "--format", "json", env={"COMPOSE_FILE": files}
        )
        services = json.loads(out)["services"]
        assert services["asr"]["environment"]["ASR_LOG_LEVEL"] == "info"
        assert services["models"]["environment"]["HF_TOKEN"] == ""
        assert services["nginx"]["environment"]["NGINX_STATUS_ALLOW"] == ""
        for name in ("asr", "tts", "nginx"):
            for variable, value in services[name]["environment"].items():
                assert value == listed().get(variable, value), variable


def test_env_example_lists_every_variable_of_compose_with_its_default() -> None:
    """What compose.yaml reads is documented, and nothing else is."""
    variables: dict[str, str] = {}
    for file in ("compose.cpu.yaml", "compose.yaml"):
        text = Path(ROOT / file).read_text(encoding="utf-8")
        variables |= dict(re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", text))
    for_scripts = {"ASR_REPLICAS", "TTS_REPLICAS", "CHORUS_TLS_NAME", "SWARM_REGISTRY"}
    assert listed().keys() - variables.keys() == {"COMPOSE_FILE", "COMPOSE_PROFILES"} | for_scripts
    for name in ("CHORUS_API_KEYS_FILE", "CHORUS_TLS_DIR", "LOADTEST_CA_FILE"):
        variables[name] = ""  # /dev/null only stands in for it
    assert {name: listed().get(name) for name in variables} == variables


@pytest.mark.parametrize(("prefix", "kind"), [("ASR_", AsrSettings), ("TTS_", TtsSettings)])
def test_env_example_knows_every_setting_of_the_services(prefix: str, kind: type[ServiceSettings]) -> None:
    """A setting that the service has can be set, and the default shown is the real one."""
    for name, field in kind.model_fields.items():
        if name in INTERNAL or name == "voices":
            continue
        variable = str(field.validation_alias or f"{prefix}{name.upper()}")
        shown = listed().get(variable)
        assert shown is not None, f"{variable} is missing"
        default = "" if field.default is None else field.default
        assert shown == f"{default:g}" if isinstance(default, float) else shown == str(default)


@pytest.mark.parametrize("image", ["chorus/asr:cpu", "chorus/tts:cpu"])
def test_cpu_images_are_small(image: str) -> None:
    """At most 700 MB."""
    if image not in docker("images", "--format", "{{.Repository}}:{{.Tag}}"):
        return  # a GPU machine has not built them
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image)) <= 700e6


def test_make_up_again_keeps_the_replicas() -> None:
    """A stack that was scaled is left as it is, and the proof passes."""
    scale(asr=2)
    before = containers("asr")
    done = subprocess.run(["make", "up"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert containers("asr") == before
    assert len(before) == 2
    assert "heard" in done.stdout
    scale()
