"""The profile `monitoring` for real, in a project beside the stack: what it sees and tells, and that it may be away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families

from audit import confinement
from chorus.aio import connect_asr, connect_tts
from chorus.errors import Refused
from chorus.tasks import send_and_receive
from chorus.wire.common import Error
from tests.certificates import Authority
from tests.conftest import DATA, ROOT
from tests.monitoring.rules_files import alerts, rules

pytestmark = pytest.mark.stack

PROJECT = "chorus-watched"
CLIP = DATA / "speech" / "3331-159605-0005.flac"
JOBS = {"asr", "tts", "nginx", "tls", "node", "prometheus", "alertmanager"}
MONITORING = ("prometheus", "alertmanager", "nginx-exporter", "blackbox-exporter", "node-exporter")
OWN_PORTS = {"asr": "9001", "tts": "9002"}
START = ("up", "-d", "--no-build", "--no-deps", "--no-recreate", "--wait")
"""What of `docker compose` starts again what was stopped."""
AWAY_S = 60 * float(os.environ.get("MONITORING_AWAY_MINUTES") or 0)
"""How long streams go on without monitoring, after it has stopped; `make test-monitoring-away` takes its time."""
FRAME = 3200
"""Bytes of 0.1 s at 16 kHz."""
PAUSE = bytes(15 * FRAME)
"""After each time that the clip is said, so that its words are final."""
BETWEEN_S = 15
"""From what is said or asked for to the next."""
KEY = f"chorus_{secrets.token_urlsafe(32)}"
ORIGIN = "https://app.example.com"
PROMETHEUS_OWN = {"up", "ALERTS"}
"""Series that Prometheus makes itself."""


def files() -> str:
    """The stack's own files, as the environment or .env names them, and the test's."""
    env = ROOT / ".env"
    found = re.findall(r"^COMPOSE_FILE=(\S+)", env.read_text(encoding="utf-8"), re.M) if env.exists() else []
    chosen = os.environ.get("COMPOSE_FILE") or (found or ["compose.yaml:compose.cpu.yaml"])[-1]
    return f"{chosen}:tests/monitoring/compose.yaml"


def docker(*arguments: str, **env: str) -> str:
    """Output of a docker command run in the project's folder."""
    done = subprocess.run(
        ["docker", *arguments], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compose(*arguments: str) -> str:
    """Output of `docker compose` for the test's project."""
    return docker("compose", "-p", PROJECT, *arguments, COMPOSE_FILE=files(), COMPOSE_PROFILES="monitoring")


def address(service: str, port: int) -> str:
    """Where a service's port is on this machine."""
    return compose("port", service, str(port)).strip()


def get(url: str) -> Any:
    """JSON of an address."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def until(what: str, true: Callable[[], Any], within_s: float = 300) -> Any:
    """Wait for a state of the stack; returns what it is. The time is a safety net, not a claim."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if found := true():
                return found
        except OSError:
            pass  # it is not there yet
        time.sleep(1)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


class Prometheus:
    """Its API."""

    def __init__(self) -> None:
        self.locate()

    def locate(self) -> None:
        """Find its port, which is another one after each start."""
        self._url = f"http://{address('prometheus', 9090)}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer."""
        answer = get(f"{self._url}/{path}?{urllib.parse.urlencode(query)}")
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str, **at: str) -> list[dict[str, Any]]:
        """An instant query's series, now or at `time` (Unix, seconds)."""
        found: list[dict[str, Any]] = self.get("query", query=expression, **at)["result"]
        return found

    def selected(self, expression: str) -> set[str]:
        """The names of the metrics that an expression reads, by Prometheus's own parser."""
        names: set[str] = set()

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                if node.get("type") in ("vectorSelector", "matrixSelector"):
                    names.add(node["name"])
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for value in node:
                    walk(value)

        walk(self.get("parse_query", query=expression))
        return names


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A CA and its certificate, for which the stack is configured, as for `KEY` and `ORIGIN`."""
    folder = tmp_path_factory.mktemp("strangers")
    keys = folder / "api_keys"
    keys.write_text(f"watched:{hashlib.sha256(KEY.encode()).hexdigest()}\n", encoding="utf-8")
    made = Authority(folder / "project")
    made.issue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHORUS_TLS_DIR", str(made.folder))
        patch.setenv("CHORUS_API_KEYS_FILE", str(keys))
        patch.setenv("CHORUS_ALLOWED_ORIGINS", ORIGIN)
        yield made


@pytest.fixture(scope="module")
def prometheus(image: str, authority: Authority) -> Iterator[Prometheus]:
    """The stack with its monitoring, TLS and a key, one replica each; all of it is gone in the end."""
    try:
        compose("up", "-d", "--no-build", "--wait", "--wait-timeout", "180")
        yield Prometheus()
    finally:
        compose("down", "--volumes", "--timeout", "5")


def test_every_target_is_up_and_all_rules_are_loaded(prometheus: Prometheus) -> None:
    """Each replica by DNS, nginx, the machine, and the monitoring itself; no rule fails."""

    def all_up() -> bool:
        targets = prometheus.get("targets", state="active")["activeTargets"]
        return {each["labels"]["job"] for each in targets if each["health"] == "up"} == JOBS and len(targets) == len(
            JOBS
        )

    until("every target is up", all_up)
    groups = prometheus.get("rules")["groups"]
    loaded = [each for group in groups for each in group["rules"]]
    assert sorted(each["name"] for each in loaded) == sorted(each.get("alert") or each["record"] for each in rules())
    until("Alertmanager is found", lambda: prometheus.get("alertmanagers")["activeAlertmanagers"])
    until("a year of the certificate is left", lambda: prometheus.query(
        '366 * 86400 < probe_ssl_earliest_cert_expiry{job="tls"} - time() < 398 * 86400'
    ))  # fmt: skip
    until("nginx tells of itself", lambda: prometheus.query("nginx_up == 1"))
    until("the disk is seen", lambda: prometheus.query('node_filesystem_avail_bytes{mountpoint="/prometheus"}'))
    until("every rule has run", lambda: all(
        each["health"] == "ok" for group in prometheus.get("rules")["groups"] for each in group["rules"]
    ))  # fmt: skip


def exposed(prometheus: Prometheus) -> set[str]:
    """Every name that could be scraped now: of a family that has no series yet, by its type."""
    names = PROMETHEUS_OWN | {rule["record"] for rule in rules() if "record" in rule}
    names |= set(prometheus.get("label/__name__/values"))
    for service, port in OWN_PORTS.items():
        ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
        for family in text_string_to_metric_families(compose("exec", "-T", service, "python3", "-c", ask)):
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
            names |= {family.name + ending for ending in endings}
    return names


def used() -> list[tuple[str, str]]:
    """Every expression of a rule or a dashboard, and where it is."""
    found = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    for file in sorted((ROOT / "monitoring" / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            found += [(f"{file.name}: {panel['title']}", target["expr"]) for target in panel["targets"]]
        for variable in board["templating"]["list"]:
            selector = re.match(r"label_values\((.*), \w+\)$", variable["query"]["query"])
            assert selector is not None, variable
            found.append((f"{file.name}: ${variable['name']}", selector[1]))
    return found


def test_every_metric_of_a_rule_or_dashboard_exists(prometheus: Prometheus) -> None:
    """In a live scrape of real replicas; a metric that is renamed here or there is missed."""
    names = exposed(prometheus)
    read = {place: prometheus.selected(expression) for place, expression in used()}
    assert all(read.values())
    missing = {place: selected - names for place, selected in read.items() if selected - names}
    assert not missing
    assert prometheus.selected("sum(rate(asr_renamed_total[5m])) / tts_renamed") - names == {
        "asr_renamed_total",
        "tts_renamed",
    }


def test_every_panel_is_answered(prometheus: Prometheus) -> None:
    """Prometheus takes each query as Grafana would send it."""
    for _, expression in used():
        prometheus.query(expression.replace("$instance", "172.18.0.2:9001"))


def test_dashboards_are_such(prometheus: Prometheus) -> None:
    """Each has its own id and title, panels that do not overlap, and the provisioned data source."""
    uids = set()
    for file in (ROOT / "monitoring" / "grafana" / "dashboards").glob("*.json"):
        board = json.loads(file.read_text(encoding="utf-8"))
        uids.add(board["uid"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24
            taken |= cells
            assert {each["datasource"]["uid"] for each in panel["targets"]} == {"prometheus"}
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len(uids) == 5


def test_nothing_is_published_beyond_this_machine() -> None:
    """Prometheus, Alertmanager and Grafana listen on the loopback address; each container is hardened and bounded."""
    chosen = {"COMPOSE_FILE": "compose.yaml", "COMPOSE_PROFILES": "monitoring,grafana"}
    services = json.loads(docker("compose", "config", "--format", "json", **chosen))["services"]
    for name in (*MONITORING, "grafana"):
        service = services[name]
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert service["init"], name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert service["healthcheck"]["start_interval"], name
    # An image that can't be pulled keeps the whole of its profile from starting.
    assert services["grafana"]["profiles"] == ["grafana"]


def test_no_process_may_more_than_it_must(prometheus: Prometheus) -> None:
    """Of every container: no root, no capability, nothing to write to but its tmpfs and volumes, no shell left over."""
    names = [name for name in compose("ps", "--format", "{{.Name}}").split() if "webhook" not in name]
    assert len(names) == 3 + len(MONITORING)
    assert [finding for name in names for finding in confinement.of_container(name)] == []


async def test_strangers_stay_out_and_no_log_has_a_key(prometheus: Prometheus, authority: Authority) -> None:
    """By TLS, through nginx, of real replicas: no key, a wrong one, another's page, a key in the address. Afterwards no
    log of any container has a key."""
    url = f"wss://{address('nginx', 8000)}"
    wrong = f"chorus_{secrets.token_urlsafe(32)}"
    for key, headers, query, status in (
        ("", {}, {}, 401),
        (wrong, {}, {}, 401),
        (KEY, {"Origin": "https://evil.example"}, {}, 403),
        (KEY, {}, {"api_key": wrong}, 400),
    ):
        with pytest.raises(Refused) as refused:
            async with connect_asr(url, key=key, ca=authority.ca, headers=headers, **query):
                pass
        assert refused.value.status == status
    async with connect_asr(url, key=KEY, ca=authority.ca, headers={"Origin": ORIGIN}) as stream:
        await stream.send(stream.protocol.close())
        async for _ in stream:
            pass
    written = await asyncio.to_thread(compose, "logs", "--no-color")
    assert '"key": "watched"' in written
    assert KEY not in written
    assert wrong not in written


def test_the_address_of_the_webhook_is_shown_to_nobody(prometheus: Prometheus) -> None:
    """Alertmanager's API tells its configuration, which may be read by who reaches the port."""
    status = get(f"http://{address('alertmanager', 9093)}/api/v2/status")
    assert "webhook" in status["config"]["original"]
    assert "secret-path" not in json.dumps(status)


def alerts_known() -> list[dict[str, Any]]:
    """What Alertmanager has now of services being down."""
    known: list[dict[str, Any]] = get(
        f"http://{address('alertmanager', 9093)}/api/v2/alerts?filter=alertname=ServiceDown"
    )
    return known


def told(prometheus: Prometheus) -> bool:
    """Whether an alert of a service being down is there, on its way, or has not been posted as resolved."""
    if prometheus.query('ALERTS{alertname="ServiceDown"}') or alerts_known():
        return True
    return len(posts("firing")) != len(posts("resolved"))


def posts(status: str) -> list[str]:
    """What Alertmanager posted of it that no replica of synthesis serves: `firing` or `resolved`."""
    wanted = (f'"status":"{status}"', '"groupLabels":{"alertname":"ServiceDown","job":"tts"}')
    return [line for line in compose("logs", "webhook").splitlines() if all(each in line for each in wanted)]


def test_a_stopped_replica_is_told_to_alertmanager_and_by_it_and_again_after_a_restart(prometheus: Prometheus) -> None:
    """`docker stop` of a service's one replica: the alert fires, Alertmanager has it and posts it.

    It is posted anew when it ended while Alertmanager was away and the replica stopped again while Prometheus was:
    neither counts as told what was told before, nor does what was measured before count as measured now.
    """
    until(
        "both serve", lambda: len(prometheus.query('asr_status{status="ok"} == 1 or tts_status{status="ok"} == 1')) == 2
    )
    # A slow start is an alert too. One that has not been told to be over would be the same one still.
    until("nothing is told any more of the start", lambda: not told(prometheus))
    before = len(posts("firing"))
    compose("stop", "--timeout", "20", "tts")
    until("the alert is posted", lambda: len(posts("firing")) == before + 1)
    assert "/secret-path" in posts("firing")[-1]
    known = alerts_known()
    assert [each["labels"]["job"] for each in known] == ["tts"]
    assert known[0]["annotations"]["runbook"] == alerts()["ServiceDown"]["annotations"]["runbook"]

    compose("stop", "alertmanager")
    compose(*START, "tts")
    until("it serves again", lambda: prometheus.query('tts_status{status="ok"} == 1'))
    compose("stop", "prometheus")
    stopped = time.time()
    compose("stop", "--timeout", "20", "tts")
    compose(*START, "prometheus", "alertmanager")
    prometheus.locate()
    assert not prometheus.query('tts_status{status="ok"}', time=str(stopped + 61))
    until("the alert is posted again", lambda: len(posts("firing")) == before + 2)
    assert len(posts("resolved")) == before
    compose(*START, "tts")


async def test_without_monitoring_nothing_restarts_and_no_stream_notices(
    prometheus: Prometheus, authority: Authority
) -> None:
    """Who watches goes away while somebody speaks and somebody listens.

    On the same two connections every word and every reply comes, and nothing that serves was started anew.
    """
    audio = soundfile.read(CLIP, dtype="int16")[0].tobytes() + PAUSE
    over = asyncio.Event()

    async def stay_away() -> None:
        await asyncio.to_thread(compose, "stop", "--timeout", "5", *MONITORING)
        await asyncio.sleep(AWAY_S)
        over.set()

    async def speak() -> None:
        async with connect_asr(
            f"wss://{address('nginx', 8000)}", key=KEY, ca=authority.ca, sample_rate=16000
        ) as stream:
            said = 0

            async def say() -> None:
                nonlocal said
                while not over.is_set():
                    for start in range(0, len(audio), FRAME):
                        await stream.send(stream.protocol.audio(audio[start : start + FRAME]))
                        await asyncio.sleep(0.1)
                    said += 1
                    began = time.monotonic()
                    while not over.is_set() and time.monotonic() - began < BETWEEN_S:
                        await stream.send(stream.protocol.audio(bytes(FRAME)))
                        await asyncio.sleep(0.1)
                await stream.send(stream.protocol.close())

            async def hear() -> None:
                async for event in stream:
                    assert not isinstance(event, Error), event

            await send_and_receive(say(), hear())
            assert stream.protocol.text.lower().count("at home") == said

    async def listen() -> None:
        async with connect_tts(f"wss://{address('nginx', 8003)}", key=KEY, ca=authority.ca) as stream:
            asked = 0
            while not over.is_set():
                asked += 1
                await stream.send(stream.protocol.synthesize("Nobody watches, and every word is still spoken."))
                while stream.protocol.complete < asked:
                    event = await stream.receive()
                    assert not isinstance(event, Error), event
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), BETWEEN_S)
            await stream.send(stream.protocol.close())
            async for _ in stream:
                pass
            assert stream.protocol.complete == asked

    async with asyncio.TaskGroup() as group:
        for task in (stay_away(), speak(), listen()):
            group.create_task(task)
    assert not await asyncio.to_thread(compose, "ps", "--quiet", *MONITORING)
    assert await asyncio.to_thread(restarts_and_health) == {(0, "healthy")}
    await asyncio.to_thread(compose, *START, *MONITORING)


def restarts_and_health() -> set[tuple[int, str]]:
    """Of every container that serves."""
    containers = compose("ps", "--quiet", "asr", "tts", "nginx").split()
    assert len(containers) == 3
    said = docker("inspect", "--format", "{{.RestartCount}} {{.State.Health.Status}}", *containers)
    return {(int(restarts), health) for restarts, health in (line.split() for line in said.splitlines())}
