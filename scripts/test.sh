#!/usr/bin/env bash
# Every check there is: style, types, unit tests, the real models in process, and the real stack.
# Arguments go to pytest.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

scripts/venv.sh
command -v systemd-analyze >/dev/null || {
  say "installing systemd-analyze"
  as_root apt-get -qq update && as_root apt-get -qq install -y --no-install-recommends systemd >/dev/null
}
scripts/lint.sh
scripts/up.sh
export MODELS_DIR=$PWD/.models
(($#)) && { say "pytest $*"; exec .venv/bin/python -m pytest "$@"; }
status=0
say "pytest: unit tests, on every core"
.venv/bin/python -m pytest --numprocesses logical -m unit || status=$?
say "pytest: the models and the stack, one test after another"
.venv/bin/python -m pytest -m "not unit" || status=$?
exit $status
