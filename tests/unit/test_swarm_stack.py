"""The stack file of a swarm: what becomes of each thing that `docker compose config` tells."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarm.__main__ import main
from swarm.stack import LINGER_S, StackError, only, render
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

SECRETS = {"/p/.build/ca.pem": b"certificates", "/p/.build/pip.conf": b"[global]\n", "/dev/null": b""}


def service(**more: Any) -> dict[str, Any]:
    """A service as Compose tells one of the stack's."""
    return {
        "build": {"context": "/p"},
        "cap_drop": ["ALL"],
        "command": None,
        "entrypoint": None,
        "image": "chorus/asr:cpu",
        "init": True,
        "mem_limit": "1073741824",
        "networks": {"default": None},
        "pids_limit": 2048,
        "read_only": True,
        "restart": "unless-stopped",
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp:size=8g,mode=1777"],
        **more,
    }


def replica(name: str, **more: Any) -> dict[str, Any]:
    """One of the two replicated services."""
    return service(
        depends_on={"models": {"condition": "service_completed_successfully", "required": True}},
        environment={f"{name.upper()}_DRAIN_S": "60"},
        healthcheck={"test": ["CMD", "healthcheck", "9001"], "start_interval": "1s"},
        stop_grace_period="1m15s",
        secrets=[{"source": "api_keys", "target": "/run/secrets/api_keys"}],
        volumes=[{"type": "volume", "source": "models", "target": "/models", "read_only": True, "volume": {}}],
        **more,
    )


def project(**changed: dict[str, Any]) -> dict[str, Any]:
    """The whole, as `docker compose config --format json` tells it; changed keys by service."""
    bind = {"type": "bind", "source": "/p/.models", "target": "/local", "read_only": True}
    services = {
        "models": service(
            image="chorus/models",
            restart="on-failure:3",
            volumes=[
                {"type": "volume", "source": "models", "target": "/models", "volume": {}},
                {**bind, "bind": {"create_host_path": True}},
            ],
            secrets=[
                {"source": "pip_conf", "target": "/etc/pip.conf"},
                {"source": "ca_bundle", "target": "/run/secrets/ca_bundle"},
            ],
        ),
        "asr": replica("asr"),
        "tts": replica("tts", image="chorus/tts:cpu"),
        "nginx": service(
            image="chorus/nginx",
            environment={"NGINX_BALANCE": "least_conn"},
            ports=[
                {"mode": "ingress", "target": 8000, "published": "8000", "protocol": "tcp"},
                {"mode": "ingress", "target": 8080, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"},
            ],
        ),
    }
    for name, more in changed.items():
        services[name] = {**services.get(name, {}), **more}
    return {
        "name": "chorus",
        "networks": {"default": {"name": "chorus_default", "ipam": {}}},
        "secrets": {
            "api_keys": {"name": "chorus_api_keys", "file": "/dev/null"},
            "ca_bundle": {"name": "chorus_ca_bundle", "file": "/p/.build/ca.pem"},
            "pip_conf": {"name": "chorus_pip_conf", "file": "/p/.build/pip.conf"},
        },
        "services": services,
        "volumes": {"models": {"name": "chorus_models"}, "prometheus": {"name": "chorus_prometheus"}},
        "x-service": {},
    }


def rendered(config: dict[str, Any], **how: Any) -> dict[str, Any]:
    """The stack file."""
    return render(config, **{"read": SECRETS.__getitem__, **how}).file


def notes(config: dict[str, Any], **how: Any) -> str:
    """What of Compose's it does not have."""
    return "\n".join(render(config, **{"read": SECRETS.__getitem__, **how}).notes)


def test_a_replicated_service_says_all_that_compose_says_in_swarms_words() -> None:
    """Limits, restarts and tmpfs; new replicas first; no address of its own but those of its replicas."""
    assert rendered(project(), replicas={"asr": 4})["services"]["asr"] == {
        "cap_drop": ["ALL"],
        "deploy": {
            "mode": "replicated",
            "replicas": 4,
            "endpoint_mode": "dnsrr",
            "resources": {"limits": {"memory": "1073741824", "pids": 2048}},
            "restart_policy": {"condition": "any", "delay": "5s"},
            "rollback_config": {"order": "start-first", "parallelism": 1},
            "update_config": {"failure_action": "rollback", "order": "start-first", "parallelism": 1},
        },
        "environment": {"ASR_DRAIN_S": "60", "ASR_LINGER_S": str(LINGER_S)},
        "healthcheck": {"test": ["CMD", "healthcheck", "9001"], "start_interval": "1s"},
        "image": "chorus/asr:cpu",
        "init": True,
        "read_only": True,
        "stop_grace_period": "1m15s",
        "volumes": [
            {"type": "volume", "source": "models", "target": "/models", "read_only": True},
            {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 8 * 2**30}},
        ],
    }


def test_models_are_a_job_on_every_node() -> None:
    """It tries as often as Compose lets it; its secrets lie where Compose puts them."""
    made = rendered(project())["services"]["models"]
    assert made["deploy"]["mode"] == "global-job"
    assert made["deploy"]["restart_policy"] == {"condition": "on-failure", "delay": "5s", "max_attempts": 3}
    assert [each["target"] for each in made["secrets"]] == ["/etc/pip.conf", "/run/secrets/ca_bundle"]
    assert [each["source"] for each in made["volumes"][:2]] == ["models", "/p/.models"]


def test_nginx_is_on_every_manager_and_follows_the_tasks() -> None:
    """It publishes on its own node, stops before its successor starts, and asks for the replicas by Swarm's names."""
    made = rendered(project())["services"]["nginx"]
    assert made["environment"] == {
        "NGINX_BALANCE": "least_conn", "NGINX_ASR_HOST": "tasks.asr", "NGINX_TTS_HOST": "tasks.tts",
    }  # fmt: skip
    assert made["ports"] == [{"target": 8000, "published": 8000, "protocol": "tcp", "mode": "host"}]
    assert made["deploy"]["mode"] == "global"
    assert made["deploy"]["placement"] == {"constraints": ["node.role == manager"]}
    assert "order" not in made["deploy"]["update_config"]


def test_ports_of_one_address_are_left_out_and_told() -> None:
    """Swarm would publish them to everybody."""
    told = notes(project())
    assert "nginx: without 8080" in told
    assert "8000" not in told


@pytest.mark.parametrize("published", ["8000-8010", "", None])
def test_a_port_that_is_not_single_and_named_is_refused(published: str | None) -> None:
    """A node could not know where to find it."""
    with pytest.raises(StackError, match="nginx: port 8000"):
        rendered(project(nginx={"ports": [{"target": 8000, "published": published}]}))


@pytest.mark.parametrize(
    ("restart", "policy"),
    [
        (None, {"condition": "none"}),
        ("no", {"condition": "none"}),
        ("always", {"condition": "any"}),
        ("unless-stopped", {"condition": "any"}),
        ("on-failure", {"condition": "on-failure"}),
        ("on-failure:7", {"condition": "on-failure", "max_attempts": 7}),
    ],
)
def test_restarts(restart: str | None, policy: dict[str, Any]) -> None:
    """Swarm knows no stopped container that has to stay so."""
    made = rendered(project(asr={"restart": restart}))["services"]["asr"]
    assert made["deploy"]["restart_policy"] == {"delay": "5s", **policy}


def test_what_is_unknown_is_an_error_that_names_it() -> None:
    """Nothing that somebody asked for is lost unnoticed."""
    for changed, named in (
        ({"asr": {"shm_size": "64m"}}, "asr: shm_size"),
        ({"asr": {"restart": "sometimes"}}, "asr: restart: sometimes"),
        ({"asr": {"networks": {"default": None, "other": None}}}, "asr: networks: other"),
        ({"tts": {"deploy": {"mode": "global"}}}, "tts: deploy.mode"),
        ({"tts": {"tmpfs": ["/tmp:size=8g,uid=5"]}}, "tts: tmpfs /tmp:size=8g,uid=5"),
        ({"tts": {"tmpfs": ["/tmp:size=50%"]}}, "tts: 50% is no size"),
        ({"nginx": {"volumes": [{"type": "npipe", "source": "a", "target": "/a"}]}}, "nginx: a mount of type npipe"),
    ):
        with pytest.raises(StackError, match=named.replace(".", r"\.")):
            rendered(project(**changed))
    config = project()
    del config["services"]["tts"]
    with pytest.raises(StackError, match="no service tts"):
        rendered(config)
    config = project()
    config["secrets"]["ca_bundle"] = {"name": "chorus_ca_bundle", "environment": "CA"}
    with pytest.raises(StackError, match="secret ca_bundle"):
        rendered(config)


def test_what_is_empty_is_nobodys_wish() -> None:
    """Compose tells some keys that nobody has set."""
    made = rendered(project(asr={"shm_size": None, "devices": [], "sysctls": {}, "deploy": None}))["services"]["asr"]
    assert not {"shm_size", "devices", "sysctls", "command", "entrypoint"} & made.keys()


def test_further_limits_and_placements_are_carried_over() -> None:
    """Those of a file of one's own: cores, and which nodes."""
    deploy = {
        "placement": {"constraints": ["node.labels.front == yes"]},
        "resources": {"limits": {"cpus": "4"}, "reservations": {"memory": "1g"}},
        "replicas": 3,
    }
    services = rendered(project(asr={"deploy": deploy}, tts={"cpus": 1.5}, nginx={"deploy": deploy}))["services"]
    assert services["asr"]["deploy"]["placement"] == deploy["placement"]
    assert services["asr"]["deploy"]["replicas"] == 3
    assert services["asr"]["deploy"]["resources"] == {
        "limits": {"cpus": "4", "memory": "1073741824", "pids": 2048},
        "reservations": {"memory": "1g"},
    }
    assert services["tts"]["deploy"]["resources"]["limits"]["cpus"] == "1.5"
    assert services["tts"]["deploy"]["replicas"] == 1
    assert services["nginx"]["deploy"]["placement"] == deploy["placement"]


DEVICES = {
    "resources": {"reservations": {"devices": [{"capabilities": ["gpu"], "driver": "nvidia", "device_ids": ["0"]}]}},
    "placement": {},
}


def test_a_replica_on_a_gpu_takes_a_slot_and_runs_on_the_gpu_that_it_names(tmp_path: Path) -> None:
    """`1.3` is a slot of GPU 1; its process is the image's own, by the same name."""
    services = rendered(project(asr={"deploy": DEVICES}, tts={"deploy": DEVICES}))["services"]
    for name in ("asr", "tts"):
        made = services[name]
        assert made["deploy"]["resources"]["reservations"] == {
            "generic_resources": [{"discrete_resource_spec": {"kind": f"{name}_gpu", "value": 1}}]
        }
        assert made["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
        assert made["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        (tmp_path / "python3").write_text('#!/bin/sh\necho "$@ on $CUDA_VISIBLE_DEVICES"\n', encoding="utf-8")
        (tmp_path / "python3").chmod(0o755)
        # `docker stack deploy` takes `$$` for a dollar, as Compose does.
        command = [part.replace("$$", "$") for part in made["command"]]
        slot = {
            f"DOCKER_RESOURCE_{name.upper()}_GPU": "1.3",
            "SERVICE": name,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        }
        said = subprocess.run(command, env=slot, capture_output=True, text=True, check=True).stdout
        assert said == f"-m {name} on 1\n"
    own = (ROOT / "docker" / "service.Dockerfile").read_text(encoding="utf-8")
    assert r'CMD ["sh", "-c", "exec python3 -m \"$SERVICE\""]' in own
    assert "command" not in rendered(project())["services"]["asr"]


def test_a_secret_is_named_by_what_it_holds() -> None:
    """Swarm changes none: another content is another secret, the same content the same."""
    config = project()
    config["secrets"]["api_keys"]["file"] = "/p/keys"
    names = []
    for content in (b"app:1", b"app:1", b"app:2"):
        file = rendered(config, read={**SECRETS, "/p/keys": content}.__getitem__)
        assert file["services"]["asr"]["secrets"] == [{"source": "api_keys", "target": "/run/secrets/api_keys"}]
        assert file["secrets"]["api_keys"]["file"] == "/p/keys"
        names.append(file["secrets"]["api_keys"]["name"])
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("chorus_api_keys_")


def test_an_empty_secret_is_none() -> None:
    """/dev/null stands in where no keys are asked for, and Swarm takes nothing empty."""
    file = rendered(project())
    assert file["secrets"].keys() == {"ca_bundle", "pip_conf"}
    assert "secrets" not in file["services"]["asr"]


def test_a_secret_that_cannot_be_is_told(tmp_path: Path) -> None:
    """Too large, or not there."""
    with pytest.raises(StackError, match=r"secret ca_bundle: .* has 600000 bytes"):
        rendered(project(), read={**SECRETS, "/p/.build/ca.pem": bytes(600000)}.__getitem__)
    config = project()
    config["secrets"]["ca_bundle"]["file"] = str(tmp_path / "none")
    with pytest.raises(StackError, match=r"none can't be read \(No such file or directory\): make images"):
        render(config)


def test_images_are_those_that_nodes_know() -> None:
    """By their digests; a name that none is given for stays."""
    services = rendered(project(), images={"chorus/asr:cpu": "sha256:1"})["services"]
    assert services["asr"]["image"] == "sha256:1"
    assert services["nginx"]["image"] == "chorus/nginx"


def test_a_folder_of_the_project_is_on_one_node_alone() -> None:
    """With others it is left out and told; a folder elsewhere is taken to be on all of them."""
    assert "/p/.models" not in notes(project(), project=Path("/p"))
    assert "models: without /p/.models" in notes(project(), project=Path("/p"), nodes=2)
    volumes = rendered(project(), project=Path("/p"), nodes=2)["services"]["models"]["volumes"]
    assert "/local" not in [each["target"] for each in volumes]
    elsewhere = {"volumes": [{"type": "bind", "source": "/srv/models", "target": "/local", "read_only": True}]}
    volumes = rendered(project(models=elsewhere), project=Path("/p"), nodes=2)["services"]["models"]["volumes"]
    assert volumes[0] == elsewhere["volumes"][0]


def test_only_what_faces_clients_goes_into_the_swarm() -> None:
    """The rest stays with Compose, and is told; its volumes are not made."""
    config = project(prometheus=service(image="chorus/monitoring", shm_size="1g"))
    file = rendered(config)
    assert file["services"].keys() == {"models", "asr", "tts", "nginx"}
    assert file["volumes"] == {"models": {"name": "chorus_models"}}
    assert "left to Compose: prometheus" in notes(config)


def test_the_network_is_one_that_compose_can_join() -> None:
    """An overlay with the options of the project's."""
    config = project()
    config["networks"]["default"]["driver_opts"] = {"encrypted": "true"}
    assert rendered(config)["networks"] == {
        "default": {"driver": "overlay", "attachable": True, "driver_opts": {"encrypted": "true"}}
    }


def test_one_service_alone() -> None:
    """The same, without the others: the models go first."""
    whole = rendered(project())
    assert only(whole, "models") == {**whole, "services": {"models": whole["services"]["models"]}}


def test_the_command_writes_the_file_and_tells_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The file to standard output, notes and errors to standard error, 1 for what can't be said."""
    config = project()
    for name in ("ca_bundle", "pip_conf"):
        (tmp_path / name).write_text(name, encoding="utf-8")
        config["secrets"][name]["file"] = str(tmp_path / name)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(config)))
    assert main(["--image", "chorus/asr:cpu=sha256:1", "--replicas", "asr=4", "--nodes", "2"]) == 0
    out, told = capsys.readouterr()
    made = json.loads(out)["services"]
    assert (made["asr"]["image"], made["asr"]["deploy"]["replicas"], len(made)) == ("sha256:1", 4, 4)
    assert "note: nginx: without 8080" in told

    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(config)))
    assert main(["--only", "models"]) == 0
    assert json.loads(capsys.readouterr().out)["services"].keys() == {"models"}

    config["services"]["asr"]["shm_size"] = "1m"
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(config)))
    assert main([]) == 1
    out, told = capsys.readouterr()
    assert (out, "error: asr: shm_size" in told) == ("", True)


@pytest.mark.parametrize("wrong", [["--replicas", "nginx=2"], ["--replicas", "asr=many"], ["--image", "asr"]])
def test_a_wrong_argument_is_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is read."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert wrong[1] in capsys.readouterr().err
