#!/usr/bin/env bash
# systemd.sh install [asr|tts]    units that start the stack, or one service with nginx, when the machine starts
# systemd.sh uninstall            takes them away; the containers go on
# systemd.sh render FOLDER        writes the units there
# UNITS_DIR is where systemd looks for them.
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

UNITS_DIR=${UNITS_DIR:-/etc/systemd/system}
UNITS=(chorus.target chorus-front.service chorus-asr.service chorus-tts.service)

# render FOLDER: the units of this project's folder
render() {
  local directory=${PWD//%/%%} unit file service text   # a percent sign would be a specifier of systemd's
  for unit in "${UNITS[@]}"; do
    file=systemd/$unit service=""
    if [[ ! -f $file ]]; then
      service=${unit#chorus-} service=${service%.service} file=systemd/chorus-SERVICE.service
    fi
    text=$(<"$file")
    text=${text//@DIR@/"$directory"}
    printf '%s\n' "${text//@SERVICE@/$service}" >"$1/$unit"
  done
}

systemd_runs() { systemctl show-environment >/dev/null 2>&1 || die "systemd does not run this machine: nothing is changed"; }

case ${1:-} in
render)
  render "${2:?name a folder}"
  ;;
install)
  service=${2:-}
  case $service in
  "") enabled=chorus.target ;;
  asr | tts) enabled=chorus-$service.service ;;
  *) die "SERVICE: must be asr, tts or nothing for the whole stack (got '$service')" ;;
  esac
  systemd_runs
  rendered=$(mktemp -d)
  trap 'rm -rf "$rendered"' EXIT
  render "$rendered"
  as_root install -m 644 -t "$UNITS_DIR" "${UNITS[@]/#/$rendered/}"
  as_root systemctl daemon-reload
  as_root systemctl --quiet disable "${UNITS[@]}"
  as_root systemctl --quiet enable "$enabled"
  say "$enabled starts with the machine; now: sudo systemctl start $enabled"
  ;;
uninstall)
  systemd_runs
  as_root systemctl --quiet disable "${UNITS[@]}" 2>/dev/null || true
  as_root rm -f "${UNITS[@]/#/$UNITS_DIR/}"
  as_root systemctl daemon-reload
  say "the units are gone; containers that run go on, and Docker starts those again with the machine"
  ;;
*) die "usage: systemd.sh install [asr|tts] | uninstall | render FOLDER" ;;
esac
