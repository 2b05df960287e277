"""The shell scripts, with stand-ins for docker and nvidia-smi on their PATH: what they write, keep and refuse."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from serving.access import read_keys
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

CPU = "compose.yaml:compose.cpu.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with the scripts and .env.example alone, and `bin` for stand-ins."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / ".env.example", tmp_path)
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path, "docker", "exit 0")
    stand_in(tmp_path, "nvidia-smi", "exit 9")  # whatever this machine has
    return tmp_path


def stand_in(project: Path, name: str, body: str) -> None:
    """Put a program of this name first on the scripts' PATH."""
    program = project / "bin" / name
    program.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    program.chmod(0o755)


def gpus(project: Path, *names: str, driver: str = "580.65.06") -> None:
    """This machine has these GPUs, and the container toolkit."""
    stand_in(project, "nvidia-ctk", "exit 0")
    lines = {
        "driver_version": [driver] * len(names),
        "index": [str(index) for index in range(len(names))],
        "name": list(names),
    }
    cases = "\n".join(f"*{query}*) printf '%s\\n' {' '.join(map(repr, said))} ;;" for query, said in lines.items())
    stand_in(project, "nvidia-smi", f'case "$*" in\n{cases}\nesac')


def run(project: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder, with its stand-ins and no more of this machine's settings."""
    path = f"{project / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        command,
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path, "HOME": str(project), **env},
    )


def common(project: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell that has what scripts/common.sh gives."""
    return run(project, "bash", "-c", f"source scripts/common.sh; {script}")


def env_file(project: Path) -> str:
    """What .env holds."""
    return (project / ".env").read_text(encoding="utf-8")


def value(project: Path, name: str) -> str | None:
    """The value of a setting in .env."""
    found = re.findall(rf"^{name}=(.*)$", env_file(project), re.M)
    return found[-1] if found else None


@pytest.mark.parametrize(
    ("have", "wanted", "enough"),
    [
        ("28.5.2", "25.0", True),
        ("25.0.0", "25.0", True),
        ("24.0.9", "25.0", False),
        ("2.40.3-3", "2.24", True),
        ("2.9.0", "2.24", False),
        ("580.65.06", "580", True),
        ("57.9", "580", False),
        ("", "2.24", False),
    ],
)
def test_versions_are_compared_as_numbers(project: Path, have: str, wanted: str, enough: bool) -> None:
    """2.9 is older than 2.24, and no version at all is too old."""
    assert (common(project, f"version_at_least '{have}' '{wanted}'").returncode == 0) is enough


def test_a_setting_is_replaced_and_every_other_line_stays(project: Path) -> None:
    """Writing one's own line touches no other, and a second time nothing."""
    before = "# mine\nASR_MAX_CONNECTIONS=7  # seven\nTTS_GPU=1\nXTTS_GPU=5\n"
    (project / ".env").write_text(before, encoding="utf-8")
    for _ in range(2):
        common(project, "put_setting TTS_GPU 0; put_setting NEW a:b")
        assert env_file(project) == before.replace("\nTTS_GPU=1", "\nTTS_GPU=0") + "NEW=a:b\n"


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("A=1", "1"),
        ("A=1   # one", "1"),
        ('A=""', ""),
        ("A='x y'", "x y"),
        ("# A=1", ""),
        ("BA=1", ""),
        ("A=1\nA=2", "2"),
    ],
)
def test_settings_are_read_as_compose_reads_them(project: Path, line: str, read: str) -> None:
    """Without quotes and without comment; the last one counts."""
    (project / ".env").write_text(line + "\n", encoding="utf-8")
    assert common(project, "setting A").stdout.strip() == read


def test_without_a_gpu_the_cpu_is_chosen_and_nothing_else_written(project: Path) -> None:
    """.env is .env.example and one line; a second run changes nothing."""
    for _ in range(2):
        done = run(project, "scripts/configure.sh")
        assert done.returncode == 0, done.stderr
        assert "nvidia-smi finds no GPU" in done.stdout
        assert env_file(project) == (ROOT / ".env.example").read_text(encoding="utf-8") + f"COMPOSE_FILE={CPU}\n"


def test_two_gpus_are_used_as_compose_says(project: Path) -> None:
    """The defaults hold: one service on each."""
    gpus(project, "A", "B")
    assert run(project, "scripts/configure.sh").returncode == 0
    assert value(project, "COMPOSE_FILE") == "compose.yaml"
    assert value(project, "TTS_GPU") is None


def test_one_gpu_is_shared(project: Path) -> None:
    """Both services get the only one, unless somebody has said otherwise."""
    gpus(project, "A")
    assert run(project, "scripts/configure.sh").returncode == 0
    assert value(project, "TTS_GPU") == "0"
    (project / ".env").write_text("TTS_GPU=3\n", encoding="utf-8")
    assert run(project, "scripts/configure.sh").returncode == 0
    assert value(project, "TTS_GPU") == "3"


def test_a_driver_that_is_too_old_is_named(project: Path) -> None:
    """The CPU serves, and a warning says what is too old and what would do."""
    gpus(project, "A", driver="535.183.01")
    done = run(project, "scripts/configure.sh")
    assert done.returncode == 0
    assert value(project, "COMPOSE_FILE") == CPU
    assert "535.183.01 is too old, 580 or later is needed" in done.stderr


def test_a_gpu_that_was_asked_for_and_cannot_be_used_stops_it(project: Path) -> None:
    """By ACCELERATOR or by what .env says: an error with the way out, and no silent change."""
    done = run(project, "scripts/configure.sh", ACCELERATOR="gpu")
    assert done.returncode != 0
    assert "ACCELERATOR=cpu make up" in done.stderr
    (project / ".env").write_text("COMPOSE_FILE=compose.yaml\n", encoding="utf-8")
    assert run(project, "scripts/configure.sh").returncode != 0
    assert env_file(project) == "COMPOSE_FILE=compose.yaml\n"


def test_a_choice_made_once_holds(project: Path) -> None:
    """ACCELERATOR=cpu on a GPU machine is still the CPU at the next run, and can be taken back."""
    gpus(project, "A", "B")
    run(project, "scripts/configure.sh", ACCELERATOR="cpu")
    assert value(project, "COMPOSE_FILE") == CPU
    again = run(project, "scripts/configure.sh")
    assert value(project, "COMPOSE_FILE") == CPU
    assert "ACCELERATOR=gpu make up" in again.stdout
    run(project, "scripts/configure.sh", ACCELERATOR="gpu")
    assert value(project, "COMPOSE_FILE") == "compose.yaml"


def test_a_list_of_compose_files_of_ones_own_is_kept(project: Path) -> None:
    """It is not rewritten; where it contradicts what is asked for, that is said."""
    mine = f"COMPOSE_FILE={CPU}:mine.yaml\n"
    (project / ".env").write_text(mine, encoding="utf-8")
    assert run(project, "scripts/configure.sh").returncode == 0
    gpus(project, "A", "B")
    refused = run(project, "scripts/configure.sh", ACCELERATOR="gpu")
    assert refused.returncode != 0
    assert "list of your own" in refused.stderr
    assert env_file(project) == mine


def test_a_wrong_accelerator_is_named(project: Path) -> None:
    """The message has the name, the choices and what was given."""
    assert (
        "ACCELERATOR: must be gpu or cpu (got 'tpu')" in run(project, "scripts/configure.sh", ACCELERATOR="tpu").stderr
    )


@pytest.mark.parametrize(("running", "scale"), [(0, 1), (1, 1), (4, 4)])
@pytest.mark.parametrize("action", ["start", "restart"])
def test_replicas_are_kept_when_a_service_is_started_or_restarted(
    project: Path, action: str, running: int, scale: int
) -> None:
    """Compose would take four back to one: their number is handed on."""
    ids = "\\n".join(["abc"] * running) + ("\\n" if running else "")
    stand_in(project, "docker", f"case \"$*\" in *' ps '*) printf '{ids}' ;; *) echo \"$*\" >>calls ;; esac")
    assert run(project, "scripts/service.sh", action, "asr").returncode == 0
    calls = (project / "calls").read_text(encoding="utf-8").splitlines()
    assert ("compose restart asr" in calls) == (action == "restart")
    assert f"--scale asr={scale} asr" in calls[-1]


def test_replicas_are_as_many_as_env_says(project: Path) -> None:
    """However many there are; a number that nginx has no ports for is named, and nothing is started."""
    stand_in(project, "docker", 'case "$*" in *\' ps \'*) echo abc ;; *) echo "$*" >>calls ;; esac')
    (project / ".env").write_text("ASR_REPLICAS=3   # since May\n", encoding="utf-8")
    assert run(project, "scripts/service.sh", "start", "asr").returncode == 0
    assert "--scale asr=3 asr" in (project / "calls").read_text(encoding="utf-8")
    (project / "calls").unlink()
    (project / ".env").write_text("ASR_REPLICAS=7\n", encoding="utf-8")
    done = run(project, "scripts/service.sh", "start", "asr")
    assert done.returncode == 1
    assert "ASR_REPLICAS: must be 1 to 6 (got '7')" in done.stderr
    assert not (project / "calls").exists()


@pytest.mark.parametrize(
    ("engine", "compose", "said"), [("24.0.7", "2.40.0", "Engine"), ("28.5.2", "2.23.3", "Compose")]
)
def test_an_engine_that_is_too_old_is_named(project: Path, engine: str, compose: str, said: str) -> None:
    """What is too old, what is needed, and where to get it."""
    answers = f"case \"$*\" in 'compose version --short') echo {compose} ;; version*) echo {engine} ;; esac"
    stand_in(project, "docker", answers)
    done = run(project, "scripts/engine.sh")
    assert done.returncode != 0
    assert re.search(rf"Docker {said} .* is too old, .* https://docs.docker.com/", done.stderr), done.stderr


def answer_once(status_line: bytes) -> int:
    """A server that gives one connection this answer; returns its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as peer:
            # bash sends a line at a time; an answer before the last one would meet a script still writing.
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += peer.recv(4096)
            peer.sendall(status_line)

    threading.Thread(target=serve, daemon=True).start()
    port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [(b"HTTP/1.1 200 OK\r\n\r\n{}", True), (b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", False), (b"", False)],
)
def test_healthcheck_is_the_status_of_health(answer: bytes, healthy: bool) -> None:
    """200 is healthy; 503, and a connection that closes without a word, are not."""
    script = ROOT / "docker" / "healthcheck.sh"
    done = subprocess.run([script, str(answer_once(answer))], capture_output=True, check=False, timeout=30)
    assert (done.returncode == 0) is healthy


def test_healthcheck_of_a_port_where_nobody_listens() -> None:
    """A refused connection is unhealthy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run([ROOT / "docker" / "healthcheck.sh", str(port)], capture_output=True, check=False, timeout=30)
    assert done.returncode != 0


def test_a_key_is_printed_once_and_its_hash_kept(project: Path) -> None:
    """Standard output has the key alone, the file the hash that the services know it by; the first one is turned on."""
    keys = [run(project, "scripts/key.sh", "add", name).stdout for name in ("phone-app", "web.2")]
    file = project / "secrets" / "api_keys"
    assert all(re.fullmatch(r"chorus_[A-Za-z0-9_-]{43}\n", key) for key in keys)
    assert len(set(keys)) == 2
    digests = [hashlib.sha256(key.strip().encode()).digest() for key in keys]
    assert read_keys(file) == dict(zip(("phone-app", "web.2"), digests, strict=True))
    assert value(project, "CHORUS_API_KEYS_FILE") == "./secrets/api_keys"
    assert "# ASR_GPU=0" in env_file(project)
    assert file.stat().st_mode & 0o777 == 0o644


def test_keys_are_added_and_taken_back_in_place(project: Path) -> None:
    """In the file that .env names, which stays the same one: a container sees no other. Other lines stay."""
    file = project / "mine"
    file.write_text("# ours\nold:" + "0" * 64, encoding="utf-8")
    (project / ".env").write_text("CHORUS_API_KEYS_FILE=./mine\n", encoding="utf-8")
    inode = file.stat().st_ino
    assert run(project, "scripts/key.sh", "add", "new").returncode == 0
    assert list(read_keys(file)) == ["old", "new"]
    assert run(project, "scripts/key.sh", "remove", "old").returncode == 0
    assert list(read_keys(file)) == ["new"]
    assert file.read_text(encoding="utf-8").startswith("# ours\nnew:")
    assert file.stat().st_ino == inode


def test_a_key_is_not_made_twice_nor_the_last_one_taken_back(project: Path) -> None:
    """Two of a name could not be told apart, and a file without keys would keep the old ones in force."""
    assert run(project, "scripts/key.sh", "add", "app").returncode == 0
    before = (project / "secrets" / "api_keys").read_text(encoding="utf-8")
    for action, name, said in (
        ("add", "app", "has a key of the name app"),
        ("remove", "other", "has no key of the name other"),
        ("remove", "app", "last key"),
        ("add", "", "usage"),
        ("add", "../app", "usage"),
    ):
        refused = run(project, "scripts/key.sh", action, name)
        assert refused.returncode == 1
        assert said in refused.stderr
        assert not refused.stdout
    assert (project / "secrets" / "api_keys").read_text(encoding="utf-8") == before


def openssl(*arguments: str) -> str:
    """What openssl says."""
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tls(project: Path) -> Path:
    """A project in which files are given to nobody, as only root could; `calls` tells who would have got them."""
    body = """echo "$*" >>calls
while (($#)); do case $1 in -o | -g) shift 2 ;; *) kept+=("$1") && shift ;; esac; done
exec /usr/bin/install "${kept[@]}\""""
    stand_in(project, "install", body)
    stand_in(project, "sudo", 'exec "$@"')
    return project


def test_tls_makes_a_certificate_that_its_ca_answers_for(tls: Path) -> None:
    """For this machine and the names given; only nginx's user reads the key; .env is told the first time."""
    done = run(tls, "scripts/tls.sh", "speech.example.com, 192.0.2.7".replace(" ", ""))
    assert done.returncode == 0, done.stderr
    folder, ca = tls / "secrets" / "tls", tls / "secrets" / "ca"
    openssl("verify", "-x509_strict", "-CAfile", str(folder / "ca.pem"), str(folder / "server.pem"))
    for name in ("localhost", "speech.example.com"):
        openssl("verify", "-verify_hostname", name, "-CAfile", str(folder / "ca.pem"), str(folder / "server.pem"))
    for ip in ("127.0.0.1", "192.0.2.7", "::1"):
        openssl("verify", "-verify_ip", ip, "-CAfile", str(folder / "ca.pem"), str(folder / "server.pem"))
    assert openssl("x509", "-in", str(folder / "server.pem"), "-noout", "-pubkey") == openssl(
        "pkey", "-in", str(folder / "server.pem"), "-pubout"
    )
    assert "-m 600 -o 10001 -g 10001" in (tls / "calls").read_text(encoding="utf-8")
    assert (folder / "server.pem").stat().st_mode & 0o777 == 0o600
    assert ca.stat().st_mode & 0o777 == 0o700
    assert sorted(each.name for each in folder.iterdir()) == ["ca.pem", "server.pem"]
    assert value(tls, "CHORUS_TLS_DIR") == "./secrets/tls"
    assert "PRIVATE" not in done.stdout + done.stderr


def test_tls_again_changes_nothing_until_it_has_to(tls: Path) -> None:
    """The names of the last time hold where none are given; others, an end that is near or a lost CA make another."""
    folder = tls / "secrets" / "tls"

    def made(*names: str) -> bytes:
        done = run(tls, "scripts/tls.sh", *names)
        assert done.returncode == 0, done.stderr
        return (folder / "server.pem").read_bytes()

    first, ca = made("speech.example.com"), (folder / "ca.pem").read_bytes()
    assert first == made("speech.example.com") == made()
    second = made("other.example.com")
    assert second != first
    assert (folder / "ca.pem").read_bytes() == ca
    assert key_of(second) == key_of(first)
    soon = (tls / "scripts" / "tls.sh").read_text(encoding="utf-8").replace("DAYS=397 ", "DAYS=20 ")
    (tls / "scripts" / "tls.sh").write_text(soon, encoding="utf-8")
    third = made("third.example.com")
    assert third != made()
    shutil.rmtree(tls / "secrets" / "ca")
    made("third.example.com")
    assert (folder / "ca.pem").read_bytes() != ca


def key_of(pem: bytes) -> bytes:
    """The private key in a server.pem."""
    return pem[pem.index(b"-----BEGIN EC PRIVATE KEY") :]


def test_tls_installs_a_certificate_of_ones_own(tls: Path) -> None:
    """As an ACME client leaves it, in one step and in the folder that .env names; what is no pair changes nothing, and
    a certificate that is installed is not replaced by one from here."""
    (tls / ".env").write_text("CHORUS_TLS_DIR=./mine\n", encoding="utf-8")
    for name in ("a", "b"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "9",
                "-keyout", str(tls / f"{name}.key"), "-out", str(tls / f"{name}.pem"))  # fmt: skip
    assert run(tls, "scripts/tls.sh").returncode == 0
    before = (tls / "mine" / "server.pem").read_bytes()
    for certificate, key, said in (
        ("a.pem", "b.key", "no certificate of the key"),
        ("a.pem", "none.key", "readable"),
        ("a.pem", "", "readable"),
        ("a.key", "a.key", "no certificate of the key"),
        ("a.pem", "a.pem", "no key"),
    ):
        refused = run(tls, "scripts/tls.sh", CERT=certificate, KEY=key)
        assert refused.returncode == 1
        assert said in refused.stderr, refused.stderr
        assert (tls / "mine" / "server.pem").read_bytes() == before
    assert run(tls, "scripts/tls.sh", CERT="a.pem", KEY="a.key").returncode == 0
    installed = (tls / "mine" / "server.pem").read_bytes()
    assert installed == (tls / "a.pem").read_bytes() + (tls / "a.key").read_bytes()
    assert [each.name for each in (tls / "mine").iterdir()] == ["server.pem"]
    assert "installed by CERT=" in run(tls, "scripts/tls.sh").stderr
    assert (tls / "mine" / "server.pem").read_bytes() == installed


@pytest.mark.parametrize("names", ["a b", "a;b", "$(id)", "bad:name"])
def test_tls_refuses_names_that_are_none(tls: Path, names: str) -> None:
    """Nothing is put in place."""
    refused = run(tls, "scripts/tls.sh", names)
    assert refused.returncode == 1
    assert not (tls / "secrets" / "tls" / "server.pem").exists()


def test_gpu_status_tells_who_is_on_each_gpu(project: Path) -> None:
    """A line a GPU, and under it its processes by container, or by program where they are in none."""
    stand_in(
        project,
        "nvidia-smi",
        """case "$*" in
*query-gpu*) printf 'GPU-a, 0, NVIDIA H100, 97, 40960, 81559, 61\\nGPU-b, 1, NVIDIA H100, 0, 0, 81559, 30\\n' ;;
*compute-apps*) printf 'GPU-a, 4711, 3000, python3\\nGPU-a, 815, 500, /usr/bin/other\\n' ;;
esac""",
    )
    stand_in(project, "docker", 'case "$1" in ps) echo chorus-asr-1 ;; top) printf "PID\\n4710\\n4711\\n" ;; esac')
    done = run(project, "scripts/gpu-status.sh")
    assert done.returncode == 0, done.stderr
    first, ours, other, second = done.stdout.splitlines()
    assert first == "GPU 0  NVIDIA H100  97 % busy  40960/81559 MiB  61 °C"
    assert ours.split() == ["chorus-asr-1", "3000", "MiB", "pid", "4711"]
    assert other.split() == ["/usr/bin/other", "500", "MiB", "pid", "815"]
    assert second == "GPU 1  NVIDIA H100  0 % busy  0/81559 MiB  30 °C"


def test_gpu_status_says_where_there_is_no_gpu(project: Path) -> None:
    """And does not succeed."""
    done = run(project, "scripts/gpu-status.sh")
    assert done.returncode != 0
    assert "nvidia-smi finds no GPU" in done.stderr


@pytest.mark.parametrize(
    ("name", "asked"),
    [("asr-2", "--no-log-prefix --index 2 asr"), ("nginx", "nginx"), ("nginx-exporter", "nginx-exporter")],
)
def test_logs_of_one_replica_or_service(project: Path, name: str, asked: str) -> None:
    """A number at the end names a container."""
    stand_in(project, "docker", 'echo "$@"')
    assert run(project, "scripts/logs.sh", name).stdout.strip().endswith(f"--tail 100 {asked}")


@pytest.mark.parametrize(
    ("profiles", "pulls", "after"),
    [
        ("monitoring", True, "monitoring,grafana"),
        ("monitoring", False, "monitoring"),
        ("monitoring,grafana", True, "monitoring,grafana"),
        ("", True, ""),
        ("loadtest", True, "loadtest"),
    ],
)
def test_grafana_is_added_to_the_monitoring_where_it_can_be_pulled(
    project: Path, profiles: str, pulls: bool, after: str
) -> None:
    """Who wants no monitoring gets none; an image that can't be pulled would stop the whole stack."""
    (project / ".env").write_text(f"COMPOSE_PROFILES={profiles}\n", encoding="utf-8")
    pull = "exit 0" if pulls else "exit 1"
    stand_in(project, "docker", f'case "$*" in *pull*) {pull} ;; esac')
    done = run(project, "scripts/images.sh")
    assert done.returncode == 0, done.stderr
    assert value(project, "COMPOSE_PROFILES") == after
    assert ("without Grafana" in done.stdout) is (not pulls)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "streams need a key: CHORUS_API_KEY="),
        (
            {"CHORUS_API_KEY": "k", "LOADTEST_CA_FILE": "nowhere.pem"},
            "LOADTEST_CA_FILE=nowhere.pem: there is no such file",
        ),
        ({"CHORUS_API_KEY": "k", "LOADTEST_CA_FILE": "README"}, ""),
        ({"LOADTEST_ASR_URL": "wss://elsewhere:8000"}, ""),
    ],
)
def test_a_load_test_that_can_not_connect_is_not_begun(project: Path, given: dict[str, str], told: str) -> None:
    """Of this stack, which wants a key; whether another wants one is not known here."""
    (project / ".env").write_text("CHORUS_API_KEYS_FILE=./secrets/api_keys\n", encoding="utf-8")
    (project / "README").touch()
    stand_in(project, "docker", 'case "$*" in *ps*) echo container ;; esac')
    done = run(project, "scripts/loadtest.sh", "run", **given)
    assert (done.returncode != 0) is bool(told), done.stderr
    assert told in done.stderr


def test_make_help_lists_every_target() -> None:
    """Each target has its line."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^\.PHONY: (.*)$", text, re.M) for name in line.split()}
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert targets <= set(out.stdout.split())


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name)
def test_requirements_are_pinned_by_digest_and_name_no_registry(file: Path) -> None:
    """Every package has one version and its hashes; no address is written down."""
    text = file.read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z])", re.sub(r"^\s*#.*\n", "", text, flags=re.M), flags=re.M)
    packages = [entry for entry in entries if entry.strip()]
    assert packages
    for package in packages:
        assert re.match(r"[A-Za-z0-9_.\[\],-]+==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text
    assert "--index" not in text
    assert file.with_suffix(".in").exists()


def test_only_the_gpu_image_of_asr_has_torch() -> None:
    """And onnxruntime is not beside onnxruntime-gpu, whose files it would overwrite."""
    pinned = {
        file.stem: set(re.findall(r"^([A-Za-z0-9_.-]+)==", file.read_text(encoding="utf-8"), re.M))
        for file in (ROOT / "requirements").glob("*.txt")
    }
    assert {name for name, packages in pinned.items() if "torch" in packages} == {"asr-gpu"}
    assert "onnxruntime-gpu" in pinned["tts-gpu"]
    assert not {"onnxruntime", "piper-tts"} & pinned["tts-gpu"]
    assert pinned["tts-gpu-no-deps"] == {"piper-tts"}


def manager(project: Path, nodes: int, *, compose: bool = False, control: str = "true") -> None:
    """This machine's engine is in a swarm of so many nodes; Compose may run the stack beside it."""
    cases = {
        "compose config": "name: chorus",
        "compose ps*": "abc" if compose else "",
        "info*": control,
        "node ls*": "\n".join(str(number) for number in range(nodes)),
    }
    lines = "\n".join(
        f"{pattern.replace(' ', chr(92) + ' ')}) printf '%s\\n' '{said}' ;;" for pattern, said in cases.items()
    )
    stand_in(project, "docker", f'case "$*" in\n{lines}\n*) exit 1 ;;\nesac')


def test_a_swarm_is_refused_before_anything_is_rendered(project: Path) -> None:
    """No swarm, several nodes that share no registry, the same stack under Compose: each is named, with the way out."""
    manager(project, 1, control="false")
    assert "docker swarm init" in run(project, "scripts/swarm.sh", "deploy").stderr
    manager(project, 2)
    assert "set SWARM_REGISTRY" in run(project, "scripts/swarm.sh", "deploy").stderr
    manager(project, 1, compose=True)
    assert "make down" in run(project, "scripts/swarm.sh", "deploy").stderr
    manager(project, 1)
    stand_in(project, "python3", "exit 1")
    done = run(project, "scripts/swarm.sh", "deploy")
    assert "Python 3.11" in done.stderr
    assert done.returncode == 1
    assert not (project / ".build" / "swarm.json").exists()
