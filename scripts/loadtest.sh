#!/usr/bin/env bash
# loadtest.sh run|capacity|soak [ARGUMENT...]: the load test against the running stack, without a UI. Reports come into
# loadtest-runs/. Settings are LOADTEST_… (.env.example); of `run` and `soak` arguments go to Locust, of `capacity` to
# loadtest/capacity.py. Exit status: that of the run.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
kind=${1:-}
[[ $kind =~ ^(run|capacity|soak)$ ]] || die "usage: loadtest.sh run|capacity|soak [ARGUMENT...]"
shift
RUNS=loadtest-runs

# What is tested may be elsewhere; then only the run itself can tell whether it answers.
asr=${LOADTEST_ASR_URL:-$(setting LOADTEST_ASR_URL)}
if [[ -z $asr || $asr == ws://nginx:* ]]; then
  for service in nginx asr tts; do
    [[ -n $(docker compose ps --status running --quiet "$service" 2>/dev/null) ]] ||
      die "the stack is not up ($service does not run): make up"
  done
  if [[ -n ${CHORUS_API_KEYS_FILE:-$(setting CHORUS_API_KEYS_FILE)} && -z ${CHORUS_API_KEY:-$(setting CHORUS_API_KEY)} ]]; then
    die "streams need a key: CHORUS_API_KEY=… make loadtest (make key NAME=loadtest makes one)"
  fi
fi
ca=${LOADTEST_CA_FILE:-$(setting LOADTEST_CA_FILE)}
[[ -z $ca || -f $ca ]] || die "LOADTEST_CA_FILE=$ca: there is no such file"
scripts/images.sh loadtest

workers=${LOCUST_WORKERS:-$(setting LOCUST_WORKERS)}
workers=${workers:-1}
name=chorus-loadtest-$kind-$$
options=(--name "$name" --no-deps -T --env HEADLESS=1)
# Recordings of one's own, with their manifest.jsonl.
if [[ -n ${SPEECH:-} ]]; then
  [[ -f $SPEECH/manifest.jsonl ]] || die "SPEECH=$SPEECH: there is no manifest.jsonl"
  options+=(--volume "$(realpath "$SPEECH"):/speech:ro" --env LOADTEST_SPEECH=/speech)
fi
case $kind in
capacity) command=(--entrypoint python3 loadtest -m loadtest.capacity --workers "$workers") ;;
soak)
  export LOADTEST_SHAPE=soak LOADTEST_MINUTES=${LOADTEST_MINUTES:-480}
  command=(loadtest --headless --only-summary --processes "$workers")
  ;;
run) command=(loadtest --headless --only-summary --processes "$workers") ;;
esac

trap 'docker rm --force "$name" >/dev/null 2>&1 || true' EXIT
say "load test ($kind); its reports come into $RUNS/"
status=0
docker compose run "${options[@]}" "${command[@]}" "$@" || status=$?

# The runs lie in a volume, where the web UI shows them too; those that are not here yet are copied.
mkdir -p "$RUNS"
for run in $(docker run --rm --volumes-from "$name" --entrypoint sh chorus/loadtest -c 'cd /runs && ls -d 2* 2>/dev/null'); do
  [[ -e $RUNS/$run ]] || docker cp --quiet "$name:/runs/$run" "$RUNS/$run" || warn "run $run can't be copied out of $name"
done
for report in $(find "$RUNS" -maxdepth 2 -name '*.html' -newermt "@$CHORUS_BEGAN" | sort); do
  say "$report"
done
exit "$status"
