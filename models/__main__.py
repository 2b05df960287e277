"""`python -m models fetch NAME...`, `verify NAME...`, `list`; folder and sources from the environment.

A name is one of `models.json`, or the id of any Piper voice.

MODELS_DIR        where models are kept (default /models)
LOCAL_MODELS_DIR  a folder with model folders, or the files of voices, in it; tried first
HF_ENDPOINT, HF_TOKEN  the hub's address and a token for it
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from models.catalogue import Model, ModelError, find_model, read_catalogue
from models.fetch import fetch, problems
from models.voices import LICENCE, find_voice, unlisted


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m models", description="Fetch and verify model files.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (("fetch", "bring models here, verified"), ("verify", "check models that are here")):
        commands.add_parser(command, help=text).add_argument("names", nargs="+", metavar="NAME")
    commands.add_parser("list", help="every model that can be fetched")
    asked = parser.parse_args(arguments)

    folder = Path(os.environ.get("MODELS_DIR") or "/models")
    local = Path(os.environ["LOCAL_MODELS_DIR"]) if os.environ.get("LOCAL_MODELS_DIR") else None
    try:
        if asked.command == "list":
            _list(folder)
            return 0
        # Names may come as one string, from an environment variable.
        for name in " ".join(asked.names).replace(",", " ").split():
            # What is to be verified is what is installed, not what it could be replaced by.
            model = _find(name, folder, local if asked.command == "fetch" else None)
            if asked.command == "fetch":
                fetch(model, folder, local)
            elif damage := problems(model, folder / model.name):
                raise ModelError(f"{name}: {'; '.join(damage)}")
            else:
                print(f"{name}: whole")
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _find(name: str, folder: Path, local: Path | None) -> Model:
    model = find_model(name) or find_voice(name, folder, local)
    if model is None:
        raise ModelError(
            f"{name!r} is not in models.json, nor a voice in LOCAL_MODELS_DIR, nor the id of one of Piper's "
            f"(as en_GB-alba-medium); models.json lists {', '.join(sorted(read_catalogue()))}"
        )
    return model


def _list(folder: Path) -> None:
    """Every model that is listed, then the voices that are here though they are not."""
    catalogue = read_catalogue()
    for model in catalogue.values():
        here = "here" if (folder / model.name).is_dir() else "-"
        print(f"{model.name:28} {model.kind:22} {here:6} {model.licence}")
    for name in unlisted(folder, set(catalogue)):
        print(f"{name:28} {'piper-voice':22} {'here':6} {LICENCE}")


if __name__ == "__main__":
    sys.exit(main())
