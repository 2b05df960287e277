#!/usr/bin/env bash
# From nothing to a stack that has proved itself: engine, configuration, images, models, start, health, proof.
# Safe to run again; what is there already is left alone.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

scripts/engine.sh
scripts/configure.sh
scripts/images.sh

say "fetching and verifying the models"
docker compose run --rm -T models || die "the models could not be fetched; the lines above tell which and why"

say "starting"
scaled=$(as_scaled asr tts)
read -ra scales <<<"$scaled"
docker compose up -d --wait --wait-timeout 300 --quiet-pull "${scales[@]}" 2>.build/up.log || {
  tail -n 5 .build/up.log >&2
  docker compose ps -a >&2
  die "not every service became healthy within 300 s: see  docker compose logs"
}
docker compose ps --format 'table {{.Name}}\t{{.Status}}'

image=$(docker compose config --images | grep '^chorus/asr')
if [[ -n ${CHORUS_API_KEYS_FILE:-$(setting CHORUS_API_KEYS_FILE)} && -z ${CHORUS_API_KEY:-} ]]; then
  warn "not proved by a sentence, as streams need a key: CHORUS_API_KEY=… make up"
  docker run --rm --network host "$image" python3 -m chorus health
else
  say "proving it: a sentence spoken by TTS, transcribed by ASR"
  docker run --rm --network host --env CHORUS_API_KEY "$image" python3 -m chorus prove
fi

cat <<URLS

speech to text   ws://localhost:8000/v1/stream/asr    (replicas: 8001, 8011 … 8051)
text to speech   ws://localhost:8003/v1/stream/tts    (replicas: 8002, 8012 … 8052)
health           http://localhost:8000/health  http://localhost:8003/health
nginx            http://localhost:8080/nginx_status
URLS
if [[ ,$(setting COMPOSE_PROFILES), == *,monitoring,* ]]; then
  echo "prometheus       http://localhost:9090   alerts  http://localhost:9093"
fi
if [[ ,$(setting COMPOSE_PROFILES), == *,grafana,* ]]; then
  echo "grafana          http://localhost:3000"
fi
say "up; more replicas: docker compose up -d --scale asr=4 --scale tts=2"
