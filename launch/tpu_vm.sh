#!/usr/bin/env bash
usage="usage: launch/tpu_vm.sh [--dry-run] --name NAME --zone ZONE [--type TYPE] [--spot] ACTION [-- TRAIN_ARGUMENT ...]

Train on a TPU pod slice of virtual machines, by way of queued resources. The run's folder (OUT) must be one that all
workers share, such as gs://BUCKET/run.

  create            ask for the slice; it comes when there is room
  setup             once it is there: copy this folder to every worker and install
  train             start TRAIN_ARGUMENT on every worker; the same command again resumes. On a slice of one worker it may
                    be sweep, and arguments of crome sweep
  delete            give the slice back
  --name NAME       of the slice and of its request
  --zone ZONE       such as us-west4-a
  --type TYPE       accelerator: v5litepod-16, v5p-32, v6e-64, ... (default: v5litepod-16)
  --spot            cheaper, and may be taken away: SIGTERM comes first, and the run saves
  --dry-run         print what would be done"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry="" name="" zone="" type=v5litepod-16 spot=() action=""
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --name) name="$2" && shift 2 ;;
    --zone) zone="$2" && shift 2 ;;
    --type) type="$2" && shift 2 ;;
    --spot) spot=(--spot) && shift ;;
    create | setup | train | delete) action="$1" && shift ;;
    --) shift && break ;;
    *) echo "$usage" >&2 && exit 2 ;;
  esac
done
if [[ ! $name || ! $zone || ! $action ]]; then echo "$usage" >&2 && exit 2; fi
case "$type" in
  v5lite*) runtime=v2-alpha-tpuv5-lite ;;
  v5p*) runtime=v2-alpha-tpuv5 ;;
  v6e*) runtime=v2-alpha-tpuv6e ;;
  *) echo "tpu_vm.sh: --type $type is none of v5litepod-N, v5p-N, v6e-N" >&2 && exit 2 ;;
esac

run() { if [[ $dry ]]; then echo "+ ${*@Q}"; else "$@"; fi; }
everywhere() { run gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"; }
queued() { run gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"; }
if [[ ${1:-} != sweep ]]; then
  set -- train --distributed=tpu "$@"
elif [[ $type != *-[148] ]]; then
  echo "tpu_vm.sh: a sweep runs on one worker; give --type v5litepod-8, v5p-8 or v6e-8, not $type" >&2 && exit 2
fi
train=(.venv/bin/python -m crome_jax "$@")
case "$action" in
  create) queued create --node-id="$name" --accelerator-type="$type" --runtime-version="$runtime" ${spot[@]+"${spot[@]}"} ;;
  setup)
    run gcloud compute tpus tpu-vm scp --recurse --worker=all --zone="$zone" "$PWD" "$name:crome_jax"
    everywhere "crome_jax/launch/setup.sh tpu"
    ;;
  train) everywhere "cd crome_jax && JAX_COMPILATION_CACHE_DIR=.cache/jax ${train[*]@Q}" ;;
  delete) queued delete --force --quiet ;;
esac
