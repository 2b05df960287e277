"""`python -m models fetch NAME...`, `verify NAME...`, `list`; folder and sources from the environment.

MODELS_DIR        where models are kept (default /models)
LOCAL_MODELS_DIR  a folder with model folders in it, tried first
HF_ENDPOINT, HF_TOKEN  the hub's address and a token for it
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from models.catalogue import ModelError, find_model, read_catalogue
from models.fetch import fetch, problems


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m models", description="Fetch and verify model files.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (("fetch", "bring models here, verified"), ("verify", "check models that are here")):
        commands.add_parser(command, help=text).add_argument("names", nargs="+", metavar="NAME")
    commands.add_parser("list", help="every model that can be fetched")
    asked = parser.parse_args(arguments)

    folder = Path(os.environ.get("MODELS_DIR") or "/models")
    local = os.environ.get("LOCAL_MODELS_DIR")
    try:
        if asked.command == "list":
            for model in read_catalogue().values():
                here = "here" if (folder / model.name).is_dir() else "-"
                print(f"{model.name:28} {model.kind:22} {here:6} {model.licence}")
            return 0
        # Names may come as one string, from an environment variable.
        for name in " ".join(asked.names).replace(",", " ").split():
            model = find_model(name)
            if asked.command == "fetch":
                fetch(model, folder, Path(local) if local else None)
            elif damage := problems(model, folder / model.name):
                raise ModelError(f"{name}: {'; '.join(damage)}")
            else:
                print(f"{name}: whole")
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
