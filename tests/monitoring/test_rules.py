"""The alert rules by promtool: their cases pass, each alert has all kinds, and no number can be wrong unnoticed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.metrics import LATENCY_BUCKETS
from tests.conftest import ROOT
from tests.monitoring.conftest import Promtool
from tests.monitoring.rules_files import CASES, RULES, alerts, mutants, read, rules

pytestmark = pytest.mark.stack

FILES = sorted(f"tests/monitoring/rules/{file.name}" for file in CASES.glob("*.yml"))
# Says the folder's name where every case passes.
TRY = """
cd "$1" && mapfile -t given <given
promtool test rules "${given[@]}" >/dev/null 2>&1 && echo "$1"
true
"""


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


def prepare(folder: Path, rules_file: str, text: str, alert: str | None) -> None:
    """A folder with these rules and the cases to be tried on them: those of an alert, or all of the file."""
    folder.mkdir()
    (folder / rules_file).write_text(text, encoding="utf-8")
    given = [] if alert is None else [f"--run={alert}"]
    for cases in sorted(CASES.glob("*.yml")):
        said = cases.read_text(encoding="utf-8")
        if f"/{rules_file}]" in said and (alert is None or f"alertname: {alert}" in said):
            (folder / f"cases_{cases.name}").write_text(
                said.replace("../../../monitoring/rules/", ""), encoding="utf-8"
            )
            given.append(f"cases_{cases.name}")
    assert given[1:], f"no case for {rules_file}, {alert}"
    (folder / "given").write_text("\n".join(given) + "\n", encoding="utf-8")


def test_a_number_that_is_half_or_double_makes_a_case_fail(image: str, tmp_path: Path) -> None:
    """Every threshold, objective, window, bucket edge and `for` of every rule, each by itself."""
    tmp_path.chmod(0o755)
    made = list(mutants())
    for number, mutant in enumerate(made):
        prepare(tmp_path / str(number), mutant.file, mutant.text, mutant.rule if mutant.rule in alerts() else None)
    unchanged = {f"unchanged-{file.stem}" for file in RULES.glob("*.yml")}
    for file in RULES.glob("*.yml"):
        prepare(tmp_path / f"unchanged-{file.stem}", file.name, file.read_text(encoding="utf-8"), None)
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "-v", f"{tmp_path}:/mutants:ro", "-w", "/mutants", image,
         "sh", "-c", 'ls | xargs -P 2 -I {} bash -c "$0" try {}', TRY],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    passed = set(done.stdout.split())
    assert unchanged <= passed
    survivors = [made[int(number)] for number in passed - unchanged]
    assert not survivors, "\n".join(f"{each.rule}: {each.change}" for each in survivors)
    kinds = {kind for each in made for kind in ("expr", "for") if each.change.startswith(kind)}
    assert kinds == {"expr", "for"}
    assert {each.rule for each in made} >= alerts().keys()


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
