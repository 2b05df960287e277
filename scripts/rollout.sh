#!/usr/bin/env bash
# rollout.sh asr|tts: replaces every replica by one of the image and the settings that are there now, one after the
# other: the new one up and healthy, then the old one drained. No stream is cut in an utterance or a reply.
# May be interrupted and run again: what it left is put right first.
#
# Compose can't do it: it stops before it starts, and numbers what it adds one higher than all others, for good. So it
# is asked for one more container, which is never started, and what it made is made once more with the number of the one
# to replace. To Compose the new container is its own, with the name and the number that it would have given it.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

service=${1:-}
case $service in
asr) port=9001 ;;
tts) port=9002 ;;
*) die "name a service: make rollout SERVICE=asr|tts" ;;
esac

HEALTHY_S=300   # a large model from a cold disk
KNOWN_S=3       # nginx asks Docker's DNS every second

mkdir -p .build
exec 9>.build/rollout.lock
flock -n 9 || die "another roll-out is running; wait for its end"
trap 'warn "interrupted; to go on: make rollout SERVICE=$service"; exit 130' INT TERM

project=$(docker compose config | sed -n 's/^name: //p')
[[ -n $project ]] || die "docker compose config tells no project: run this where compose.yaml is, after  make up"

# Containers of the service by name; arguments are further filters of docker ps.
containers() {
  docker ps --all --format '{{.Names}}' --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False "$@" | sort -V
}
exists() { docker container inspect "$1" >/dev/null 2>&1; }
inspect() { docker container inspect --format "$2" "$1"; }
# shellcheck disable=SC2016 # a template of Docker's
networks() { inspect "$1" '{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}' | sed '/^$/d'; }

# What a replica says of its own status, or nothing where it does not answer.
status() {
  # shellcheck disable=SC2016 # for the shell in there
  docker exec "$1" bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 && printf "GET /health HTTP/1.0\r\n\r\n" >&3 && cat <&3' \
    "$port" 2>/dev/null | sed -n 's/.*"status":"\([a-z]*\)".*/\1/p'
}

# retire CONTAINER: drained and removed
retire() {
  # A second signal would end it at once.
  if [[ $(status "$1") == draining ]]; then
    timeout "$(inspect "$1" '{{.Config.StopTimeout}}')" docker wait "$1" >/dev/null || true
  fi
  docker stop "$1" >/dev/null || die "$1 can't be stopped; see  docker logs $1  and run this again"
  docker rm "$1" >/dev/null
}

# What a run that was interrupted left.
settle() {
  local each
  for each in $(containers --filter status=created); do
    docker rm "$each" >/dev/null
  done
  for each in $(containers); do
    if [[ $each == *-old ]] && ! exists "${each%-old}"; then
      docker rename "$each" "${each%-old}"
    elif [[ $each == *-old || $each == *-next ]]; then
      say "$each is left from a run that was interrupted: draining it"
      retire "$each"
    fi
  done
}

# create NAME NUMBER: a container as Compose makes it now, not started, and not yet known as one of the service
create() {
  local sample config host endpoints body answer
  docker compose up --no-start --no-deps --no-recreate --no-build --quiet-pull --scale "$service=$((count + 1))" "$service" \
    2>.build/rollout.log || {
    cat .build/rollout.log >&2
    die "Compose can't make another replica of $service (above); the old ones go on serving"
  }
  sample=$(containers --filter status=created)
  [[ $sample =~ ^[^[:space:]]+$ ]] || die "Compose was to make one container of $service, it made: ${sample:-none}"
  # Its name on the network would be that of the sample.
  config=$(inspect "$sample" '{{json .Config}}' | sed -E 's/"Hostname":"[^"]*"/"Hostname":""/')
  config=$(sed -E "s/(\"com.docker.compose.container-number\":)\"[0-9]+\"/\1\"$2\"/" <<<"$config")
  host=$(inspect "$sample" '{{json .HostConfig}}')
  # Without the service's name on the network nginx does not see it, and can't take it for one that fails.
  endpoints=$(networks "$sample" | sed 's/.*/"&":{}/' | paste -sd ,)
  docker rm "$sample" >/dev/null
  body="${config%\}},\"HostConfig\":$host,\"NetworkingConfig\":{\"EndpointsConfig\":{$endpoints}}}"
  # The command line can't repeat a container; the daemon behind it can.
  answer=$(
    LC_ALL=C
    printf 'POST /v%s/containers/create?name=%s HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
      "$(docker version --format '{{.Server.APIVersion}}')" "$1" "${#body}" "$body" | docker system dial-stdio
  )
  [[ $answer == "HTTP/1.1 201"* ]] || die "Docker refuses the container $1; the old ones go on serving: $answer"
}

# start NAME: until it is healthy
start() {
  local began=$SECONDS
  docker start "$1" >/dev/null || die "$1 does not start (above); the old replicas go on serving"
  until [[ $(inspect "$1" '{{.State.Health.Status}}') == healthy ]]; do
    if ((SECONDS - began > HEALTHY_S)) || [[ $(inspect "$1" '{{.State.Running}} {{.RestartCount}}') != "true 0" ]]; then
      docker logs --tail 20 "$1" >&2 || true
      docker rm --force "$1" >/dev/null
      die "the new replica does not become healthy (its last lines are above). The old ones go on serving." \
        "Put the image or .env right, see that one more replica fits into memory and onto the GPU, and run this again"
    fi
    sleep 0.5
  done
}

# join NAME KNOWN_AS: make it one of the service on its networks
join() {
  local network
  for network in $(networks "$1"); do
    docker network disconnect "$network" "$1"
    docker network connect --alias "$service" --alias "$2" "$network" "$1"
  done
  sleep "$KNOWN_S"
}

settle
mapfile -t old < <(containers)
count=${#old[@]}
((count)) || die "$service has no replica to replace: make start-$service"
for ((number = 1; number <= count; number++)); do
  name=$project-$service-$number
  say "$service $number of $count: starting a new one beside ${old[number - 1]}"
  create "$name-next" "$number"
  start "$name-next"
  join "$name-next" "$name"
  docker rename "${old[number - 1]}" "$name-old"
  docker rename "$name-next" "$name"
  say "$service $number of $count: the new one serves; draining the old one"
  retire "$name-old"
done
say "$service: replaced $count of $count"
