# Shared by the scripts beside it: where the project is, how to speak, how to become root.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
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

# setting NAME: its value in .env, or nothing
setting() { [[ -f .env ]] && sed -n "s/^$1=//p" .env | tail -n 1 || true; }

# put_setting NAME VALUE: that line of .env, replaced or added; every other line stays
put_setting() {
  if grep -q "^$1=" .env 2>/dev/null; then
    [[ $(setting "$1") == "$2" ]] || sed -i "s|^$1=.*|$1=$2|" .env
  else
    printf '%s=%s\n' "$1" "$2" >>.env
  fi
}

# reachable HOST PORT: whether a TCP connection opens within five seconds
reachable() { timeout 5 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }
