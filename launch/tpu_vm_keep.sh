#!/usr/bin/env bash
usage="usage: launch/tpu_vm_keep.sh [--dry-run] --name NAME --zone ZONE [OPTION ...] -- TRAIN_ARGUMENT ...

Train on a TPU slice that may be taken away, by the steps of launch/tpu_vm.sh: ask for it, set it up, train; and look once
a minute. Where it is gone, ask again; where a machine was started anew, train again; where one worker has met an error of
yours (status 2), end the run on all. The slice stays, and is paid for, when the run has ended; this ends with the run's
status then. What it starts goes on without it; called again it looks on, and starts what has ended.

  OPTION      of launch/tpu_vm.sh, such as --type v5p-32 --spot
  --dry-run   print what would be done where nothing goes wrong, what where an error ends the run on all workers (stop),
              and what where the slice is taken away (delete)"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" options=() seen=""
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --spot) options+=("$1") && shift ;;
    --name | --zone | --type) (($# > 1)) || refuse && options+=("$1" "$2") && shift 2 ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done
[[ $# -gt 0 && " ${options[*]-} " == *" --name "* && " ${options[*]-} " == *" --zone "* ]] || refuse
slice() { launch/tpu_vm.sh ${dry:+--dry-run} "${options[@]}" "$1" -- "${@:2}"; }
say() { echo "tpu_vm_keep.sh: $*" >&2; }

if [[ $dry ]]; then
  for step in request create setup; do slice "$step"; done
  slice train "$@"
  for step in state stop delete; do slice "$step"; done && exit
fi
while true; do
  case "$(slice request || echo ABSENT)" in
    ABSENT) say "asks for the slice" && slice create || say "was not given it; asks again" ;;
    SUSPENDED | FAILED) say "the slice was taken away" && slice delete || say "could not delete it; tries again" ;;
    ACTIVE)
      states="$(slice state | grep -xE 'running|none|gone|[0-9]+' | sort -u | xargs)" || states=""
      # What has ended before the first look is of an earlier command; this one's run is to be started.
      if [[ ! $seen && $states =~ ^[0-9\ ]+$ ]]; then states=143; fi
      seen+="$states"
      case " $states " in
        "  ") say "no worker can be reached; tries again" ;;
        *" 2 "*) # Of process 0 alone, say, which reads the data: the others would be started again and again.
          slice stop || true # Where it has ended already there is nothing to stop.
          say "an error to mend; see what launch/tpu_vm.sh ${options[*]} log shows" && exit 2
          ;;
        *" none "*) slice setup && slice train "$@" || say "could not start everywhere; looks again" ;;
        *" gone "* | *" 130 "* | *" 143 "*) slice train "$@" || say "goes on already where it says so" ;;
        *" running "*) ;;
        *) say "the run has ended; see what launch/tpu_vm.sh ${options[*]} log shows" && exit "${states##* }" ;;
      esac
      ;;
  esac
  sleep 60
done
