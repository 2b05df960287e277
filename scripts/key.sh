#!/usr/bin/env bash
# key.sh add|remove NAME: makes an API key and prints it, the only time; or takes one back. The file, which is
# CHORUS_API_KEYS_FILE of .env, holds hashes alone. It is written in place: a container sees no other file put there.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
action=${1:-} name=${2:-}
[[ $action =~ ^(add|remove)$ && $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] ||
  die "usage: make key NAME=phone-app, make revoke NAME=phone-app (up to 64 letters, digits, dots, hyphens and _)"

file=${CHORUS_API_KEYS_FILE:-$(setting CHORUS_API_KEYS_FILE)}
named=$file
file=${file:-./secrets/api_keys}
lines_of_others() { [[ ! -f $file ]] || awk -F: -v name="$name" '$1 != name' "$file"; }
here() { [[ -f $file ]] && awk -F: -v name="$name" '$1 == name { found = 1 } END { exit !found }' "$file"; }

if [[ $action == remove ]]; then
  here || die "$file has no key of the name $name"
  left=$(lines_of_others)
  grep -q '^[^#]*:' <<<"$left" ||
    die "$name is the last key: make another one before; to need none, take CHORUS_API_KEYS_FILE out of .env"
  printf '%s\n' "$left" >"$file"
  echo "$name is revoked: within two seconds it opens no stream; those that it has opened go on" >&2
  exit 0
fi

! here || die "$file has a key of the name $name: choose another, or take that one back: make revoke NAME=$name"
mkdir -p "$(dirname "$file")"
key=chorus_$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')
hash=$(printf %s "$key" | sha256sum | cut -d ' ' -f 1)
[[ ! -s $file || -z $(tail -c 1 "$file") ]] || echo >>"$file"
printf '%s:%s\n' "$name" "$hash" >>"$file"
chmod 644 "$file" # read in a container by a user of no rights; no key can be found from its hash
echo "the key of $name, which is not shown again; its hash is in $file:" >&2
printf '%s\n' "$key"
if [[ -z $named ]]; then
  [[ -f .env ]] || cp .env.example .env
  put_setting CHORUS_API_KEYS_FILE "$file"
  echo "from the next  make up  on, nobody connects without a key" >&2
fi
