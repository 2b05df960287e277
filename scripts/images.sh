#!/usr/bin/env bash
# Brings the base images (from a registry, or made here where none is reachable) and builds the stack's own.
# Further arguments go to `docker compose build`.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

PYTHON_IMAGE=python:3.13-slim-trixie
NGINX_IMAGE=nginx:1.30-trixie
MONITORING_IMAGE=debian:sid-slim
PYTHON_LOCAL=chorus/python-base:trixie
NGINX_LOCAL=chorus/nginx-base:sid
MONITORING_LOCAL=chorus/monitoring-base:sid-2   # another tag when its packages change

here() { docker image inspect "$1" >/dev/null 2>&1; }

# usable IMAGE LOCAL: whether it is here, and where it was made here, with the packages of today
usable() { here "$1" && [[ $1 != chorus/* || $1 == "$2" ]]; }

# make_base IMAGE SUITE PACKAGES
make_base() {
  here "$1" && return 0
  say "making $1 from Debian packages (about a minute)"
  as_root docker/base-image.sh "$1" "$2" "$3"
}

choose_bases() {
  if usable "$(setting PYTHON_BASE)" "$PYTHON_LOCAL" && usable "$(setting NGINX_BASE)" "$NGINX_LOCAL" &&
    usable "$(setting MONITORING_BASE)" "$MONITORING_LOCAL"; then
    return 0
  fi
  if reachable registry-1.docker.io 443 && timeout 300 docker pull -q "$PYTHON_IMAGE" >/dev/null &&
    timeout 300 docker pull -q "$NGINX_IMAGE" >/dev/null &&
    timeout 300 docker pull -q "$MONITORING_IMAGE" >/dev/null; then
    put_setting PYTHON_BASE "$PYTHON_IMAGE"
    put_setting NGINX_BASE "$NGINX_IMAGE"
    put_setting MONITORING_BASE "$MONITORING_IMAGE"
  else
    say "no image registry is reachable: base images are made here"
    command -v debootstrap >/dev/null || as_root apt-get -qq install -y --no-install-recommends debootstrap >/dev/null ||
      die "debootstrap can't be installed: pull $PYTHON_IMAGE, $NGINX_IMAGE and $MONITORING_IMAGE by hand"
    # At the same time: each waits for its downloads more than for the processor.
    local making=()
    make_base "$PYTHON_LOCAL" trixie python3,python3-venv,python3-pip &
    making+=("$!")
    make_base "$NGINX_LOCAL" sid nginx,gettext-base &
    making+=("$!")
    make_base "$MONITORING_LOCAL" sid \
      prometheus,prometheus-alertmanager,prometheus-nginx-exporter,prometheus-node-exporter,prometheus-blackbox-exporter &
    making+=("$!")
    local each failed=""
    for each in "${making[@]}"; do wait "$each" || failed=yes; done
    [[ -z $failed ]] || die "a base image could not be made: the lines above tell why"
    put_setting PYTHON_BASE "$PYTHON_LOCAL"
    put_setting NGINX_BASE "$NGINX_LOCAL"
    put_setting MONITORING_BASE "$MONITORING_LOCAL"
  fi
}

# Who wants the monitoring gets Grafana too, where its image can be had: one that can't would keep the stack from starting.
choose_grafana() {
  local profiles
  profiles=$(setting COMPOSE_PROFILES)
  [[ ,$profiles, == *,monitoring,* && ,$profiles, != *,grafana,* ]] || return 0
  if timeout 300 docker compose --profile grafana pull -q grafana >/dev/null 2>&1; then
    put_setting COMPOSE_PROFILES "$profiles,grafana"
  else
    say "without Grafana: its image can't be pulled"
  fi
}

# pip's settings of this machine, for builds and model packages; folders of this machine mean nothing in there.
write_pip_conf() {
  local settings=""
  if command -v pip3 >/dev/null; then
    settings=$(pip3 config list 2>/dev/null | sed -nE "s/^(global|:env:|user|site)\.(index-url|extra-index-url|trusted-host|proxy)='(.*)'$/\2 = \3/p" |
      grep -v 'file:' | sort -u) || true
  fi
  # Where the secret ca_bundle lies, in builds and in the models service.
  printf '[global]\ncert = /run/secrets/ca_bundle\n%s\n' "$settings" >.build/pip.conf
}

# Certificates that this machine trusts, a company's own among them.
write_ca_bundle() {
  local file places=("${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" /etc/ssl/certs/ca-certificates.crt
    /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem)
  for file in "${places[@]}"; do
    if [[ -s $file ]]; then
      cp -L "$file" .build/ca.pem
      return 0
    fi
  done
  die "this machine has no CA certificates: apt-get install ca-certificates"
}

[[ -f .env ]] || scripts/configure.sh
mkdir -p .build .models
# An index's address may hold a password: the folder is the owner's alone. The files in it are bound into a container
# whose user is another, so they are readable themselves.
chmod 700 .build
touch .build/pip.conf .build/ca.pem
chmod 644 .build/pip.conf .build/ca.pem
write_ca_bundle
choose_bases
choose_grafana
write_pip_conf
say "building the images (a few minutes the first time; the log is .build/build.log)"
log=.build/build.log
docker compose --progress plain build "$@" >"$log" 2>&1 || {
  tail -n 30 "$log" >&2
  die "the images could not be built; the whole log is $log"
}
for image in $(docker compose config --images | sort -u); do
  docker images --format '    {{.Repository}}:{{.Tag}}  {{.Size}}' "$image"
done
