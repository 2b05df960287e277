"""The systemd units: as systemd itself reads them, what they run, and how they are installed."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.test_scripts import run, stand_in

pytestmark = pytest.mark.unit

UNITS = {"chorus.target", "chorus-front.service", "chorus-asr.service", "chorus-tts.service"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's scripts and units in a folder whose name systemd could take for something else."""
    folder = tmp_path / "my chorus 100%n"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    (folder / "bin").mkdir()
    return folder


@pytest.fixture
def rendered(project: Path, tmp_path: Path) -> Path:
    """The units as they are installed, and an engine's beside them, whatever this machine has."""
    units = tmp_path / "units"
    units.mkdir()
    done = run(project, "scripts/systemd.sh", "render", str(units))
    assert done.returncode == 0, done.stderr
    assert {each.name for each in units.iterdir()} == UNITS
    (units / "docker.service").write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    return units


def verify(units: Path) -> str:
    """What `systemd-analyze verify` finds; nothing where all is right."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(units / name) for name in sorted(UNITS))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def read(unit: Path) -> configparser.ConfigParser:
    """A unit's sections."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit, encoding="utf-8")
    return parser


def test_systemd_has_nothing_to_say_about_the_units(rendered: Path) -> None:
    """`systemd-analyze verify` is silent, and is not where a key is wrong."""
    assert verify(rendered) == ""
    unit = rendered / "chorus-tts.service"
    unit.write_text(unit.read_text(encoding="utf-8").replace("TimeoutStopSec", "TimeoutStop"), encoding="utf-8")
    assert "TimeoutStop" in verify(rendered)


def test_the_units_run_in_the_projects_folder(project: Path, rendered: Path) -> None:
    """Each by its own script there; a percent sign in the folder's name is itself."""
    for name, service in (("asr", "asr"), ("tts", "tts"), ("front", "front")):
        section = read(rendered / f"chorus-{name}.service")["Service"]
        assert section["WorkingDirectory"] == str(project).replace("%", "%%")
        assert section["ExecStart"] == f"/bin/bash scripts/service.sh start {service}"
        assert section["ExecStop"] == f"/bin/bash scripts/service.sh stop {service}"
    assert "@" not in "".join(each.read_text(encoding="utf-8") for each in rendered.iterdir())


def test_replicas_stop_before_nginx_and_all_of_it_before_docker(rendered: Path) -> None:
    """Streams end with their replicas: what starts later is stopped earlier."""
    for name in ("asr", "tts"):
        unit = read(rendered / f"chorus-{name}.service")["Unit"]
        assert {"docker.service", "chorus-front.service"} <= set(unit["After"].split())
    assert read(rendered / "chorus-front.service")["Unit"]["After"] == "docker.service"
    for name in UNITS - {"chorus.target"}:
        unit = read(rendered / name)["Unit"]
        assert unit["Requires"] == "docker.service"
        assert unit["PartOf"] == "chorus.target"
        assert name in read(rendered / "chorus.target")["Unit"]["Wants"].split()


def test_a_stop_waits_longer_than_docker_does(rendered: Path) -> None:
    """Ten seconds more than the longest stop_grace_period of what the unit stops."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    grace = {name: int(each.get("stop_grace_period", "10s").removesuffix("s")) for name, each in services.items()}
    assert grace["asr"] == grace["tts"] == 75
    for name, stopped in (("asr", {"asr"}), ("tts", {"tts"}), ("front", grace.keys() - {"asr", "tts", "models"})):
        timeout = int(read(rendered / f"chorus-{name}.service")["Service"]["TimeoutStopSec"])
        assert timeout >= max(grace[each] for each in stopped) + 10


def test_the_front_is_all_but_the_replicas(project: Path) -> None:
    """As Compose lists it, with the profiles that are chosen."""
    services = "printf '%s\\n' models asr tts nginx prometheus"
    stand_in(project, "docker", f'case "$*" in *\'config --services\') {services} ;; *) echo "$*" >>calls ;; esac')
    for action in ("start", "stop"):
        assert run(project, "scripts/service.sh", action, "front").returncode == 0
    started, stopped = (project / "calls").read_text(encoding="utf-8").splitlines()
    assert started.endswith("--wait-timeout 300 nginx prometheus")
    assert stopped == "compose stop nginx prometheus"


def systemctl(project: Path, runs: bool = True) -> None:
    """A systemd that writes down what it is asked, or one that does not run this machine."""
    stand_in(project, "systemctl", 'echo "$*" >>calls' if runs else "exit 1")
    stand_in(project, "sudo", 'exec "$@"')


@pytest.mark.parametrize(("service", "enabled"), [((), "chorus.target"), (("asr",), "chorus-asr.service")])
def test_units_are_installed_enabled_and_taken_away(
    project: Path, tmp_path: Path, service: tuple[str, ...], enabled: str
) -> None:
    """What starts with the machine is what was asked for last; nothing is started or stopped."""
    systemctl(project)
    units = tmp_path / "system"
    units.mkdir()
    (units / "other.service").touch()
    done = run(project, "scripts/systemd.sh", "install", *service, UNITS_DIR=str(units))
    assert done.returncode == 0, done.stderr
    assert {each.name for each in units.iterdir()} == UNITS | {"other.service"}
    assert run(project, "scripts/systemd.sh", "uninstall", UNITS_DIR=str(units)).returncode == 0
    assert [each.name for each in units.iterdir()] == ["other.service"]
    calls = (project / "calls").read_text(encoding="utf-8").splitlines()
    assert [call for call in calls if " enable " in call] == [f"--quiet enable {enabled}"]
    assert calls.index(f"--quiet enable {enabled}") > calls.index("daemon-reload")
    assert not any(" start" in call or " stop" in call for call in calls)


def test_without_systemd_nothing_is_installed(project: Path, tmp_path: Path) -> None:
    """The message says why; a service that there is not is named."""
    systemctl(project, runs=False)
    done = run(project, "scripts/systemd.sh", "install", UNITS_DIR=str(tmp_path / "system"))
    assert done.returncode == 1
    assert "systemd does not run this machine" in done.stderr
    assert not (tmp_path / "system").exists()
    assert "got 'stt'" in run(project, "scripts/systemd.sh", "install", "stt").stderr
