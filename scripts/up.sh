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

# The client in the services' image connects as any does, with TLS by the name in the certificate.
image=$(docker compose config --images | grep '^chorus/asr')
chorus=(docker run --rm --network host --env CHORUS_API_KEY)
ws=ws http=http name=""
tls=${CHORUS_TLS_DIR:-$(setting CHORUS_TLS_DIR)}
if [[ -n $tls ]]; then
  ws=wss http=https name=${CHORUS_TLS_NAME:-$(setting CHORUS_TLS_NAME)}
  if [[ -n $name ]]; then
    chorus+=(--add-host "$name:127.0.0.1")
  fi
  if [[ -f $tls/ca.pem ]]; then
    chorus+=(--volume "$(realpath "$tls/ca.pem"):/ca.pem:ro" --env CHORUS_CA_FILE=/ca.pem)
  fi
fi
chorus+=("$image" python3 -m chorus)
asr=$ws://${name:-127.0.0.1}:8000 tts=$ws://${name:-127.0.0.1}:8003
if [[ -n ${CHORUS_API_KEYS_FILE:-$(setting CHORUS_API_KEYS_FILE)} && -z ${CHORUS_API_KEY:-} ]]; then
  warn "not proved by a sentence, as streams need a key: CHORUS_API_KEY=… make up"
  "${chorus[@]}" health --url "$asr" --url "$tts"
else
  say "proving it: a sentence spoken by TTS, transcribed by ASR"
  "${chorus[@]}" prove --asr-url "$asr" --tts-url "$tts"
fi

name=${name:-localhost}
cat <<URLS

speech to text   $ws://$name:8000/v1/stream/asr    (replicas: 8001, 8011 … 8051)
text to speech   $ws://$name:8003/v1/stream/tts    (replicas: 8002, 8012 … 8052)
health           $http://$name:8000/health  $http://$name:8003/health
nginx            http://localhost:8080/nginx_status
URLS
if [[ ,$(setting COMPOSE_PROFILES), == *,monitoring,* ]]; then
  echo "prometheus       http://localhost:9090   alerts  http://localhost:9093"
fi
if [[ ,$(setting COMPOSE_PROFILES), == *,grafana,* ]]; then
  echo "grafana          http://localhost:3000"
fi
say "up; more replicas: docker compose up -d --scale asr=4 --scale tts=2"
