#!/usr/bin/env bash
usage="usage: launch/test.sh [--dry-run] [--all] [PYTEST_ARGUMENT ...]

Install crome_jax and what its tests need, check formatting and lint, and run the tests.

  --all            run the slow tests, too
  --dry-run        print what would be done
  PYTEST_ARGUMENT  passed on, such as tests/data or -k packing"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry="" selection=(-m "not slow") further=()
for argument in "$@"; do
  case "$argument" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 ;;
    --all) selection=() ;;
    *) further+=("$argument") ;;
  esac
done

run() { if [[ $dry ]]; then echo "+ ${*@Q}"; else "$@"; fi; }

# What XLA compiled for one run of the tests serves the next: they take two thirds of the time then. What Python compiled
# serves the many commands that tests start.
settings=("JAX_COMPILATION_CACHE_DIR=$PWD/.cache/jax" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1 PYTHONDONTWRITEBYTECODE=)

launch/setup.sh test ${dry:+--dry-run}
run .venv/bin/ruff format --check .
run .venv/bin/ruff check .
# -rs says what was skipped. Two at a time, by file: most of a test is one thread's compiling. More would want 5 GB each.
run env "${settings[@]}" .venv/bin/python -m pytest -q -rs -n 2 --dist loadfile ${selection[@]+"${selection[@]}"} ${further[@]+"${further[@]}"}
