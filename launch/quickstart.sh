#!/usr/bin/env bash
usage="usage: launch/quickstart.sh [--dry-run] [--gin.NAME=VALUE ...]

Install crome_jax, write the causal testbed, augment its training split, train a Bradley-Terry and a Crome reward
model from the same backbone, and report how both do where style no longer goes along with quality.
May be run again: it replaces what it wrote to runs/quickstart.

  --dry-run         print what would be done
  --gin.NAME=VALUE  override a value of gin/runs/quickstart.gin, such as --gin.SEED=1

Needs 2 CPU cores and 6 GB; installation apart it takes about ten minutes."
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry="" bindings=()
for argument in "$@"; do
  case "$argument" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 ;;
    --gin.*=*) bindings+=("$argument") ;;
    *) echo "$usage" >&2 && exit 2 ;;
  esac
done

run() { if [[ $dry ]]; then echo "+ ${*@Q}"; else "$@"; fi; }
crome() { run .venv/bin/python -m crome_jax "$@"; }

launch/setup.sh ${dry:+--dry-run}
# Huge pages for large arrays: a training step on a CPU takes a quarter less time (glibc; ignored elsewhere).
export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1"
# What XLA compiled once serves the next run.
export JAX_COMPILATION_CACHE_DIR="$PWD/.cache/jax"

crome testbed --out runs/quickstart/testbed --train 360 --validation 80 --test 100 --overwrite
crome augment --data runs/quickstart/testbed --split train --out runs/quickstart/groups --overwrite \
  --degrade-per-pair 1 --upgrade-per-pair 1 --neutrals-per-group 0
crome study --gin_file=gin/runs/quickstart.gin ${bindings[@]+"${bindings[@]}"}
