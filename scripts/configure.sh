#!/usr/bin/env bash
# Chooses GPU or CPU, and writes .env: its own lines, nobody else's. What .env says already stays as it is;
# ACCELERATOR=gpu|cpu decides anew.
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
    echo "NVIDIA driver $driver is too old, $LEAST_DRIVER or later is needed (https://www.nvidia.com/drivers)"
    return
  }
  docker info --format '{{json .Runtimes}} {{json .CDISpecDirs}}' 2>/dev/null | grep -q nvidia ||
    command -v nvidia-ctk >/dev/null || echo "the NVIDIA container toolkit is missing" \
    "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html)"
}

[[ -f .env ]] || cp .env.example .env
reason=$(no_gpu_because)
chosen=$(setting COMPOSE_FILE)
case ${ACCELERATOR:-} in
"")
  if [[ -z $chosen ]]; then
    [[ -z $reason ]] && accelerator=gpu || accelerator=cpu
  elif [[ $chosen == *compose.cpu.yaml* ]]; then
    accelerator=cpu
    [[ -n $reason ]] || say "there is a GPU, but .env says CPU; to use it: ACCELERATOR=gpu make up"
  else
    accelerator=gpu
  fi
  ;;
gpu | cpu) accelerator=$ACCELERATOR ;;
*) die "ACCELERATOR: must be gpu or cpu (got '$ACCELERATOR')" ;;
esac
[[ $accelerator == cpu || -z $reason ]] || die "a GPU is asked for, but $reason; without one: ACCELERATOR=cpu make up"

files=compose.yaml
[[ $accelerator == gpu ]] || files=compose.yaml:compose.cpu.yaml
case $chosen in
"" | compose.yaml | compose.yaml:compose.cpu.yaml) put_setting COMPOSE_FILE "$files" ;;
*)
  # Somebody's own list, with files of theirs: not for us to rewrite.
  [[ $accelerator == cpu && $chosen == *compose.cpu.yaml* || $accelerator == gpu && $chosen != *compose.cpu.yaml* ]] ||
    die "COMPOSE_FILE in .env is a list of your own, and not one for the $accelerator: it has to begin with $files"
  ;;
esac

if [[ $accelerator == gpu ]]; then
  # With one GPU both services share it.
  if [[ $(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l) == 1 && -z $(setting TTS_GPU) ]]; then
    put_setting TTS_GPU 0
  fi
  say "GPU: $(nvidia-smi --query-gpu=name --format=csv,noheader | paste -sd, -)"
else
  say "CPU: ${reason:-as asked for}"
  # A GPU that can't be used is no choice of anybody's.
  [[ -z $reason || $reason == "no NVIDIA driver"* ]] || warn "the GPU is not used: $reason"
fi
