#!/usr/bin/env bash
# chaos.sh [ARGUMENT...]: hurts a stack of its own, and writes what came of it (docs/reliability.md tells of it).
# A Compose project beside the user's, without a published port; whatever happens, it is put away at the end.
# Needs root: it enters the network namespaces of its own containers. Arguments go to python -m chaos (--help).
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || die "this needs root: run it as root, or install sudo"
  ask=()
  [[ -t 0 ]] || ask=(--non-interactive)
  exec sudo "${ask[@]}" --preserve-env=CHORUS_BEGAN "$0" "$@"
fi

export COMPOSE_PROJECT_NAME=${CHAOS_PROJECT:-chorus-chaos} COMPOSE_FILE=compose.yaml:compose.cpu.yaml:chaos/compose.yaml
export CHAOS_DIR=$PWD/.build/chaos LOCAL_MODELS_DIR=$PWD/.build/chaos/local COMPOSE_PROFILES=""

mkdir -p .build
exec 8>.build/chaos.lock
flock -n 8 || die "another run is under way; wait for its end"

child=""
# shellcheck disable=SC2329 # by the traps
interrupted() {
  if [[ -n $child ]]; then
    # With whatever it has started: a `docker compose up` of its own would go on after the end.
    kill -- "-$child" 2>/dev/null || true
    wait "$child" || true
  fi
  exit "$1"
}
# shellcheck disable=SC2329
put_away() {
  say "putting $COMPOSE_PROJECT_NAME away"
  docker compose down --volumes --remove-orphans --rmi all --timeout 1 >.build/chaos-down.log 2>&1 ||
    warn "the stack $COMPOSE_PROJECT_NAME could not be put away: docker compose -p $COMPOSE_PROJECT_NAME down -v"
  rm -rf "$CHAOS_DIR"
}

# What the faults need of this machine.
tools() {
  local each
  for each in iptables nsenter unshare; do
    command -v "$each" >/dev/null || apt-get -qq install -y iptables util-linux >/dev/null ||
      die "$each is missing, and can't be installed: apt-get install iptables util-linux"
  done
  local place
  place=$(find /usr/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1)
  if [[ -z $place ]]; then
    (cd "$CHAOS_DIR" && apt-get -qq -o APT::Sandbox::User=root download libfaketime >/dev/null && dpkg -x libfaketime_*.deb faketime) ||
      warn "libfaketime can't be had: the fault 'clock' will fail"
    place=$(find "$CHAOS_DIR" -name libfaketimeMT.so.1 | head -n 1)
  fi
  [[ -z $place ]] || cp "$place" "$CHAOS_DIR/"
}

# What is mounted into its containers, and the models, with a voice that nobody has loaded.
prepare() {
  rm -rf "$CHAOS_DIR"
  mkdir -p "$CHAOS_DIR/python" "$CHAOS_DIR/local/chaos"
  cp chaos/python/sitecustomize.py "$CHAOS_DIR/python/"
  echo +0 >"$CHAOS_DIR/clock"
  cp -rL .models/whisper-tiny.en .models/silero-vad .models/piper-en_US-joe-medium "$CHAOS_DIR/local/"
  cp .models/piper-en_US-joe-medium/en_US-joe-medium.onnx "$CHAOS_DIR/local/chaos/chaos.onnx"
  cp .models/piper-en_US-joe-medium/en_US-joe-medium.onnx.json "$CHAOS_DIR/local/chaos/chaos.onnx.json"
}

scripts/engine.sh
scripts/venv.sh
trap put_away EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
prepare
tools
scripts/images.sh asr tts nginx models
# Not the user's settings: keys, models and limits of theirs would make it another test.
grep -E '^(PYTHON_BASE|NGINX_BASE|MONITORING_BASE)=' .env >"$CHAOS_DIR/env" || true
export COMPOSE_ENV_FILES=$CHAOS_DIR/env

say "starting $COMPOSE_PROJECT_NAME beside whatever runs"
docker compose down --volumes --remove-orphans --timeout 1 >/dev/null 2>&1 || true
docker compose up -d --no-build outside >.build/chaos-up.log 2>&1 || {
  tail -n 5 .build/chaos-up.log >&2
  die "it does not start; the whole log is .build/chaos-up.log"
}

# As a client on that stack's network: its namespace, and its way of asking for names.
outside=$COMPOSE_PROJECT_NAME-outside-1
pid=$(docker inspect --format '{{.State.Pid}}' "$outside")
names=$(docker inspect --format '{{.ResolvConfPath}}' "$outside")
export PYTHONPATH=.:client
status=0
# shellcheck disable=SC2016 # for the shell in there
setsid nsenter "--net=/proc/$pid/ns/net" unshare --mount sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$names" \
  .venv/bin/python -m chaos "$@" &
child=$!   # in the background: a trap would wait for the end of a command in the foreground
wait "$child" || status=$?
exit "$status"
