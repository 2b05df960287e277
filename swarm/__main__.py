"""`docker compose config --format json | python -m swarm [--image NAME=REFERENCE] [--replicas SERVICE=N] …`.

Writes the stack file to standard output, and to standard error what of Compose's it does not have.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from swarm.stack import REPLICATED, SERVICES, StackError, only, render


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE; the name may hold none of `=`."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def count(text: str) -> tuple[str, int]:
    """SERVICE=N."""
    name, value = pair(text)
    if name not in REPLICATED or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not N replicas of {' or '.join(REPLICATED)}")
    return name, int(value)


def main(arguments: list[str] | None = None) -> int:
    """Read, render, write; 1 where something can't be said to Swarm."""
    parser = argparse.ArgumentParser(prog="python -m swarm", description="The stack file of a swarm.")
    parser.add_argument("--image", type=pair, action="append", default=[], help="NAME=REFERENCE, what nodes run for it")
    parser.add_argument("--replicas", type=count, action="append", default=[], help="SERVICE=N (default 1)")
    parser.add_argument("--nodes", type=int, default=1, help="of the swarm (default %(default)s)")
    parser.add_argument("--only", choices=SERVICES, help="one service alone")
    asked = parser.parse_args(arguments)
    try:
        stack = render(
            json.load(sys.stdin),
            images=dict(asked.image),
            replicas=dict(asked.replicas),
            nodes=asked.nodes,
            project=Path.cwd(),
        )
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    json.dump(only(stack.file, asked.only) if asked.only else stack.file, sys.stdout, indent=2)
    print()
    print("\n".join(f"note: {note}" for note in stack.notes), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
