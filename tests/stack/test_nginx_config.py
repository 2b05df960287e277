"""nginx's configuration, rendered and checked by `nginx -t` in its own image, for each setting."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from chaos.abrupt import REOPENED_WITHIN_S
from serving.listener import PING_S
from tests.certificates import Authority, as_root
from tests.stack.conftest import docker

pytestmark = pytest.mark.stack


def render(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The entrypoint with these settings: checks, renders, runs `nginx -t`, and stops there."""
    given = [part for name, value in env.items() for part in ("-e", f"{name}={value}")]
    command = 'out=$(/etc/chorus/entrypoint.sh --check 2>&1); code=$?; echo "$out" >&2; cat /tmp/nginx.conf; exit $code'
    return subprocess.run(
        ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", *given, *options,
         "--entrypoint", "bash", "chorus/nginx", "-c", command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({}, "least_conn;"),
        ({"NGINX_BALANCE": "least_conn"}, "least_conn;"),
        ({"NGINX_BALANCE": "ip_hash"}, "ip_hash;"),
        ({"ASR_MAX_CONNECTIONS": "7"}, "server asr:8001 resolve max_conns=7 max_fails=3 fail_timeout=30s;"),
        ({"TTS_MAX_CONNECTIONS": "10000"}, "server tts:8002 resolve max_conns=10000 max_fails=3 fail_timeout=30s;"),
        ({"NGINX_MAX_FAILS": "0", "NGINX_FAIL_TIMEOUT_S": "5"}, "max_fails=0 fail_timeout=5s;"),
        ({"NGINX_CONNECT_TIMEOUT_S": "2"}, "proxy_connect_timeout 2s;"),
        ({"NGINX_READ_TIMEOUT_S": "60"}, "proxy_read_timeout 60s;"),
        ({"NGINX_SEND_TIMEOUT_S": "60"}, "proxy_send_timeout 60s;"),
        ({"NGINX_RETRY_AFTER_S": "9"}, "add_header Retry-After 9 always;"),
        ({"NGINX_CLIENT_CONNECTIONS": "3"}, "limit_conn clients 3;"),
        ({"NGINX_STATUS_ALLOW": "10.1.0.0/16 ::1"}, "allow 10.1.0.0/16; allow ::1;"),
        ({"NGINX_STATUS_ALLOW": "10.1.0.0/16,::1"}, "allow 10.1.0.0/16; allow ::1;"),
        ({"NGINX_TRUSTED_PROXIES": "10.1.0.0/16, ::1"}, "set_real_ip_from 10.1.0.0/16; set_real_ip_from ::1;"),
        ({}, "listen 8000;"),
        ({"NGINX_RESOLVER": "10.0.0.2"}, "resolver 10.0.0.2 valid=1s"),
        ({"NGINX_ASR_HOST": "tasks.asr"}, "server tasks.asr:8001 resolve"),
        ({"NGINX_ASR_HOST": "tasks.asr"}, "server tasks.asr:9001 resolve"),
        ({"NGINX_ASR_HOST": "tasks.asr"}, "server tts:8002 resolve"),
        ({"NGINX_TTS_HOST": "tasks.tts"}, "server tasks.tts:8002 resolve"),
        ({"NGINX_TTS_HOST": "tasks.tts"}, "server tasks.tts:9002 resolve"),
    ],
)
def test_each_setting_gives_a_configuration_that_nginx_takes(env: dict[str, str], line: str) -> None:
    """`nginx -t` passes, and the setting is where it belongs."""
    done = render(**env)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


def test_the_place_of_a_client_that_takes_nothing_is_free_in_time() -> None:
    """The replica drops it after a ping and the time for its pong; nginx then waits for it once more."""
    waits = re.findall(r"^ *send_timeout (\d+)s;", render().stdout, re.MULTILINE)
    assert len(waits) == 1
    assert 2 * PING_S + int(waits[0]) < REOPENED_WITHIN_S - 1


def test_no_limit_is_written_where_none_is_wanted() -> None:
    """NGINX_CLIENT_CONNECTIONS=0 is no limit."""
    assert "limit_conn clients" not in render(NGINX_CLIENT_CONNECTIONS="0").stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NGINX_BALANCE", "random"),
        ("ASR_MAX_CONNECTIONS", "0"),
        ("TTS_MAX_CONNECTIONS", "many"),
        ("NGINX_MAX_FAILS", "-1"),
        ("NGINX_FAIL_TIMEOUT_S", "1d"),
        ("NGINX_READ_TIMEOUT_S", "10"),
        ("NGINX_CLIENT_CONNECTIONS", "1;"),
        ("NGINX_STATUS_ALLOW", "all; deny"),
        ("NGINX_STATUS_ALLOW", "*"),
        ("NGINX_RESOLVER", "dns.example"),
        ("NGINX_TRUSTED_PROXIES", "proxy.example"),
        ("NGINX_ASR_HOST", "asr;"),
        ("NGINX_TTS_HOST", "two names"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(name: str, value: str) -> None:
    """Nothing is rendered; the message has the name and the value."""
    done = render(**{name: value})
    assert done.returncode == 78
    assert name in done.stderr
    assert "server {" not in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [("NGINX_STATUS_ALLOW", "10.0.0.0/99"), ("NGINX_RESOLVER", "999.1.1.1"), ("NGINX_TRUSTED_PROXIES", "10.0.0.0/99")],
)
def test_what_only_nginx_can_refuse_stops_the_start_too(name: str, value: str) -> None:
    """`nginx -t` says no, and the message names what to look at."""
    done = render(**{name: value})
    assert done.returncode == 78
    assert name in done.stderr


def test_nobodys_word_is_taken_for_an_address_by_default() -> None:
    """NGINX_TRUSTED_PROXIES is empty."""
    assert "real_ip" not in render().stdout


def test_a_certificate_turns_tls_on_and_is_read_at_each_handshake(tmp_path: Path) -> None:
    """On the balanced ports alone, by a path that nginx does not read once and for all."""
    authority = Authority(tmp_path / "project")
    authority.issue()
    done = render("--volume", f"{authority.folder}:/run/tls:ro", NGINX_TLS="on")
    assert done.returncode == 0, done.stderr
    listening = re.findall(r"listen (\d+)( ssl)?;", done.stdout)
    assert {port for port, tls in listening if tls} == {"8000", "8003"}
    assert set(re.findall(r"ssl_certificate(?:_key)? (\S+);", done.stdout)) == {"$certificate"}


@pytest.mark.parametrize("broken", ["missing", "unreadable", "no key", "another key", "cut short"])
def test_a_certificate_that_can_not_be_served_stops_the_start(tmp_path: Path, broken: str) -> None:
    """At once and by name, and not at the first client's handshake."""
    authority = Authority(tmp_path / "project")
    certificate, key = re.split(rb"(?=-----BEGIN EC)", authority.issue())
    match broken:
        case "missing":
            as_root("rm", str(authority.file))
        case "unreadable":
            as_root("chown", "0:0", str(authority.file))
        case "no key":
            authority.put(certificate)
        case "cut short":
            authority.put(certificate[:200] + key)
        case "another key":
            authority.put(certificate + as_root("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"))
    done = render("--volume", f"{authority.folder}:/run/tls:ro", NGINX_TLS="on")
    assert done.returncode == 78
    assert "CHORUS_TLS_DIR" in done.stderr
    assert "PRIVATE" not in done.stderr


def test_the_access_log_is_json_and_names_the_replica() -> None:
    """One object a line, with who served it."""
    lines = docker("compose", "logs", "--no-log-prefix", "--no-color", "nginx").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    assert entries
    assert {"time", "status", "upstream", "upstream_status", "request_id", "connect_seconds"} <= set(entries[-1])
