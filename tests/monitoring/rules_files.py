"""The alert rules and their cases, read; and rules made wrong on purpose."""

from __future__ import annotations

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
    """One number of one rule is another."""

    rule: str
    """The alert's or the record's name."""
    change: str
    rules: list[dict[str, Any]]
    """The changed rule under another name; of a record, also the alerts that use it, under other names too."""
    names: dict[str, str]
    """Of each alert's name, that of its copy."""


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


def mutants(file: Path) -> list[Mutant]:
    """Every number of the file's rules halved and doubled: thresholds, objectives, windows, bucket edges, `for`."""
    made: list[Mutant] = []
    all_rules = [rule for group in read(file)["groups"] for rule in group["rules"]]
    for rule in all_rules:
        for field in ("expr", "for"):
            old = rule.get(field, "")
            for start, end in spans(field, old):
                for number in sorted({scaled(old[start:end], factor) for factor in (0.5, 2)}):
                    changed = {**rule, field: old[:start] + number + old[end:]}
                    change = f"{field} at {start}: {old[start:end]} → {number}"
                    made.append(copied(changed, all_rules, f"_m{len(made)}", change))
    return made


def copied(rule: dict[str, Any], all_rules: list[dict[str, Any]], suffix: str, change: str) -> Mutant:
    """A rule under another name, and whatever uses it."""
    if "alert" in rule:
        name = rule["alert"]
        return Mutant(name, change, [{**rule, "alert": name + suffix}], {name: name + suffix})
    record = rule["record"]
    users = [each for each in all_rules if "alert" in each and re.search(rf"{record}\b", each["expr"])]
    copies = [
        {**each, "alert": each["alert"] + suffix, "expr": re.sub(rf"{record}\b", record + suffix, each["expr"])}
        for each in users
    ]
    names = {each["alert"]: each["alert"] + suffix for each in users}
    return Mutant(record, change, [{**rule, "record": record + suffix}, *copies], names)


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
