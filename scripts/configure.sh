#!/usr/bin/env bash
# Chooses GPU or CPU (ACCELERATOR=gpu|cpu decides otherwise), and writes .env: its own lines, nobody else's.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

LEAST_DRIVER=580  # onnxruntime-gpu is built for CUDA 13

# Why there is no GPU to use; nothing where there is one.
no_gpu_because() {
  command -v nvidia-smi >/dev/null || {
    echo "no NVIDIA driver (nvidia-smi is missing)"
    return
  }
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || true
  [[ -n $driver ]] || {
    echo "nvidia-smi finds no GPU"
    return
  }
  version_at_least "$driver" "$LEAST_DRIVER" || {
    echo "NVIDIA driver $driver is too old, $LEAST_DRIVER or later is needed"
    return
  }
  docker info --format '{{json .Runtimes}} {{json .CDISpecDirs}}' 2>/dev/null | grep -q nvidia ||
    command -v nvidia-ctk >/dev/null || echo "the NVIDIA container toolkit is missing" \
    "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html)"
}

[[ -f .env ]] || cp .env.example .env
reason=$(no_gpu_because)
accelerator=${ACCELERATOR:-}
case $accelerator in
"") [[ -z $reason ]] && accelerator=gpu || accelerator=cpu ;;
gpu) [[ -z $reason ]] || die "ACCELERATOR=gpu, but $reason" ;;
cpu) ;;
*) die "ACCELERATOR: must be gpu or cpu (got '$accelerator')" ;;
esac

if [[ $accelerator == gpu ]]; then
  put_setting COMPOSE_FILE compose.yaml
  # With one GPU both services share it.
  if [[ $(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l) == 1 && -z $(setting TTS_GPU) ]]; then
    put_setting TTS_GPU 0
  fi
  say "GPU: $(nvidia-smi --query-gpu=name --format=csv,noheader | paste -sd, -)"
else
  put_setting COMPOSE_FILE compose.yaml:compose.cpu.yaml
  say "CPU: ${reason:-as ACCELERATOR says}"
fi
