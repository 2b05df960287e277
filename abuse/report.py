"""Results as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from abuse.targets import Target
from abuse.vitals import health
from benchmarks.machine import in_words, write_result


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
