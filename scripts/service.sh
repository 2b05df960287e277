#!/usr/bin/env bash
# service.sh start|restart|stop asr|tts|front: the replicas of a service, or everything else that .env wants (nginx, the
# monitoring). How many replicas: ASR_REPLICAS or TTS_REPLICAS of .env; without it as many as there are, at least one.
# Start and restart wait until all are healthy, stop until they have drained.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
action=${1:-} service=${2:-}
[[ $action =~ ^(start|restart|stop)$ && $service =~ ^(asr|tts|front)$ ]] ||
  die "usage: service.sh start|restart|stop asr|tts|front"

names=("$service") scales=()
if [[ $service == front ]]; then
  others=$(docker compose config --services | grep -vxE 'asr|tts|models')
  mapfile -t names <<<"$others"
elif [[ $action != stop ]]; then
  scaled=$(as_scaled "$service")
  read -ra scales <<<"$scaled"
fi
if [[ $action != start ]]; then
  docker compose "$action" "${names[@]}"
fi
if [[ $action != stop ]]; then
  docker compose up -d --no-recreate --no-build --wait --wait-timeout 300 "${scales[@]}" "${names[@]}" ||
    die "$service is not healthy: see  docker compose logs ${names[*]}   (nothing here yet: make up)"
fi
