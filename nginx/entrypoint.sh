#!/usr/bin/env bash
# Checks the settings, renders the template with them and becomes nginx. A wrong setting is named and nothing starts.
set -euo pipefail -f

export CERTIFICATE=/run/tls/server.pem
template=${NGINX_TEMPLATE:-/etc/chorus/nginx.conf.template}
config=${NGINX_CONFIG:-/tmp/nginx.conf}

fail() {
  echo "$*" >&2
  exit 78
}

# number NAME DEFAULT LEAST MOST
number() {
  local value=${!1:-$2}
  if [[ ! $value =~ ^[0-9]{1,9}$ ]] || ((10#$value < $3 || 10#$value > $4)); then
    fail "$1: must be a whole number from $3 to $4 (got '$value')"
  fi
  printf -v "$1" '%s' "$value"
  # shellcheck disable=SC2163 # the variable's name is in $1
  export "$1"
}

number ASR_MAX_CONNECTIONS 50 1 10000
number TTS_MAX_CONNECTIONS 50 1 10000
number NGINX_MAX_FAILS 3 0 1000
number NGINX_FAIL_TIMEOUT_S 30 1 3600
number NGINX_CONNECT_TIMEOUT_S 1 1 60
number NGINX_READ_TIMEOUT_S 25 11 3600
number NGINX_SEND_TIMEOUT_S 25 1 3600
number NGINX_RETRY_AFTER_S 5 1 3600
number NGINX_CLIENT_CONNECTIONS 0 0 100000

export NGINX_BALANCE=${NGINX_BALANCE:-least_conn}
[[ $NGINX_BALANCE =~ ^(least_conn|ip_hash)$ ]] ||
  fail "NGINX_BALANCE: must be least_conn or ip_hash (got '$NGINX_BALANCE')"

# Compose's name of the project, which its containers' names begin with.
export PROJECT=${PROJECT:-chorus}
[[ $PROJECT =~ ^[a-z0-9][a-z0-9_-]*$ ]] || fail "PROJECT: must be the name of a Compose project (got '$PROJECT')"

# Names whose addresses are the replicas'; a swarm has others (swarm/stack.py).
export NGINX_ASR_HOST=${NGINX_ASR_HOST:-asr} NGINX_TTS_HOST=${NGINX_TTS_HOST:-tts}
for name in NGINX_ASR_HOST NGINX_TTS_HOST; do
  [[ ${!name} =~ ^[a-z0-9][a-z0-9._-]*$ ]] || fail "$name: must be a host's name (got '${!name}')"
done

export NGINX_RESOLVER=${NGINX_RESOLVER:-127.0.0.11}
[[ $NGINX_RESOLVER =~ ^[0-9.]+(:[0-9]+)?$ ]] ||
  fail "NGINX_RESOLVER: must be an IPv4 address (got '$NGINX_RESOLVER')"

export CLIENT_LIMIT=""
if ((NGINX_CLIENT_CONNECTIONS > 0)); then
  CLIENT_LIMIT="limit_conn clients $NGINX_CLIENT_CONNECTIONS;"
fi

export STATUS_ALLOW=""
allowed=${NGINX_STATUS_ALLOW:-127.0.0.1 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16}
for network in ${allowed//,/ }; do
  [[ $network =~ ^[0-9a-fA-F.:]+(/[0-9]{1,3})?$ ]] ||
    fail "NGINX_STATUS_ALLOW: must be addresses or networks (got '$network')"
  STATUS_ALLOW+="allow $network; "
done

# Whose X-Forwarded-For is believed; of several addresses in it the last that is none of theirs.
export REAL_IP=""
trusted=${NGINX_TRUSTED_PROXIES:-}
for network in ${trusted//,/ }; do
  [[ $network =~ ^[0-9a-fA-F.:]+(/[0-9]{1,3})?$ ]] ||
    fail "NGINX_TRUSTED_PROXIES: must be addresses or networks (got '$network')"
  REAL_IP+="set_real_ip_from $network; "
done
if [[ -n $REAL_IP ]]; then
  REAL_IP+="real_ip_header X-Forwarded-For; real_ip_recursive on;"
fi

# A certificate is served by a variable path, which is read at each handshake. `nginx -t` reads only one without.
export LISTEN_TLS=""
# shellcheck disable=SC2016 # nginx's own variable
served='$certificate'
checked=$served
if [[ ${NGINX_TLS:-off} == on ]]; then
  LISTEN_TLS=" ssl"
  checked=$CERTIFICATE
  [[ -r $CERTIFICATE ]] ||
    fail "CHORUS_TLS_DIR: has no server.pem that user $(id -u) may read; \`make tls\` makes or installs one"
fi

# Only these are replaced: nginx's own variables start with a dollar too.
# shellcheck disable=SC2016 # these are looked for, not expanded
names=$(grep -o '\${[A-Z_]*}' "$template" | sort -u | tr '\n' ' ')
SERVED=$checked envsubst "$names" <"$template" >"$config"
nginx -t -q -c "$config" ||
  fail "nginx refuses the configuration (above): check NGINX_RESOLVER, NGINX_STATUS_ALLOW, NGINX_TRUSTED_PROXIES" \
    "and, with TLS, CHORUS_TLS_DIR's server.pem (a certificate chain and its key)"
SERVED=$served envsubst "$names" <"$template" >"$config"
if [[ ${1:-} == --check ]]; then
  exit 0
fi
exec nginx -c "$config" -g 'daemon off;'
