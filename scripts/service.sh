#!/usr/bin/env bash
# service.sh start|restart asr|tts: every replica that there is (one, where there is none), until all are healthy.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
action=${1:-} service=${2:-}
[[ $action =~ ^(start|restart)$ && $service =~ ^(asr|tts)$ ]] || die "usage: service.sh start|restart asr|tts"

read -ra scales <<<"$(as_scaled "$service")"
if [[ $action == restart ]]; then
  docker compose restart "$service"
fi
docker compose up -d --no-recreate --no-build --wait --wait-timeout 300 "${scales[@]}" "$service" ||
  die "$service is not healthy: see  docker compose logs $service   (nothing here yet: make up)"
