#!/usr/bin/env bash
# Known vulnerabilities of the pinned packages (where PyPI answers), how services, images and containers are confined,
# and a bill of materials for each image, in .build/sbom. Fails with findings alone.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

venv=.build/audit
wanted=$(sha256sum <requirements/audit.txt)
if [[ $(cat "$venv/wanted" 2>/dev/null) != "$wanted" ]]; then
  say "installing what the audit needs into $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/audit.txt
  echo "$wanted" >"$venv/wanted"
fi
exec "$venv/bin/python" -m audit .build/sbom
