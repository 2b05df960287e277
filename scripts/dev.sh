#!/usr/bin/env bash
# Both services as plain processes on this machine, without Docker; Ctrl-C ends both.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
for port in 8001 8002 9001 9002; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "port $port is taken; where that is the stack, stop it first: make down"
  fi
done
scripts/venv.sh

export PYTHONPATH=.:client MODELS_DIR=.models ASR_HOST=127.0.0.1 TTS_HOST=127.0.0.1
say "speech to text on ws://localhost:8001, text to speech on ws://localhost:8002; Ctrl-C ends both"
.venv/bin/python -m asr &
asr=$!
.venv/bin/python -m tts &
tts=$!
trap 'kill "$asr" "$tts" 2>/dev/null || true; wait' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
wait -n "$asr" "$tts"
