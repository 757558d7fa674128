#!/usr/bin/env bash
usage="usage: launch/tpu_vm.sh [--dry-run] --name NAME --zone ZONE [--type TYPE] [--spot] ACTION [-- TRAIN_ARGUMENT ...]

Train on a TPU pod slice of virtual machines, by way of queued resources. The run's folder (OUT) must be one that all
workers share, such as gs://BUCKET/run. launch/tpu_vm_keep.sh takes these steps by itself, again where it must.

  create            ask for the slice; it comes when there is room
  setup             once it is there: copy what is committed here to every worker, and install it and Python 3.11
  train             start TRAIN_ARGUMENT on every worker and leave it running there (launch/background.sh); the same
                    command again resumes. On a slice of one worker it may be sweep, and arguments of crome sweep
  state, log, stop  of the run on each worker: how it is, the end of what it printed; let it save and end
  request           print the state of the request: ACTIVE where the slice is there, SUSPENDED where it was taken away
  delete            give the slice back
  --name, --zone    of the slice and of its request; a zone is us-west4-a, say
  --type TYPE       accelerator: v5litepod-16, v5p-32, v6e-64, ... (default: v5litepod-16)
  --spot            cheaper, and may be taken away: SIGTERM comes first, and the run saves
  --dry-run         print what would be done"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" name="" zone="" type=v5litepod-16 spot="" action=""
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --name | --zone | --type) (($# > 1)) || refuse && declare "${1#--}=$2" && shift 2 ;;
    --spot) spot=--spot && shift ;;
    create | setup | train | state | log | stop | request | delete) action="$1" && shift ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done
[[ $# -gt 0 || $action != train ]] || refuse
case "$type" in
  v5lite*) runtime=v2-alpha-tpuv5-lite ;;
  v5p*) runtime=v2-alpha-tpuv5 ;;
  v6e*) runtime=v2-alpha-tpuv6e ;;
  *) echo "tpu_vm.sh: --type $type is none of v5litepod-N, v5p-N, v6e-N" >&2 && exit 2 ;;
esac
if [[ ${1:-} != sweep ]]; then set -- --distributed=tpu "$@"; elif [[ $type != *-[148] ]]; then
  echo "tpu_vm.sh: a sweep runs on one worker; give --type v5litepod-8, v5p-8 or v6e-8, not $type" >&2 && exit 2
fi
python="python3.11 -m ensurepip --version || { sudo apt-get update && sudo apt-get -o DPkg::Lock::Timeout=300 install -y python3.11-venv; }"
install="rm -rf crome_jax/crome_jax crome_jax/gin && tar -xzf crome_jax.tar.gz && { $python; } && crome_jax/launch/setup.sh tpu"
run() { if [[ $dry ]]; then echo "+ ${*@Q}"; else "$@"; fi; }
everywhere() { run gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"; }
queued() { run gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"; }
case "${name:+${zone:+$action}}" in
  create) queued create --node-id="$name" --accelerator-type="$type" --runtime-version="$runtime" ${spot:+"$spot"} ;;
  setup) run mkdir -p .cache && run git archive --prefix=crome_jax/ --output=.cache/crome_jax.tar.gz HEAD
    run gcloud compute tpus tpu-vm scp .cache/crome_jax.tar.gz "$name:" --zone="$zone" --worker=all && everywhere "$install" ;;
  train) everywhere "crome_jax/launch/background.sh start --restarts 20 -- ${*@Q}" ;;
  state) everywhere "if test -d crome_jax; then crome_jax/launch/background.sh state; else echo none; fi" ;;
  log | stop) everywhere "crome_jax/launch/background.sh $action" ;;
  request) queued describe --format="value(state.state)" ;;
  delete) queued delete --force --quiet ;;
  *) refuse ;;
esac
