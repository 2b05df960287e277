#!/usr/bin/env bash
# Each GPU as NVML sees it (nvidia-smi asks it), and the processes on it by the container that they belong to.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

command -v nvidia-smi >/dev/null || die "there is no NVIDIA driver here (nvidia-smi is missing)"
# ask WHAT FIELDS: lines with the fields between tabs
ask() { nvidia-smi "--query-$1=$2" --format=csv,noheader,nounits | sed 's/, */\t/g'; }
gpus=$(ask gpu uuid,index,name,utilization.gpu,memory.used,memory.total,temperature.gpu) && [[ -n $gpus ]] ||
  die "nvidia-smi finds no GPU"

declare -A container
while read -r name; do
  for pid in $(docker top "$name" -eo pid 2>/dev/null | tail -n +2); do container[$pid]=$name; done
done < <(docker ps --format '{{.Names}}' 2>/dev/null)

processes=$(ask compute-apps gpu_uuid,pid,used_memory,process_name || true)
while IFS=$'\t' read -r uuid index name busy used total celsius; do
  printf 'GPU %s  %s  %s %% busy  %s/%s MiB  %s °C\n' "$index" "$name" "$busy" "$used" "$total" "$celsius"
  while IFS=$'\t' read -r on pid memory program; do
    [[ $on == "$uuid" ]] || continue
    printf '    %-24s %8s MiB  pid %s\n' "${container[$pid]:-$program}" "$memory" "$pid"
  done <<<"$processes"
done <<<"$gpus"
