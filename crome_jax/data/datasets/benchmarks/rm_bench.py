"""RM-Bench (Liu et al. 2024, arXiv 2410.16184): every answer in three styles, right and subtly wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.datasets.benchmarks.builder import BenchmarkBuilder, Download, Source, of_names, subset_in_name
from crome_jax.data.datasets.benchmarks.groups import benchmark_group, read_id, read_prompt
from crome_jax.errors import DataError
from crome_jax.evaluation.benchmarks.rm_bench import DOMAINS, STYLES
from crome_jax.groups import PreferenceGroup

_FILES = ("chat", "math", "code", "safety-refuse", "safety-response")
_PART, _TOTAL = "_filtered.json", "total_dataset.json"
_ROOT = "https://raw.githubusercontent.com/THU-KEG/RM-Bench/73c52d7b27b361621361ec959ac6c0eb9bb7a689/data/"
_SHA256 = {
    "chat": "1df6053a68119c17eed9a54d35dc654b8cde3d3b0bbd1ad6941073e40ef5c9a8",
    "code": "c3a56181d34835345b9c5fbf22c203439d06ea96de12b232da80628f14fe1e15",
    "safety-refuse": "cf25d4cc967afe68908ff710a8ffaa6fe7aff53ad70fe0b8c689b35aa20e911f",
    "safety-response": "364caaebd7ddaa432f5120e11e8527fc1046c50d83d0d6f89346ad25f1bf51f1",
}
_GIT_BLOB = {"math": "47c721a5dc7e7b377425b00dbf0d1c2b1885c206"}


def _read(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    part = record.get("domain") or subset_in_name(Path(file.name), _FILES)
    domain = next((name for name in DOMAINS if isinstance(part, str) and part.startswith(name)), None)
    if domain is None:
        problem = "is missing" if part is None else f"is {part!r}"
        fix = f"RM-Bench has {', '.join(DOMAINS)}, in the field or in the name of the file"
        raise DataError(problem, field="domain", fix=fix)
    sides = {}
    for side in ("chosen", "rejected"):
        value = record.get(side)
        if not isinstance(value, list) or len(value) != len(STYLES):
            problem = "is missing" if value is None else f"is no list of {len(STYLES)} texts ({', '.join(STYLES)})"
            raise DataError(problem, field=side)
        sides[side] = value
    # Concise, then detailed, then detailed with markdown: the report's strata are the benchmark's easy and hard.
    styles = [{"style": s, "detailed": s > 0, "markdown": s > 1} for s in range(len(STYLES))]
    return benchmark_group(
        id=f"{part}/{read_id(record)}",
        prompt=read_prompt(record),
        **sides,
        subset=str(part),
        category=domain,
        facts={"spurious_attributes": "detailed, markdown"},
        response_facts=[*styles, *styles],
    )


RM_BENCH = Source(
    name="rm_bench",
    title="RM-Bench",
    description=(
        "Prompts of chat, math, code and safety with a right and a subtly wrong answer, each concise, detailed, and "
        "detailed with markdown: easy, normal and hard by which of the two has the richer style."
    ),
    license="ODC-BY (the hub's card); the repository states none",
    citation=(
        "@article{liu2024rm,\n  title={RM-Bench: Benchmarking Reward Models of Language Models with Subtlety and "
        "Style},\n  author={Liu, Yantao and Yao, Zijun and Min, Rui and Cao, Yixin and Hou, Lei and Li, Juanzi},\n"
        "  journal={arXiv preprint arXiv:2410.16184},\n  year={2024}\n}"
    ),
    downloads=tuple(
        Download(f"{_ROOT}{name}_filtered.json", _SHA256.get(name), f"{name}_filtered.json", _GIT_BLOB.get(name))
        for name in _FILES
    ),
    read=_read,
    wants=of_names("rm_bench", "rm-bench", _PART, _TOTAL),
    layout="the repository's *_filtered.json or its total_dataset.json, or files with rm_bench in their names",
    # The repository has all records twice: a file for each part, and one of them all.
    again=lambda path, paths: _TOTAL in path and any(_PART in other for other in paths),
    language_field=False,  # In its code domain it is a programming language.
)


class RMBench(BenchmarkBuilder):
    """TFDS builder of RM-Bench."""

    source = RM_BENCH
