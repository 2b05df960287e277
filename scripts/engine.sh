#!/usr/bin/env bash
# Sees to it that Docker Engine and Compose are here, recent enough, and running.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

LEAST_ENGINE=25.0   # healthcheck start_interval
LEAST_COMPOSE=2.24  # !reset in an overlay

installed() { command -v docker >/dev/null && command -v dockerd >/dev/null && docker compose version >/dev/null 2>&1; }
running() { docker info >/dev/null 2>&1; }

check_versions() {
  local engine compose
  engine=$(docker version --format '{{.Server.Version}}')
  compose=$(docker compose version --short)
  version_at_least "${engine%%[-+]*}" "$LEAST_ENGINE" ||
    die "Docker Engine $engine is too old, $LEAST_ENGINE or later is needed: https://docs.docker.com/engine/install/"
  version_at_least "${compose#v}" "$LEAST_COMPOSE" ||
    die "Docker Compose $compose is too old, $LEAST_COMPOSE or later is needed: https://docs.docker.com/compose/install/"
  say "Docker Engine $engine, Compose $compose"
}

if running && docker compose version >/dev/null 2>&1; then
  check_versions
  exit 0
fi

if ! installed; then
  # shellcheck source=/dev/null
  id=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}") || id=""
  [[ $id == *debian* || $id == *ubuntu* ]] ||
    die "Docker is missing and this is neither Debian nor Ubuntu: install it by https://docs.docker.com/engine/install/"
  say "installing Docker Engine and Compose"
  # A port that opens may still lead nowhere (a proxy that refuses): then the distribution's packages.
  if ! reachable download.docker.com 443 || ! as_root scripts/install-docker.sh repository; then
    as_root scripts/install-docker.sh packages
  fi
fi

if ! running && ! as_root docker info >/dev/null 2>&1; then
  say "starting Docker Engine"
  if [[ -d /run/systemd/system ]] && systemctl cat docker >/dev/null 2>&1; then
    as_root systemctl start docker
  else
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_root bash -c 'setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &'
  fi
  for _ in $(seq 60); do
    as_root docker info >/dev/null 2>&1 && break
    sleep 0.5
  done
  as_root docker info >/dev/null 2>&1 || {
    as_root tail -n 5 /var/log/dockerd.log >&2 || true
    die "Docker Engine does not start; its log is /var/log/dockerd.log, or: journalctl -u docker"
  }
fi
running || die "you may not use Docker: run  sudo usermod -aG docker $USER  and log in again"
check_versions
