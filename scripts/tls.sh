#!/usr/bin/env bash
# tls.sh [NAMES]: a certificate for this machine and further host names or addresses (by commas; without any, those of
# the last time), signed by a CA that is made first. Nothing is done while there is one that holds for 30 days.
# With CERT and KEY in the environment those are installed instead: a chain and its key, as ACME clients leave them.
#
# nginx reads CHORUS_TLS_DIR/server.pem at each handshake: it holds both, so that a rename replaces them in one step.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
names=${1:-} certificate=${CERT:-} key=${KEY:-}

NGINX_USER=10001
CA=./secrets/ca   # its key signs: no container sees this folder
CA_DAYS=3650
DAYS=397          # what browsers take at most
LEFT_S=$((30 * 86400))

folder=${CHORUS_TLS_DIR:-$(setting CHORUS_TLS_DIR)}
named=$folder
folder=${folder:-./secrets/tls}
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

make_key() { (umask 077 && openssl ecparam -name prime256v1 -genkey -noout -out "$1"); }

make_ca() {
  mkdir -p "$CA"
  chmod 700 "$CA"
  cat >"$new/ca.conf" <<CONFIG
[req]
prompt = no
distinguished_name = name
x509_extensions = ca
[name]
CN = Chorus on $(uname -n)
[ca]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
CONFIG
  make_key "$CA/ca.key"
  openssl req -x509 -new -key "$CA/ca.key" -days "$CA_DAYS" -config "$new/ca.conf" -out "$CA/ca.pem"
  echo "a new CA: clients trust  $folder/ca.pem" >&2
}

make_certificate() {
  local name list all="DNS:localhost,DNS:nginx,IP:127.0.0.1,IP:::1"
  IFS=, read -ra list <<<"$names"
  for name in "${list[@]}"; do
    if [[ $name == *:* || $name =~ ^[0-9.]+$ ]]; then
      all+=",IP:$name"
    else
      all+=",DNS:$name"
    fi
  done
  cat >"$new/extensions" <<CONFIG
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $all
CONFIG
  # The key stays: a handshake in the moment of a renewal can't meet the certificate of one key and another key.
  key=$CA/server.key certificate=$new/server.crt
  [[ -f $key ]] || make_key "$key"
  openssl req -new -key "$key" -subj "/CN=Chorus" -out "$new/request"
  openssl x509 -req -in "$new/request" -CA "$CA/ca.pem" -CAkey "$CA/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -days "$DAYS" -extfile "$new/extensions" -out "$certificate" 2>"$new/log" ||
    die "openssl makes no certificate for '$names': $(grep -m 1 error "$new/log" || cat "$new/log")"
}

# Whether there is one of this CA, for these names, that holds for a while.
up_to_date() {
  [[ -f $folder/server.pem && -f $CA/ca.pem && $names == $(cat "$CA/names" 2>/dev/null) ]] || return 1
  as_root cat "$folder/server.pem" | openssl x509 -out "$new/old.pem" 2>/dev/null &&
    openssl verify -CAfile "$CA/ca.pem" "$new/old.pem" >/dev/null 2>&1 &&
    openssl x509 -in "$new/old.pem" -noout -checkend "$LEFT_S" >/dev/null
}

# The two as server.pem, which only nginx's user and root read; with the file CA beside it, or none.
install_pair() {
  [[ -r $certificate && -r $key ]] || die "CERT and KEY: name a certificate chain and its key, both readable"
  local public
  public=$(openssl pkey -in "$key" -passin pass: -pubout 2>/dev/null) || die "KEY: $key is no key without a passphrase"
  [[ $(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null) == "$public" ]] ||
    die "CERT: $certificate is no certificate of the key $key"
  (umask 077 && cat "$certificate" "$key" >"$new/server.pem")
  mkdir -p "$folder"
  chmod 755 "$folder" # nginx's user looks into it
  as_root install -m 600 -o "$NGINX_USER" -g "$NGINX_USER" "$new/server.pem" "$folder/.server.pem"
  as_root mv -f "$folder/.server.pem" "$folder/server.pem"
}

command -v openssl >/dev/null || die "openssl is missing: apt-get install openssl"
if [[ -n $certificate$key ]]; then
  install_pair
  rm -f "$folder/ca.pem" # of another certificate: this one's CA is one that everybody trusts
else
  [[ $names =~ ^[A-Za-z0-9.,:*_-]*$ ]] || die "usage: make tls NAME=speech.example.com,192.0.2.7"
  [[ ! -f $folder/server.pem || -f $folder/ca.pem ]] ||
    die "$folder/server.pem was installed by CERT= and KEY=: renew it so, or remove it to have one made here"
  names=${names:-$(cat "$CA/names" 2>/dev/null || true)}
  if up_to_date; then
    echo "$folder/server.pem is up to date; clients trust  $folder/ca.pem" >&2
  else
    openssl x509 -in "$CA/ca.pem" -noout -checkend $((DAYS * 86400)) >/dev/null 2>&1 || make_ca
    make_certificate
    install_pair
    install -m 644 "$CA/ca.pem" "$folder/ca.pem"
    printf '%s\n' "$names" >"$CA/names"
  fi
fi
if [[ -z $named ]]; then
  [[ -f .env ]] || cp .env.example .env
  put_setting CHORUS_TLS_DIR "$folder"
  echo "from the next  make up  on, 8000 and 8003 speak TLS alone" >&2
fi
