#!/usr/bin/env bash
# Writes Alertmanager's configuration and becomes Alertmanager. Alerts go to ALERT_WEBHOOK_URL; where that is empty they
# are shown (port 9093) and sent to nobody. The address may hold a secret: it has a file of its own, which only this
# user reads, and the configuration that Alertmanager shows names the file.
set -euo pipefail
umask 077

config=/tmp/alertmanager.yml receiver=nobody
url=${ALERT_WEBHOOK_URL:-}
if [[ -n $url ]]; then
  [[ $url =~ ^https?://[^[:space:]]+$ ]] || {
    echo "ALERT_WEBHOOK_URL: must begin with http:// or https:// and have no space in it" >&2
    exit 78
  }
  receiver=webhook
  printf '%s' "$url" >/tmp/webhook-url
fi
cat >"$config" <<YAML
route:
  receiver: $receiver
  group_by: [alertname, job]
  group_wait: 10s
  group_interval: 1m
  repeat_interval: 4h
# What is said already by something worse.
inhibit_rules:
  - source_matchers: [alertname = ServiceDown]
    target_matchers: ['alertname =~ "ReplicaDown|ReplicaMissing|ReplicaNotServing"']
    equal: [job]
  - source_matchers: [alertname = FinalsLate]
    target_matchers: [alertname = FinalsOftenLate]
  - source_matchers: [alertname = FirstAudioLate]
    target_matchers: [alertname = FirstAudioOftenLate]
receivers:
  - name: nobody
  - name: webhook
YAML
if [[ $receiver == webhook ]]; then
  echo "    webhook_configs: [{url_file: /tmp/webhook-url}]" >>"$config"
fi
amtool check-config "$config" >/dev/null
if [[ ${1:-} == --check ]]; then
  exit 0
fi
unset ALERT_WEBHOOK_URL
# What it has told is forgotten: an alert that ended while it was away, and came again, would count as told, and be kept
# back for repeat_interval. What still fires is told once more instead. Silences are in another file, and stay.
rm -f /alertmanager/nflog
exec prometheus-alertmanager --config.file="$config" --storage.path=/alertmanager --cluster.listen-address= \
  --web.external-url=http://localhost:9093 --log.format=json
