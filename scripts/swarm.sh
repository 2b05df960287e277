#!/usr/bin/env bash
# The stack on the Docker Swarm that this engine manages (docs/swarm.md).
#   swarm.sh render   writes the stack file, .build/swarm.json
#   swarm.sh deploy   renders and deploys: first the models, on every node, then everything else, until all of it serves
#   swarm.sh remove   drains and removes the stack; models stay
# Nodes get images by their digests: on one node those that it has built, on several from the registry SWARM_REGISTRY.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

PATIENCE_S=300  # without any progress; a large model from a cold disk takes a while
STACK_FILE=.build/swarm.json
SERVICES=(models asr tts nginx)

project() { docker compose config | sed -n 's/^name: //p'; }
inspect() { docker service inspect --format "$2" "${stack}_$1" 2>/dev/null; }

# digest_of IMAGE: what every node knows the image by
digest_of() {
  local name
  docker image inspect "$1" >/dev/null 2>&1 || die "there is no image $1: make images"
  if [[ -z $registry ]]; then
    docker image inspect --format '{{.Id}}' "$1"
    return
  fi
  name=$registry/${1##*/}
  docker tag "$1" "$name"
  docker push --quiet "$name" >&2 || die "$name can't be pushed (above); is SWARM_REGISTRY right, and are you logged in?"
  [[ ${1##*/} != *:* ]] || name=${name%:*}
  docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | grep "^$name@" | head -n 1
}

# replicas_of SERVICE: as many as there are, so that what `docker service scale` has done stays
replicas_of() {
  local count
  count=$(inspect "$1" '{{.Spec.Mode.Replicated.Replicas}}') || count=1
  echo "$count"
}

# render [ARGUMENT...]: the stack file to standard output
render() {
  local image arguments=(--nodes "$nodes" "$@")
  for image in $(docker compose config --images "${SERVICES[@]}" | sort -u); do
    arguments+=(--image "$image=$(digest_of "$image")")
  done
  for service in asr tts; do
    arguments+=(--replicas "$service=$(replicas_of "$service")")
  done
  docker compose config --format json | "${PYTHON:-python3}" -m swarm "${arguments[@]}"
}

# deploy_file FILE
deploy_file() {
  docker stack deploy --resolve-image never --with-registry-auth --detach=true --compose-file "$1" "$stack" >.build/swarm.log 2>&1 || {
    cat .build/swarm.log >&2
    die "Swarm refuses the stack (above)"
  }
}

# give_up WHY
give_up() {
  docker stack ps --no-trunc --format 'table {{.Name}}\t{{.Node}}\t{{.CurrentState}}\t{{.Error}}' "$stack" | head -n 20 >&2
  die "$1"
}

# Until the job has brought the models to every node. It tries as often as its restart policy says.
wait_for_models() {
  local idle=0 told
  until told=$(docker service ls --filter "name=${stack}_models" --format '{{.Replicas}}') &&
    [[ $told =~ \(([1-9][0-9]*)/([0-9]+)\ completed\) && ${BASH_REMATCH[1]} == "${BASH_REMATCH[2]}" ]]; do
    if docker service ps --format '{{.CurrentState}}' "${stack}_models" | grep -qvE '^(Complete|Failed|Rejected|Shutdown|Orphaned)'; then
      idle=0
    else
      idle=$((idle + 1))
    fi
    ((idle < 10)) || {
      docker service logs --raw --tail 20 "${stack}_models" >&2 || true
      give_up "the models could not be fetched; the lines above tell which and why"
    }
    sleep 1
  done
}

# updates: of each service, when its newest update began and what became of it
# shellcheck disable=SC2016 # templates of Docker's
updates() {
  for service in asr tts nginx; do
    printf '%s %s\n' "$service" "$(inspect "$service" '{{with .UpdateStatus}}{{.StartedAt.UnixNano}} {{.State}}{{end}}')"
  done
}

# wait_for_services BEFORE: until all run what was deployed; BEFORE is what `updates` said ahead of it
wait_for_services() {
  local seen="" now fresh since=$SECONDS
  while true; do
    now=$(docker stack services --format '{{.Name}} {{.Replicas}}' "$stack" | sed "s/^${stack}_//" | grep -v '^models ' | sort | paste -sd ,)
    fresh=$(updates | grep -vxF "$1" || true)
    case $fresh in
    *rollback_* | *paused*) give_up "what was deployed does not become healthy, and what ran before goes on serving" ;;
    esac
    if [[ $fresh != *updating* && -n $now ]] && all_run "$now"; then
      return 0
    fi
    if [[ $now$fresh != "$seen" ]]; then
      say "${now//,/, }"
      seen=$now$fresh since=$SECONDS
    fi
    ((SECONDS - since < PATIENCE_S)) || give_up "no progress for $PATIENCE_S s"
    sleep 1
  done
}

# all_run "NAME HAVE/WANTED,…"
all_run() {
  local each
  for each in ${1//,/ }; do
    [[ $each != */* || ${each%%/*} == "${each#*/}" ]] || return 1
  done
}

# Those that no service holds any more: keys that were taken back, for one.
remove_old_secrets() {
  local secret
  for secret in $(docker secret ls --quiet --filter "label=com.docker.stack.namespace=$stack"); do
    docker secret rm "$secret" >/dev/null 2>&1 || true
  done
}

prepare() {
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "the stack file is written by Python 3.11 or later; name one: PYTHON=python3.13 make swarm-deploy"
  mkdir -p .build
  exec 9>.build/swarm.lock
  flock -n 9 || die "another run of this script is at work here; wait for its end"
  stack=$(project)
  [[ -n $stack ]] || die "docker compose config tells no project (above)"
  registry=${SWARM_REGISTRY:-$(setting SWARM_REGISTRY)}
  [[ $(docker info --format '{{.Swarm.ControlAvailable}}') == true ]] ||
    die "this engine manages no swarm; to make one: docker swarm init --advertise-addr ADDRESS-OF-THIS-MACHINE"
  nodes=$(docker node ls --quiet | wc -l)
  ((nodes == 1)) || [[ -n $registry ]] ||
    die "the swarm has $nodes nodes, which get their images from a registry: set SWARM_REGISTRY in .env (registry.example.com/chorus)"
}

case ${1:-} in
render)
  prepare
  render >"$STACK_FILE"
  say "$STACK_FILE"
  ;;
deploy)
  prepare
  [[ -z $(docker compose ps --quiet asr tts nginx) ]] || die "Compose runs the same stack on this machine: make down"
  render >"$STACK_FILE"
  render --only models >.build/swarm-models.json 2>/dev/null
  say "models, on $nodes node(s)"
  deploy_file .build/swarm-models.json
  wait_for_models
  before=$(updates)
  say "deploying $stack"
  deploy_file "$STACK_FILE"
  wait_for_services "$before"
  wait_for_models  # Swarm runs a job anew at every deployment, which verifies what is there
  remove_old_secrets
  docker stack services "$stack"
  say "up; more replicas: docker service scale ${stack}_asr=4 ${stack}_tts=2"
  ;;
remove)
  stack=$(project)
  docker stack rm "$stack"
  while [[ -n $(docker ps --all --quiet --filter "label=com.docker.stack.namespace=$stack") ]] ||
    [[ -n $(docker network ls --quiet --filter "label=com.docker.stack.namespace=$stack") ]]; do
    sleep 1
  done
  ;;
*) die "usage: swarm.sh render|deploy|remove" ;;
esac
