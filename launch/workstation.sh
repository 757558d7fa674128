#!/usr/bin/env bash
usage="usage: launch/workstation.sh [--dry-run] [--restarts N] -- TRAIN_ARGUMENT ...

Train on this machine, on every accelerator that JAX finds. A run that is cut off (out of memory, a driver that hangs up)
is started again and goes on from its newest checkpoint; one that ends with an error of yours is not.

  --restarts N      how often at most (default: 3)
  --dry-run         print what would be done
  TRAIN_ARGUMENT    of crome train, such as --gin_file=gin/runs/crome.gin; or sweep, and arguments of crome sweep"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry="" restarts=3
while (($#)); do
  case "$1" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 && shift ;;
    --restarts) restarts="$2" && shift 2 ;;
    --) shift && break ;;
    *) echo "$usage" >&2 && exit 2 ;;
  esac
done

[[ ${1:-} == sweep ]] || set -- train "$@"
train=(.venv/bin/python -m crome_jax "$@")
if [[ $dry ]]; then echo "+ ${train[*]@Q}" && exit; fi
# Huge pages for large arrays: a training step on a CPU takes a quarter less time (glibc; ignored elsewhere).
export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1"
export JAX_COMPILATION_CACHE_DIR="$PWD/.cache/jax"
for ((attempt = 0; ; attempt++)); do
  status=0
  "${train[@]}" || status=$?
  # 0: done; 2: an error to mend; 130, 143: somebody asked for the end.
  if [[ " 0 2 130 143 " == *" $status "* ]] || ((attempt == restarts)); then exit "$status"; fi
  echo "workstation.sh: ended with status $status; started again" >&2
done
