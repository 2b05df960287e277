"""The alert rules and their cases, read; and rules made wrong on purpose."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

RULES = ROOT / "monitoring" / "rules"
CASES = ROOT / "tests" / "monitoring" / "rules"

NUMBER = re.compile(
    r"""
    le="(?P<edge> [0-9.]+ )"                # a bucket
    | \[ (?P<window> \d+[smhd] )            # how far back
    | "[^"]*" | [a-zA-Z_:][a-zA-Z0-9_:]*    # strings and names, whatever digits are in them
    | :\d+[smhd]                            # steps of a subquery: how finely, not how much
    | (?P<number> \d+ (?: \.\d+ )? )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Mutant:
    """A file of rules in which one number of one rule is another."""

    file: str
    rule: str
    """The alert's or the record's name."""
    change: str
    text: str


def read(file: Path) -> dict[str, Any]:
    """A YAML file."""
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def rules() -> list[dict[str, Any]]:
    """Every rule there is."""
    return [rule for file in sorted(RULES.glob("*.yml")) for group in read(file)["groups"] for rule in group["rules"]]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def mutants() -> Iterator[Mutant]:
    """Every number of every rule halved and doubled: thresholds, objectives, windows, edges of buckets, `for`."""
    for file in sorted(RULES.glob("*.yml")):
        content = read(file)
        for g, group in enumerate(content["groups"]):
            for r, rule in enumerate(group["rules"]):
                for field in ("expr", "for"):
                    for start, end in spans(field, rule.get(field, "")):
                        old = rule[field][start:end]
                        for factor in (0.5, 2):
                            new = scaled(old, factor)
                            if new == old:
                                continue
                            changed = copy.deepcopy(content)
                            changed["groups"][g]["rules"][r][field] = rule[field][:start] + new + rule[field][end:]
                            name = rule.get("alert") or rule["record"]
                            change = f"{field} at {start}: {old} → {new}"
                            yield Mutant(file.name, name, change, yaml.safe_dump(changed, sort_keys=False))


def spans(field: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the numbers of an expression are, or the one of a `for`."""
    if field == "for":
        if text:
            yield 0, len(text)
        return
    for found in NUMBER.finditer(text):
        for kind in ("window", "edge", "number"):
            if found.group(kind):
                yield found.span(kind)


def scaled(number: str, factor: float) -> str:
    """`5m` or `0.8` times that; nothing becomes one."""
    unit = number[-1] if number[-1].isalpha() else ""
    value = float(number.rstrip("smhd"))
    if value == 0:
        return "1"
    if unit:
        seconds = value * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] * factor
        return f"{seconds:.0f}s"
    return f"{value * factor:.15g}"
