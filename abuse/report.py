"""Results as Markdown and JSON, and as the tables of docs/security.md.

python -m abuse.report       writes the tables anew from abuse/results/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from abuse.targets import Target
from abuse.vitals import health
from benchmarks.machine import in_words, write_result
from benchmarks.replica import ROOT

RESULTS = ROOT / "abuse" / "results"
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- written by python -m abuse.report -->", "<!-- to here -->"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def told_targets(targets: Sequence[Target]) -> str:
    """On what it ran, in a line."""
    told = [health(target) for target in targets]
    names = ", ".join(
        f"{each.name} ({of.get('model', of.get('voice'))})" for each, of in zip(targets, told, strict=True)
    )
    return f"{in_words()}. Against {names}."


def write(output: Path, text: str, result: Mapping[str, object]) -> None:
    """Both files; `output` is their name without suffix."""
    write_result(output, text + "\n", result)
    print(f"written: {output.with_suffix('.md')}, {output.with_suffix('.json')}")


def page_tables(conformance: dict[str, Any], fuzz: dict[str, Any]) -> str:
    """What docs/security.md shows of both results."""
    machine = fuzz["machine"]
    heading = f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB, seed {fuzz['seed']}:"
    names = list(dict.fromkeys((*conformance["targets"], *fuzz["targets"])))

    def row(what: str, found: dict[str, Any], cell: Any) -> list[str]:
        return [what, *(str(cell(found["targets"][name])) if name in found["targets"] else "" for name in names)]

    rows = [
        row("cases of RFC 6455", conformance, lambda of: of["cases"]),
        row("not kept", conformance, lambda of: len(of["failed"])),
        row("left behind by them", conformance, lambda of: "; ".join(of["left"]) or "nothing"),
        row("bad inputs", fuzz, lambda of: f"{of['inputs']:,}"),
        row("errors told of them", fuzz, lambda of: f"{_errors(of):,}"),
        row("promises broken", fuzz, lambda of: len(of["failures"])),
        row("left behind by them", fuzz, lambda of: "; ".join(of["left"]) or "nothing"),
        row("memory after a tenth and at the end", fuzz, _memory),
    ]
    skipped = [[each["ids"], each["what"], each["reason"]] for each in conformance["skipped"]]
    return "\n\n".join(
        [heading, table(["", *names], rows), "Not run:", table(["Autobahn's cases", "what", "why"], skipped)]
    )


def _errors(of: dict[str, Any]) -> int:
    return sum(count for kind, count in of["answers"].items() if kind.startswith("error "))


def _memory(of: dict[str, Any]) -> str:
    vitals = of["vitals"]
    return f"{vitals[len(vitals) // 10]['rss_mb']:.0f}, {vitals[-1]['rss_mb']:.0f} MiB" if vitals else ""


def main() -> None:
    """Write the page's tables. A page without their place raises `ValueError`."""
    found = [json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("conformance", "fuzz")]
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{page_tables(found[0], found[1])}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
