#!/usr/bin/env bash
usage="usage: launch/background.sh [--dry-run] start|state|log|stop [--restarts N] [-- TRAIN_ARGUMENT ...]

Train as launch/workstation.sh does, and go on when whoever started it has left. One run at a time in this folder.

  start             start TRAIN_ARGUMENT, as one gives them to launch/workstation.sh
  state             say how it is: running, none, gone (the machine was switched off), or the status that it ended with
  log               show the end of what it printed; all of it is in .cache/background/log
  stop              let the run save and end, and wait for it
  --restarts N      of start: how often a run that is cut off is started again (default: 3)
  --dry-run         print what would be done"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" action="" restarts=3
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --restarts) (($# > 1)) || refuse && restarts="$2" && shift 2 ;;
    start | state | log | stop) action="$1" && shift ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done

run() { if [[ $dry ]]; then echo "+ ${*@Q}"; else "$@"; fi; }
at=.cache/background
# Whoever runs holds the lock; of a machine that was switched off nobody does.
running() { [[ -e $at/lock ]] && ! flock --nonblock "$at/lock" true; }
watch='exec >> .cache/background/log 2>&1 < /dev/null; launch/workstation.sh "$@" &
echo $! > .cache/background/pid; wait $!; echo $? > .cache/background/status'

case "$action" in
  start)
    [[ $# -gt 0 && $restarts =~ ^[0-9]+$ ]] || refuse
    if running; then echo "background.sh: a run goes on here already; stop it first" >&2 && exit 2; fi
    run mkdir -p "$at"
    run rm -f "$at/status" "$at/pid"
    run setsid --fork nohup flock --no-fork --nonblock "$at/lock" bash -c "$watch" background.sh --restarts "$restarts" -- "$@"
    ;;
  state)
    if running; then
      echo running
    elif [[ -e $at/status ]]; then
      cat "$at/status"
    elif [[ -e $at/lock ]]; then echo gone; else echo none; fi
    ;;
  log) run tail -n 50 "$at/log" ;;
  stop)
    if ! running; then echo "background.sh: nothing runs here" >&2 && exit 2; fi
    run bash -c "kill -TERM \$(< $at/pid) && flock $at/lock true"
    ;;
  *) refuse ;;
esac
