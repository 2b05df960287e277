#!/usr/bin/env bash
# logs.sh SERVICE[-N]: follows the log of a service's containers, or of its N-th alone; JSON, a line an event.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
name=${1:?usage: logs.sh SERVICE or SERVICE-N}

if [[ $name =~ ^(.+)-([0-9]+)$ ]]; then
  exec docker compose --profile '*' logs --follow --tail 100 --no-log-prefix --index "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}"
fi
exec docker compose --profile '*' logs --follow --tail 100 "$name"
