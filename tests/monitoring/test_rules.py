"""The alert rules by promtool: their cases pass, each alert has all kinds, and no number can be wrong unnoticed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.metrics import LATENCY_BUCKETS
from tests.conftest import ROOT
from tests.monitoring.conftest import Promtool
from tests.monitoring.rules_files import CASES, RULES, alerts, copied, mutants, read, rules

pytestmark = pytest.mark.stack

FILES = sorted(f"tests/monitoring/rules/{file.name}" for file in CASES.glob("*.yml"))


def seconds(time: str) -> int:
    """Of `1h2m3s`."""
    return sum(
        int(n) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([dhms])", time)
    )


def test_the_configuration_and_the_rules_are_right(promtool: Promtool) -> None:
    """As Prometheus itself reads them, in the image."""
    done = promtool("check", "config", "--lint=all", "--lint-fatal", "/etc/chorus/prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = promtool(
        "check", "rules", "--lint=all", "--lint-fatal", *(f"monitoring/rules/{f.name}" for f in RULES.iterdir())
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_case_passes(promtool: Promtool) -> None:
    """`promtool test rules`, all files."""
    done = promtool("test", "rules", *FILES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_every_alert_has_each_kind_of_case(alert: str) -> None:
    """Silent before its time, firing, silent again after it in the same case, and told what it does without data."""
    without_data = False
    goes_off_and_on = False
    for file in CASES.glob("*.yml"):
        for case in read(file)["tests"]:
            mine = [each for each in case["alert_rule_test"] if each["alertname"] == alert]
            if case["name"] == "no data":
                without_data = without_data or bool(mine)
                continue
            mine.sort(key=lambda each: seconds(each["eval_time"]))
            states = [bool(each["exp_alerts"]) for each in mine]
            goes_off_and_on = goes_off_and_on or (
                True in states and states[0] is False and states[-1] is False and states.count(False) > 1
            )
    assert without_data
    assert goes_off_and_on


@pytest.mark.parametrize("rules_file", sorted(RULES.glob("*.yml")), ids=lambda file: file.stem)
def test_a_number_that_is_half_or_double_makes_a_case_fail(image: str, tmp_path: Path, rules_file: Path) -> None:
    """Every threshold, objective, window, bucket edge and `for`, each by itself.

    The changed rules stand beside the right ones under names of their own, and each case is asked of all: one run of
    promtool for hundreds. A copy that is not changed must pass.
    """
    all_rules = [rule for group in read(rules_file)["groups"] for rule in group["rules"]]
    same = [copied(rule, all_rules, "_same", "nothing") for rule in all_rules if "alert" in rule]
    made = mutants(rules_file)
    tmp_path.chmod(0o755)
    for file in CASES.glob("*.yml"):
        cases = read(file)
        if Path(cases["rule_files"][0]).name != rules_file.name:
            continue
        asked_for = {
            each["alertname"]
            for case in cases["tests"]
            for each in case["alert_rule_test"]
            if case["name"] != "no data"
        }
        here = [each for each in (*same, *made) if each.names.keys() & asked_for]
        # One group: promtool runs several in any order, and a record may then be a step behind.
        group = {"name": "all", "rules": all_rules + [rule for each in here for rule in each.rules]}
        (tmp_path / f"rules_{file.name}").write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
        cases["rule_files"] = [f"rules_{file.name}"]
        for case in cases["tests"]:
            case["alert_rule_test"] = [
                {**entry, "alertname": each.names[entry["alertname"]]}
                for entry in case["alert_rule_test"]
                for each in here
                if entry["alertname"] in each.names
            ]
        (tmp_path / f"cases_{file.name}").write_text(yaml.safe_dump(cases), encoding="utf-8")
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "-v", f"{tmp_path}:/cases:ro", "-w", "/cases", image,
         "sh", "-c", "ls cases_*.yml | xargs -P 2 -n 1 promtool test rules"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = set(re.findall(r"alertname: (\w+), time:", done.stdout + done.stderr))
    assert failed, done.stdout + done.stderr
    assert not {name for each in same for name in each.names.values()} & failed
    survivors = [each for each in made if not failed & set(each.names.values())]
    assert not survivors, "\n".join(f"{each.rule}: {each.change}" for each in survivors)
    assert {name for each in made for name in each.names} == {rule["alert"] for rule in all_rules if "alert" in rule}


def test_every_objective_is_an_edge_of_the_buckets() -> None:
    """Else the share of what was late is not what is counted."""
    used = {edge for rule in rules() for edge in re.findall(r'le="([^"]+)"', rule["expr"])}
    assert used == {"1.0", "0.8"}
    assert {float(edge) for edge in used} <= set(LATENCY_BUCKETS)


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert() -> None:
    """In docs/operations.md: what is seen, where to look first, what to do."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = re.search(r"^## Alerts\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section is not None
    paragraphs = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", section[1], re.M | re.S))
    assert paragraphs.keys() == alerts().keys()
    for name, paragraph in paragraphs.items():
        rule: dict[str, Any] = alerts()[name]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
        for part in ("**Symptom.**", "**First look.**", "**Remedy.**"):
            assert part in paragraph, f"{name} has no {part}"
