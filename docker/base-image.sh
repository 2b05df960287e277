#!/usr/bin/env bash
# Builds a base image from Debian packages, for a machine that reaches no image registry:
#   base-image.sh TAG SUITE PACKAGE[,PACKAGE...]
# The machine's own CA bundle goes in, so that pip works behind a company's proxy during builds and in containers.
set -euo pipefail
tag=$1 suite=$2 packages=$3

command -v debootstrap >/dev/null || {
  echo "debootstrap is missing: apt-get install debootstrap" >&2
  exit 1
}
# The mirror is the one that apt uses here; it is read, never written down.
mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
  awk '/^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}}' /etc/apt/sources.list)
mirror=${mirror:-http://deb.debian.org/debian}
case $mirror in *ubuntu*) mirror=http://deb.debian.org/debian ;; esac

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
log=$(mktemp)
debootstrap --variant=minbase --include="ca-certificates,$packages" "$suite" "$root" "$mirror" >"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  echo "debootstrap failed; its whole log is $log" >&2
  exit 1
}
rm -f "$log"
if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/* \
  "$root"/usr/share/{doc,man,locale,info} "$root"/var/log/*
find "$root/usr/lib/python3" "$root"/usr/lib/python3.* -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
tar -C "$root" -c . | docker import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' - "$tag" >/dev/null
