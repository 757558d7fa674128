#!/usr/bin/env bash
usage="usage: launch/beam.sh [--dry-run] RUNNER [OPTION ...] -- AUGMENT_ARGUMENT ...

Augment a TFDS folder of groups as an Apache Beam graph on a cluster. Folders are in a bucket (gs://), or on a file system
that every worker sees at the same path; each machine has its own budget, limits and cache of replies. After a crash the
same command goes on. ./launch/setup.sh beam first.

flink: every task manager has one 'launch/beam.sh flink-worker' beside it, of this folder or a copy
  --master HOST:PORT  of the Flink cluster's REST interface (default: localhost:8081)
  --port PORT         where the flink-worker of each host listens (default: 50000)
  --parallelism N     ranges at a time (default: 8)

dataflow: needs apache-beam's gcp extra in .venv, and an image: docker build --target beam --build-arg EXTRA=beam -t IMAGE .
Its machines mount nothing, so folders are in a bucket that they may read and write.
  --project PROJECT, --region REGION, --bucket BUCKET (for what Dataflow keeps itself), --image IMAGE
  --workers N         at most (default: 16)

  --dry-run           print what would be run
  AUGMENT_ARGUMENT    of crome augment, such as --data gs://BUCKET/prefs --out gs://BUCKET/groups"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" runner="" master=localhost:8081 port=50000 parallelism=8 project="" region="" bucket="" image="" workers=16
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --master | --port | --parallelism | --project | --region | --bucket | --image | --workers)
      (($# > 1)) || refuse && declare "${1#--}=$2" && shift 2
      ;;
    flink | flink-worker | dataflow) runner="$1" && shift ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done
[[ $port =~ ^[0-9]+$ && $parallelism =~ ^[1-9][0-9]*$ && $workers =~ ^[1-9][0-9]*$ ]] || refuse
[[ $# -gt 0 || $runner == flink-worker ]] || refuse

options=()
case "$runner" in
  flink)
    options=("--flink_master=$master" "--parallelism=$parallelism" --environment_type=EXTERNAL "--environment_config=localhost:$port")
    ;;
  dataflow)
    [[ $project && $region && $bucket && $image ]] || refuse
    options=("--project=$project" "--region=$region" "--temp_location=gs://$bucket/beam" "--sdk_container_image=$image"
      --sdk_location=container "--max_num_workers=$workers" --job_name=crome-augment)
    ;;
  flink-worker) ;;
  *) refuse ;;
esac
command=(.venv/bin/python -m apache_beam.runners.worker.worker_pool_main "--service_port=$port")
if [[ $runner != flink-worker ]]; then
  command=(.venv/bin/python -m crome_jax augment --beam "$runner" "${options[@]/#/--beam-option=}" "$@")
fi
if [[ $dry ]]; then echo "+ ${command[*]@Q}"; else exec "${command[@]}"; fi
