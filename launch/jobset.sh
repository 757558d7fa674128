#!/usr/bin/env bash
usage="usage: launch/jobset.sh [--dry-run] --image IMAGE --bucket BUCKET [OPTION ...] -- TRAIN_ARGUMENT ...

Train on TPU slices of a GKE cluster that has the JobSet controller: launch/jobset.yaml, filled in, goes to kubectl.

  --image IMAGE       built from the Dockerfile and pushed to where the cluster can read it
  --bucket BUCKET     Cloud Storage, seen as /data; with hierarchical namespace, since checkpoints are renamed into place
  --type TYPE         v5e, v5p or v6e (default: v5e)
  --topology AxB[xC]  of a slice, such as 4x4 or 2x2x4 (default: 4x4); of four chips a host
  --slices N          how many; set make_mesh.replica to it (default: 1)
  --name NAME         of the JobSet (default: crome)
  --restarts N        how often at most, after any failure but an error of yours, exit status 2 (default: 20)
  --service-account A Kubernetes account that may read and write the bucket (default: default)
  --dry-run           print the manifest, and above it the command that takes it
  TRAIN_ARGUMENT      of crome train, such as --gin_file=gin/runs/crome.gin; or sweep, and arguments of crome sweep"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" image="" bucket="" type=v5e topology=4x4 slices=1 name=crome account=default restarts=20
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --image | --bucket | --type | --topology | --slices | --name | --restarts)
      (($# > 1)) || refuse && declare "${1#--}=$2" && shift 2
      ;;
    --service-account) (($# > 1)) || refuse && account="$2" && shift 2 ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done
[[ $# -gt 0 && $image && $bucket && $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] || refuse
[[ $slices =~ ^[1-9][0-9]*$ && $restarts =~ ^[0-9]+$ ]] || refuse
case "$type" in
  v5e) accelerator=tpu-v5-lite-podslice ;;
  v5p) accelerator=tpu-v5p-slice ;;
  v6e) accelerator=tpu-v6e-slice ;;
  *) echo "jobset.sh: --type $type is none of v5e, v5p, v6e" >&2 && exit 2 ;;
esac
chips=$((${topology//x/ * }))
if ((chips % 4)); then echo "jobset.sh: --topology $topology has $chips chips, not four a host" >&2 && exit 2; fi

if [[ ${1:-} != sweep ]]; then
  set -- train --distributed=jobset --patience=1800 "$@" # Slices come minutes apart, where nodes are made for them.
elif ((chips * slices > 4)); then
  echo "jobset.sh: a job of a sweep is one process; give --topology 2x2 and one slice" >&2 && exit 2
fi
quoted=""
for argument in "$@"; do argument="${argument//\\/\\\\}" && quoted+="${quoted:+, }\"${argument//\"/\\\"}\""; done
manifest="$(< launch/jobset.yaml)"
for pair in "NAME=$name" "SLICES=$slices" "PODS=$((chips / 4))" "CHIPS=4" "ACCELERATOR=$accelerator" "TOPOLOGY=$topology" \
  "IMAGE=$image" "BUCKET=$bucket" "SERVICE_ACCOUNT=$account" "RESTARTS=$restarts" "ARGUMENTS=$quoted"; do
  manifest="${manifest//@${pair%%=*}@/"${pair#*=}"}"
done
command=(kubectl apply -f -)
if [[ $dry ]]; then echo "# + ${command[*]@Q} <<< the following" && echo "$manifest"; else "${command[@]}" <<< "$manifest"; fi
