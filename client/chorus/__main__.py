"""The command line, `chorus` or `python -m chorus`."""

from __future__ import annotations

import argparse
import sys

from chorus import __version__
from chorus.commands import health, prove, speak, transcribe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        status: int = asked.run(asked)
    except KeyboardInterrupt:
        return 130  # as a shell tells it
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chorus", description="Speech to text and text to speech, streamed.")
    parser.add_argument("--version", action="version", version=f"chorus {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (transcribe, speak, health, prove):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
