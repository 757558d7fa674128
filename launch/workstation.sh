#!/usr/bin/env bash
usage="usage: launch/workstation.sh [--dry-run] [--restarts N] -- TRAIN_ARGUMENT ...

Train on this machine, on every accelerator that JAX finds. A run that is cut off (out of memory, a driver that hangs up)
is started again and goes on from its newest checkpoint; one that ends with an error of yours is not. SIGTERM, or a
terminal that is closed, lets the run save and end. NVIDIA's GPUs are asked for the same bits every time, which is slower:
XLA_FLAGS=--xla_gpu_deterministic_ops=false in your environment leaves that out.

  --restarts N      how often at most (default: 3)
  --dry-run         print what would be done
  TRAIN_ARGUMENT    of crome train, such as --gin_file=gin/runs/crome.gin; or sweep, and arguments of crome sweep"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

dry="" restarts=3
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --restarts) (($# > 1)) || refuse && restarts="$2" && shift 2 ;;
    --) shift && break ;;
    *) refuse ;;
  esac
done
[[ $# -gt 0 && $restarts =~ ^[0-9]+$ ]] || refuse

[[ ${1:-} == sweep ]] || set -- train "$@"
# Huge pages for large arrays: a training step on a CPU takes a quarter less time (glibc; ignored elsewhere).
settings=("GLIBC_TUNABLES=${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1" "JAX_COMPILATION_CACHE_DIR=$PWD/.cache/jax")
if command -v nvidia-smi > /dev/null; then # What of XLA_FLAGS comes last wins.
  settings+=("XLA_FLAGS=--xla_gpu_deterministic_ops=true${XLA_FLAGS:+ $XLA_FLAGS}")
fi
command=(
  env "${settings[@]}"
  .venv/bin/python -m crome_jax "$@"
)
if [[ $dry ]]; then echo "+ ${command[*]@Q}" && exit; fi
if [[ ! -x .venv/bin/python ]]; then echo "workstation.sh: nothing is installed; ./launch/setup.sh first" >&2 && exit 2; fi

# In a process group of its own, with the signals as they are for a program that is not in the background: what comes
# from the terminal reaches this script alone, which passes it on, once.
set -m
run="" ending=""
pass_on() { ending=1 && if [[ $run ]]; then kill "-$1" "$run" 2> /dev/null || true; fi; }
trap 'pass_on TERM' TERM HUP
trap 'pass_on INT' INT
for ((attempt = 0; ; attempt++)); do
  "${command[@]}" & run=$!
  # A signal ends the waiting, not the run.
  while wait "$run" || true && kill -0 "$run" 2> /dev/null; do :; done
  status=0 && wait "$run" || status=$?
  # 0: done; 2: an error to mend; 130, 143: somebody asked for the end.
  if [[ $ending || " 0 2 130 143 " == *" $status "* ]] || ((attempt == restarts)); then exit "$status"; fi
  echo "workstation.sh: ended with status $status; started again" >&2
done
