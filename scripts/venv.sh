#!/usr/bin/env bash
# A virtual environment with what the tests, the benchmarks and `make dev` need, and the models beside it.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

LEAST_PYTHON=3.11
python=${PYTHON:-python3}

command -v "$python" >/dev/null || {
  say "installing Python"
  as_root apt-get -qq update && as_root apt-get -qq install -y python3 python3-venv >/dev/null
}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
version_at_least "$found" "$LEAST_PYTHON" ||
  die "Python $found is too old for the tests, $LEAST_PYTHON or later is needed; name one: PYTHON=python3.13 make test"
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
  say "installing python3-venv"
  as_root apt-get -qq update && as_root apt-get -qq install -y "python$found-venv" >/dev/null
}

wanted=$(cat requirements/test.txt scripts/venv.sh | sha256sum)
if [[ ! -x .venv/bin/python || $(cat .venv/wanted 2>/dev/null) != "$wanted" ]]; then
  say "installing what the tests need into .venv"
  "$python" -m venv .venv
  .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/test.txt
  echo "$wanted" >.venv/wanted
fi
MODELS_DIR=.models .venv/bin/python -m models fetch whisper-tiny.en silero-vad en_US-joe-medium
