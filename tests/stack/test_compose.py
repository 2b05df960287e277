"""What Compose makes of compose.yaml, with and without the CPU overlay, and what runs in the end."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from asr.settings import AsrSettings
from serving.settings import ServiceSettings
from tests.conftest import ROOT
from tests.stack.conftest import compose_config, containers, docker, scale
from tts.settings import TtsSettings

pytestmark = pytest.mark.stack

GPU = "compose.yaml"
CPU = "compose.yaml:compose.cpu.yaml"
INTERNAL = {"host", "port", "admin_port", "device", "models_dir", "model"}
"""Settings that compose.yaml fixes, or names otherwise."""


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
    for name, service in compose_config(COMPOSE_FILE=files)["services"].items():
        assert service["init"], name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
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


def test_draining_fits_into_the_grace_period() -> None:
    """The service's own drain ends before Docker's patience does."""
    for settings in (AsrSettings(), TtsSettings()):
        assert settings.drain_s < 75


@pytest.mark.parametrize("container", ["chorus-asr-1", "chorus-tts-1", "chorus-nginx-1"])
def test_nothing_runs_as_root_or_writes_outside_its_volumes(container: str) -> None:
    """The process is nobody special, and its root cannot be written."""
    assert docker("exec", container, "id", "-u").strip() == "10001"
    assert not docker("exec", container, "sh", "-c", "touch /anything 2>/dev/null && echo written", check=False)


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
    assert listed().keys() - variables.keys() == {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    assert {name: listed().get(name) for name in variables} == variables


@pytest.mark.parametrize(("prefix", "kind"), [("ASR_", AsrSettings), ("TTS_", TtsSettings)])
def test_env_example_knows_every_setting_of_the_services(prefix: str, kind: type[ServiceSettings]) -> None:
    """A setting that the service has can be set, and the default shown is the real one."""
    for name, field in kind.model_fields.items():
        if name in INTERNAL or name == "voices":
            continue
        shown = listed().get(f"{prefix}{name.upper()}")
        assert shown is not None, f"{prefix}{name.upper()} is missing"
        assert shown == f"{field.default:g}" if isinstance(field.default, float) else shown == str(field.default)


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
