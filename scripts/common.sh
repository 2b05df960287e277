# Shared by the scripts beside it: where the project is, how to speak, how to become root.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# As in the images: ONNX Runtime's wheels report to their maker otherwise.
export ORT_DISABLE_TELEMETRY=1

# Handed on to the scripts that this one calls: a step shows the seconds since the first of them began.
export CHORUS_BEGAN=${CHORUS_BEGAN:-$(date +%s)}

say() { printf '\033[1m==>\033[0m [%3d s] %s\n' "$(($(date +%s) - CHORUS_BEGAN))" "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# as_root COMMAND...: as root, by sudo where needed
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root: run it as root, or install sudo"
  fi
}

# version_at_least HAVE WANTED
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# setting NAME: its value in .env without quotes and comment, or nothing
setting() { [[ -f .env ]] && sed -nE "s/^$1=//; T; s/[[:space:]]+#.*$//; s/^([\"'])(.*)\1$/\2/; p" .env | tail -n 1 || true; }

# put_setting NAME VALUE: that line of .env, replaced or added; every other line stays
put_setting() {
  if grep -q "^$1=" .env 2>/dev/null; then
    [[ $(setting "$1") == "$2" ]] || sed -i "s|^$1=.*|$1=$2|" .env
  else
    printf '%s=%s\n' "$1" "$2" >>.env
  fi
}

# as_scaled SERVICE...: the --scale options that give each the number of replicas that .env says (ASR_REPLICAS,
# TTS_REPLICAS), or keep it at its number of containers. Without them `docker compose up` takes every service back to one.
as_scaled() {
  local service name count
  for service in "$@"; do
    name=${service^^}_REPLICAS
    count=$(setting "$name")
    if [[ -z $count ]]; then
      count=$(docker compose ps --all --quiet "$service" | wc -l)
      ((count > 0)) || count=1
    elif [[ ! $count =~ ^[1-6]$ ]]; then
      die "$name: must be 1 to 6 (got '$count')"
    fi
    printf -- '--scale %s=%d ' "$service" "$count"
  done
}

# reachable HOST PORT: whether a TCP connection opens within five seconds
reachable() { timeout 5 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }
