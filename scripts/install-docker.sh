#!/usr/bin/env bash
# Installs Docker Engine and Compose on Debian or Ubuntu, as root.
#   repository  from Docker's own apt repository (https://docs.docker.com/engine/install/debian/)
#   packages    from the distribution's packages; where they are too old, from those of Debian sid, whose programs
#               need only libc 2.34 and run beside this system's containerd and runc
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -qq -o Dpkg::Use-Pty=0 "$@" >/dev/null; }
apt update

from_repository() {
  # shellcheck source=/dev/null
  . /etc/os-release
  # A source that does not answer would break every later `apt-get update`.
  trap '[[ -n ${installed:-} ]] || rm -f /etc/apt/sources.list.d/docker.list' EXIT
  local key=/etc/apt/keyrings/docker.asc
  apt install --no-install-recommends ca-certificates curl
  install -m 0755 -d /etc/apt/keyrings
  curl -fsSL --max-time 30 "https://download.docker.com/linux/$ID/gpg" -o "$key"
  echo "deb [arch=$(dpkg --print-architecture) signed-by=$key] https://download.docker.com/linux/$ID $VERSION_CODENAME stable" \
    >/etc/apt/sources.list.d/docker.list
  apt update
  apt install docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin
  installed=yes
}

candidate() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ {print $2}' | sed 's/^[0-9]*://'; }

from_distribution() {
  local engine compose
  engine=$(candidate docker.io)
  for compose in docker-compose-v2 docker-compose; do
    if [[ -n $engine && $engine != '(none)' ]] && version_at_least "$engine" 25 &&
      version_at_least "$(candidate $compose)" 2.24; then
      apt install --install-recommends docker.io "$compose" docker-buildx && return 0
    fi
  done
  return 1
}

from_sid() {
  apt install --no-install-recommends containerd runc iptables debootstrap debian-archive-keyring
  local mirror work
  # The mirror that apt uses here, where that is a Debian one; it is read, never written down.
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  mirror=${mirror:-http://deb.debian.org/debian}
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # now is the time to expand it
  trap "rm -rf '$work'" EXIT
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sid.list"
  local sid=(-o "Dir::Etc::SourceList=$work/sid.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache::Archives=$work/archives" -o Dir::Cache::pkgcache=
    -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
  apt "${sid[@]}" update
  (cd "$work" && apt "${sid[@]}" download docker.io docker-cli docker-compose docker-buildx tini-static)
  for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root"; done
  install -m 755 "$work"/root/usr/sbin/dockerd "$work"/root/usr/bin/docker /usr/local/bin/
  # dockerd looks for these two on its PATH.
  find "$work/root" -name docker-proxy -exec install -m 755 {} /usr/local/bin/docker-proxy \;
  install -m 755 "$work"/root/usr/bin/tini-static /usr/local/bin/docker-init
  mkdir -p /usr/local/lib/docker/cli-plugins
  find "$work/root" \( -name docker-compose -o -name docker-buildx \) -type f \
    -exec install -m 755 {} /usr/local/lib/docker/cli-plugins/ \;
}

case ${1:-} in
repository) from_repository ;;
packages) from_distribution || from_sid ;;
*) die "usage: install-docker.sh repository|packages" ;;
esac
