"""The audit: what it finds in services, images and containers that are not confined, and when it fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit import __main__ as command
from audit import confinement, vulnerabilities
from audit.findings import Finding

pytestmark = pytest.mark.unit

CONFINED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "mem_limit": "1000",
    "pids_limit": 10,
    "ports": [{"published": "8000"}, {"published": "8080", "host_ip": "127.0.0.1"}],
    "volumes": [{"source": "models"}],
}
STATUS = """Name:\tdocker-init
Uid:\t10001\t10001\t10001\t10001
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
"""
PASSWD = "root:x:0:0:root:/root:/bin/bash\nchorus:x:10001:10001::/home/chorus:/usr/sbin/nologin\n"
CONTAINER = {
    "HostConfig": {"Tmpfs": {"/tmp": ""}},
    "Mounts": [
        {"Destination": "/models", "Source": "/var/lib/docker/models", "RW": False},
        {"Destination": "/data", "Source": "/var/lib/docker/data", "RW": True},
        {"Destination": "/run/tls", "Source": "/dev/null", "RW": False},
    ],
}
WRITABLE = "/tmp\n/tmp/nginx.pid\n/dev/null\n/data/wal/0001\n/run/tls\n"


def test_a_confined_service_has_no_findings() -> None:
    """As compose.yaml starts all of them."""
    assert list(confinement.of_service("asr", CONFINED)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"read_only": False}, "read_only"),
        ({"cap_drop": []}, "cap_drop"),
        ({"cap_add": ["NET_RAW"]}, "cap_add"),
        ({"security_opt": []}, "security_opt"),
        ({"privileged": True}, "privileged"),
        ({"network_mode": "host"}, "network_mode"),
        ({"volumes": [{"source": "/var/run/docker.sock"}]}, "docker.sock"),
        ({"mem_limit": None}, "mem_limit"),
        ({"pids_limit": None}, "pids_limit"),
        ({"ports": [{"published": "9090"}]}, "port 9090"),
        ({"ports": [{"published": "9090", "host_ip": "0.0.0.0"}]}, "port 9090"),
    ],
)
def test_what_a_service_may_too_much_is_found(changed: dict[str, Any], said: str) -> None:
    """Each by itself, and nothing else."""
    (finding,) = confinement.of_service("asr", CONFINED | changed)
    assert finding.place == "asr"
    assert said in finding.what


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has docker answer: by what a command contains, what it prints."""

    def set_up(**answers: str) -> None:
        def docker(*arguments: str, partly: bool = False) -> str:
            return next(answer for part, answer in answers.items() if part in " ".join(arguments))

        monkeypatch.setattr(confinement, "docker", docker)
        monkeypatch.setattr(confinement, "within", lambda _image, *arguments: docker(*arguments))

    return set_up


@pytest.mark.parametrize(
    ("user", "setuid", "passwd", "said"),
    [
        ("10001:10001", "", PASSWD, []),
        ("", "", PASSWD, ["root"]),
        ("0", "", PASSWD, ["'0'"]),
        ("chorus", "", PASSWD, ["'chorus'"]),
        ("10001", "/usr/bin/su\n/usr/bin/mount\n", PASSWD, ["/usr/bin/su", "/usr/bin/mount"]),
        ("10001", "", PASSWD.replace("/usr/sbin/nologin", "/bin/sh"), ["/bin/sh"]),
    ],
)
def test_what_an_image_allows_is_found(
    says: Callable[..., None], user: str, setuid: str, passwd: str, said: list[str]
) -> None:
    """Its user, files that run with their owner's rights, and who may log in."""
    says(find=setuid, passwd=passwd)
    found = [each.what for each in confinement.of_image("chorus/asr", {"Config": {"User": user}})]
    assert len([each for each in found if "log in" not in each or "/bin/sh" in said]) == len(said)
    for part in said:
        assert any(part in each for each in found)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"status": STATUS.replace("10001", "0")}, ["root"]),
        ({"status": STATUS.replace("CapEff:\t0", "CapEff:\t8")}, ["CapEff"]),
        ({"status": STATUS.replace("Privs:\t1", "Privs:\t0")}, ["NoNewPrivs"]),
        ({"find": WRITABLE + "/etc/passwd\n/tmpfile\n"}, ["/etc/passwd", "/tmpfile"]),
        ({"find": WRITABLE + "/models/x\n"}, ["/models/x"]),
        ({"top": "PID COMMAND\n10 docker-init\n11 bash\n"}, ["pid 11"]),
    ],
)
def test_what_a_container_may_is_found(says: Callable[..., None], changed: dict[str, str], said: list[str]) -> None:
    """It is asked in the container itself, whatever Compose was told."""
    says(
        **{
            "status": STATUS,
            "find": WRITABLE,
            "inspect": json.dumps([CONTAINER]),
            "top": "PID COMMAND\n1 docker-init\n",
        }
        | changed
    )
    found = [each.what for each in confinement.of_container("chorus-nginx-1")]
    assert len(found) == len(said)
    for part, each in zip(said, found, strict=True):
        assert part in each


def pip_audit(monkeypatch: pytest.MonkeyPatch, out: str, error: str = "") -> None:
    """Have pip-audit say this."""
    done = subprocess.CompletedProcess([], 1, out, error)
    monkeypatch.setattr(vulnerabilities.subprocess, "run", lambda *_args, **_options: done)


def test_vulnerabilities_are_told_with_what_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that PyPI does not know is told apart."""
    holes = [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}, {"id": "PYSEC-2", "fix_versions": []}]
    packages = [{"name": "a", "version": "1.0", "vulns": holes}, {"name": "b", "version": "2", "vulns": []},
                {"name": "ours", "skip_reason": "Dependency not found"}]  # fmt: skip
    pip_audit(monkeypatch, json.dumps({"dependencies": packages}))
    found, unknown = vulnerabilities.of_requirements(Path("asr-cpu.txt"))
    assert [str(each) for each in found] == [
        "asr-cpu.txt: a 1.0 has PYSEC-1; mended in 1.1, 2.0",
        "asr-cpu.txt: a 1.0 has PYSEC-2; nothing mends it yet",
    ]
    assert unknown == ["ours"]


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ("", "ERROR: connection refused"),
        (json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}]}), ""),
    ],
)
def test_no_answer_is_not_no_vulnerability(monkeypatch: pytest.MonkeyPatch, out: str, error: str) -> None:
    """PyPI is away, or a mirror knows packages but nothing of what is wrong with them."""
    pip_audit(monkeypatch, out, error)
    with pytest.raises(vulnerabilities.NotAnswered, match=r"refused|none of the packages"):
        vulnerabilities.of_requirements(Path("asr-cpu.txt"))


@pytest.mark.parametrize(("findings", "status"), [([], 0), ([Finding("nginx", "it runs as root")], 1)])
def test_findings_alone_make_it_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: list[Finding], status: int
) -> None:
    """What could not be asked does not."""

    def away(_file: Path) -> None:
        raise vulnerabilities.NotAnswered("connection refused")

    monkeypatch.setattr(vulnerabilities, "of_requirements", away)
    monkeypatch.setattr(command, "_confinement", lambda: findings)
    monkeypatch.setattr(command, "_bills", lambda _folder: ())
    assert command.main(Path()) == status
    out = capsys.readouterr().out
    assert out.count("no answer") == 1
    assert ("FINDING  nginx: it runs as root" in out) == bool(findings)
