#!/usr/bin/env bash
# Compiles requirements/*.in to hash-pinned *.txt; no registry's address gets into them.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
for name in asr-cpu asr-gpu tts-cpu tts-gpu tts-gpu-no-deps loadtest test audit; do
  python=3.13
  [[ $name != test && $name != audit ]] || python=3.11
  options=()
  [[ $name != *-no-deps ]] || options=(--no-deps)
  say "requirements/$name.txt"
  (cd requirements && ../.venv/bin/uv pip compile --quiet --universal --python-version "$python" --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --native-tls "${options[@]}" "$name.in" --output-file "$name.txt")
done
