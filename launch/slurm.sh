#!/usr/bin/env bash
usage="usage: launch/slurm.sh [--dry-run] [--nodes N] [--gpus N] [--time H:M:S] [--sbatch OPTION] -- TRAIN_ARGUMENT ...

Submit a training run to SLURM: one process a node, with all of its GPUs. The folder must be on a file system that all
nodes share. Two minutes before the time is up every process gets SIGTERM: the run saves and ends; submitting the same
command again goes on. GPUs are asked for the same bits every time, which is slower:
XLA_FLAGS=--xla_gpu_deterministic_ops=false in your environment leaves that out.

  --nodes N         nodes (default: 1)
  --gpus N          GPUs of each (default: 8)
  --time H:M:S      at most (default: 24:00:00)
  --sbatch OPTION   passed on to sbatch, such as --sbatch --partition=gpu; may be given several times
  --dry-run         print what would be submitted
  TRAIN_ARGUMENT    of crome train, such as --gin_file=gin/runs/crome.gin; or sweep, and arguments of crome sweep"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" nodes=1 gpus=8 limit=24:00:00 whole=--exclusive further=()
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --nodes) (($# > 1)) || refuse && nodes="$2" && shift 2 ;;
    --gpus) (($# > 1)) || refuse && gpus="$2" && shift 2 ;;
    --time) (($# > 1)) || refuse && limit="$2" && shift 2 ;;
    --sbatch) (($# > 1)) || refuse && further+=("$2") && shift 2 ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done
[[ $# -gt 0 && $nodes =~ ^[1-9][0-9]*$ && $gpus =~ ^[0-9]+$ ]] || refuse

if [[ ${1:-} != sweep ]]; then
  set -- train --distributed=slurm "$@"
elif ((nodes > 1)); then
  echo "slurm.sh: a job of a sweep is one process; it takes one node, not $nodes" >&2 && exit 2
else
  whole="" # Others may have the rest of the node.
fi
train=(.venv/bin/python -m crome_jax "$@") cache="ALL,JAX_COMPILATION_CACHE_DIR=$PWD/.cache/jax" exact=""
# What of XLA_FLAGS comes last wins. Not within --export, where a comma of theirs would end them.
if ((gpus)); then exact="--xla_gpu_deterministic_ops=true${XLA_FLAGS:+ $XLA_FLAGS}" && exact="XLA_FLAGS=${exact@Q} "; fi
command=(
  sbatch --job-name=crome --nodes="$nodes" --ntasks-per-node=1 --gpus-per-node="$gpus" ${whole:+"$whole"} --time="$limit"
  --signal=TERM@120 --requeue --open-mode=append --output=crome-%j.log ${further[@]+"${further[@]}"}
  # Where one process ends badly the others are ended too, not left waiting.
  --wrap "${exact}srun --kill-on-bad-exit=1 --export=${cache@Q} ${train[*]@Q}"
)
if [[ $dry ]]; then echo "+ ${command[*]@Q}"; else "${command[@]}"; fi
