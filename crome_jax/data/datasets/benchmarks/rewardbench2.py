"""RewardBench 2 (Malik et al. 2025, arXiv 2506.01937): best of four in five subsets, and Ties."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.datasets.benchmarks.builder import BenchmarkBuilder, Download, Source, any_record_file
from crome_jax.data.datasets.benchmarks.groups import benchmark_group, read_id, read_prompt, read_text
from crome_jax.errors import DataError
from crome_jax.evaluation.benchmarks.rewardbench2 import SUBSETS, TIES
from crome_jax.groups import PreferenceGroup

_BEST_OF = 4


def _read(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    by_name = {name.lower(): name for name in SUBSETS}
    subset = by_name.get(read_text(record, "subset").lower())
    if subset is None:
        raise DataError(f"is {record['subset']!r}", field="subset", fix=f"RewardBench 2 has {', '.join(SUBSETS)}")
    texts = {}
    for side in ("chosen", "rejected"):
        value = record.get(side)
        if not isinstance(value, list):
            problem = "is missing" if value is None else f"is {type(value).__name__}, not a list of texts"
            raise DataError(problem, field=side, fix="this may be the first RewardBench: --benchmark rewardbench")
        texts[side] = value
    key = read_id(record)
    if subset == TIES:
        kind, _, number = key.partition(":")
        if kind not in ("ref", "tied") or not number.isdecimal():
            raise DataError(f"is {key!r}, not ref:NUMBER or tied:NUMBER as those of Ties are", field="id")
        if kind == "tied" and len(texts["chosen"]) < 2:
            raise DataError("has a single right answer, where a tied one has several", field="chosen")
    elif len(texts["chosen"]) != 1 or len(texts["rejected"]) != _BEST_OF - 1:
        counts = f"{len(texts['chosen'])} chosen and {len(texts['rejected'])} rejected"
        raise DataError(f"has {counts} responses, where {subset} has 1 and {_BEST_OF - 1}", field="rejected")
    return benchmark_group(
        id=f"{subset}/{key}",
        prompt=read_prompt(record),
        chosen=texts["chosen"],
        rejected=texts["rejected"],
        subset=subset,
        category=subset,
    )


REWARDBENCH2 = Source(
    name="rewardbench2",
    title="RewardBench 2",
    description=(
        "1,865 prompts: in Factuality, Precise IF, Math, Safety and Focus one chosen completion against three rejected "
        "ones, in Ties several right answers against several wrong ones."
    ),
    license="ODC-BY 1.0; completions come under the terms of the models that wrote them",
    citation=(
        "@misc{malik2025rewardbench2,\n  title={RewardBench 2: Advancing Reward Model Evaluation},\n"
        "  author={Malik, Saumya and Pyatkin, Valentina and Land, Sander and Morrison, Jacob and Smith, Noah A. and "
        "Hajishirzi, Hannaneh and Lambert, Nathan},\n  year={2025},\n  eprint={2506.01937},\n"
        "  archivePrefix={arXiv}\n}"
    ),
    downloads=(
        Download(
            "https://huggingface.co/datasets/allenai/reward-bench-2/resolve/"
            "7ff08853b0d5686e79b13fda8677024f566a104a/data/test-00000-of-00001.parquet",
            "c8ec60efbd75d2f9dcba4121e6101f7a6015abc38a34e034ae2c7ae886265958",
            "test-00000-of-00001.parquet",
        ),
    ),
    read=_read,
    wants=any_record_file,
    layout="the hub's test-*.parquet, or records of {id, subset, prompt, chosen[], rejected[]}",
)


class RewardBench2(BenchmarkBuilder):
    """TFDS builder of RewardBench 2."""

    source = REWARDBENCH2
