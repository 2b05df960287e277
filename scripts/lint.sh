#!/usr/bin/env bash
# Style and types, the same for everybody.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
[[ -x .venv/bin/ruff ]] || scripts/venv.sh

say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
say "mypy"
.venv/bin/mypy
say "shellcheck"
.venv/bin/shellcheck -x .ci/run scripts/*.sh docker/*.sh nginx/*.sh monitoring/*.sh
