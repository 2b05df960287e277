#!/usr/bin/env bash
# Brings the base images (from a registry, or made here where none is reachable) and builds the stack's own.
# Further arguments go to `docker compose build`.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

PYTHON_IMAGE=python:3.13-slim-trixie
NGINX_IMAGE=nginx:1.30-trixie
PYTHON_LOCAL=chorus/python-base:trixie
NGINX_LOCAL=chorus/nginx-base:sid

here() { docker image inspect "$1" >/dev/null 2>&1; }

# make_base IMAGE SUITE PACKAGES
make_base() {
  here "$1" && return 0
  command -v debootstrap >/dev/null || as_root apt-get -qq install -y --no-install-recommends debootstrap >/dev/null ||
    die "no image registry is reachable and debootstrap can't be installed: pull $PYTHON_IMAGE and $NGINX_IMAGE by hand"
  say "making $1 from Debian packages (about a minute)"
  as_root docker/base-image.sh "$1" "$2" "$3"
}

choose_bases() {
  if here "$(setting PYTHON_BASE)" && here "$(setting NGINX_BASE)"; then
    return 0
  fi
  if reachable registry-1.docker.io 443 && docker pull -q "$PYTHON_IMAGE" >/dev/null && docker pull -q "$NGINX_IMAGE" >/dev/null; then
    put_setting PYTHON_BASE "$PYTHON_IMAGE"
    put_setting NGINX_BASE "$NGINX_IMAGE"
  else
    say "no image registry is reachable: base images are made here"
    make_base "$PYTHON_LOCAL" trixie python3,python3-venv,python3-pip
    make_base "$NGINX_LOCAL" sid nginx,gettext-base
    put_setting PYTHON_BASE "$PYTHON_LOCAL"
    put_setting NGINX_BASE "$NGINX_LOCAL"
  fi
}

# pip's settings of this machine, for builds and model packages; folders of this machine mean nothing in there.
write_pip_conf() {
  mkdir -p .build .models
  local settings=""
  if command -v pip3 >/dev/null; then
    settings=$(pip3 config list 2>/dev/null | sed -nE "s/^(global|:env:|user|site)\.(index-url|extra-index-url|trusted-host|proxy)='(.*)'$/\2 = \3/p" |
      grep -v 'file:' | sort -u) || true
  fi
  printf '[global]\n%s\n' "$settings" >.build/pip.conf.new
  # An unchanged file keeps its age, and with it the build cache.
  if cmp -s .build/pip.conf.new .build/pip.conf; then
    rm .build/pip.conf.new
  else
    mv .build/pip.conf.new .build/pip.conf
  fi
}

[[ -f .env ]] || die "there is no .env yet: run  make up"
choose_bases
write_pip_conf
say "building the images"
log=.build/build.log
docker compose --progress plain build "$@" >"$log" 2>&1 || {
  tail -n 30 "$log" >&2
  die "the images could not be built; the whole log is $log"
}
for image in $(docker compose config --images | sort -u); do
  docker images --format '    {{.Repository}}:{{.Tag}}  {{.Size}}' "$image"
done
