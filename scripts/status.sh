#!/usr/bin/env bash
# One table: each container's health, streams, memory and GPU.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

# What a replica says of itself, in one line: streams, queue, GPU memory. Runs inside its container.
ask='
import json, sys, urllib.error, urllib.request
try:
    body = json.load(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=3))
except urllib.error.HTTPError as error:
    body = json.load(error)
gpu = body["gpu"]
memory = "%d:%d/%dMiB" % (gpu["index"], gpu["memory_used_mb"], gpu["memory_total_mb"]) if gpu else "-"
print("%s %d/%d %d %s" % (body["status"], body["active_connections"], body["max_connections"], body["queue_depth"], memory))
'
mapfile -t names < <(docker compose ps --format '{{.Name}}' | sort -V)
((${#names[@]})) || die "nothing is running: make up"
declare -A memory
while read -r name used _; do memory[$name]=$used; done < <(docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' "${names[@]}")

row='%-18s %-10s %-9s %11s %6s %10s  %s\n'
# shellcheck disable=SC2059 # the format is a constant
printf "$row" replica health status connections queue memory gpu
for name in "${names[@]}"; do
  health=$(docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$name")
  status=- connections=- queue=- gpu=-
  case $name in
  *-asr-*) port=9001 ;;
  *-tts-*) port=9002 ;;
  *) port="" ;;
  esac
  if [[ -n $port ]]; then
    read -r status connections queue gpu < <(docker exec "$name" python3 -c "$ask" "$port" 2>/dev/null || echo "- - - -")
  fi
  # shellcheck disable=SC2059
  printf "$row" "$name" "$health" "$status" "$connections" "$queue" "${memory[$name]:--}" "$gpu"
done
