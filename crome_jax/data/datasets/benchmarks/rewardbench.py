"""RewardBench (Lambert et al. 2024, arXiv 2403.13787): 23 subsets of pairs in four sections, and the prior sets."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.datasets.benchmarks.builder import (
    HUB,
    BenchmarkBuilder,
    BenchmarkConfig,
    Download,
    Source,
    any_record_file,
    subset_in_name,
)
from crome_jax.data.datasets.benchmarks.groups import benchmark_group, read_id, read_prompt, read_text
from crome_jax.errors import DataError
from crome_jax.evaluation.benchmarks.rewardbench import PRIOR, PRIOR_SETS, SECTIONS
from crome_jax.groups import PreferenceGroup

SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets} | dict.fromkeys(
    PRIOR_SETS, PRIOR
)

_NOT_SCORED = ("anthropic_harmless", "mtbench_gpt4", "mtbench_human", "pku_better", "pku_safer")
_LEFT_OUT = ("raw-", "summarize_prompted", *_NOT_SCORED)
"""How files begin that lie beside those of the benchmark on the hub: completions it was chosen from, other sets."""

_PRIOR_ROOT = "https://huggingface.co/datasets/allenai/preference-test-sets/resolve/74d7c11476db2a6b48b93f5430b5911576eebf22/data/"


def _prior_set(file: Path) -> str | None:
    """Return which prior set a file's path names, None where it names none."""
    named = subset_in_name(file, [name.replace("_", "-") for name in SECTION_OF])
    return next((name for name in PRIOR_SETS if name.replace("_", "-") == named), None)


def _wants(path: str) -> bool:
    return any_record_file(path) and not Path(path).name.startswith(_LEFT_OUT)


def _read_own(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    if (subset := record.get("subset")) in PRIOR_SETS:
        fix = "pass --prior-sets to count these sets, or give the files without them"
        raise DataError(f"is {subset!r}, a prior set", field="subset", fix=fix)
    return _read(record, file)


def _read(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    prior = _prior_set(file)
    subset = record.get("subset") if prior is None else prior
    if subset in _NOT_SCORED:
        raise DataError(f"is {subset!r}, a set that the leaderboard's average leaves out", field="subset")
    if subset not in SECTION_OF:
        fix = f"RewardBench has {', '.join(SECTION_OF)}"
        raise DataError("is missing" if subset is None else f"is {subset!r}", field="subset", fix=fix)
    return benchmark_group(
        id=f"{subset}/{read_id(record).removeprefix(subset).lstrip('/-')}",
        prompt=read_prompt(record),
        chosen=[read_text(record, "chosen")],
        rejected=[read_text(record, "rejected")],
        subset=subset,
        category=SECTION_OF[subset],
    )


REWARDBENCH = Source(
    name="rewardbench",
    title="RewardBench",
    description=(
        "Prompts with a chosen and a rejected completion in 23 subsets (chat, chat hard, safety, reasoning), each a "
        "question whose answer was verified; with the files of allenai/preference-test-sets also the prior sets."
    ),
    license="ODC-BY 1.0; subsets have terms of their own, listed with the data set",
    citation=(
        "@misc{lambert2024rewardbench,\n  title={RewardBench: Evaluating Reward Models for Language Modeling},\n"
        "  author={Lambert, Nathan and Pyatkin, Valentina and Morrison, Jacob and Miranda, LJ and Lin, Bill Yuchen and "
        "Chandu, Khyathi and Dziri, Nouha and Kumar, Sachin and Zick, Tom and Choi, Yejin and Smith, Noah A. and "
        "Hajishirzi, Hannaneh},\n  year={2024},\n  eprint={2403.13787},\n  archivePrefix={arXiv}\n}"
    ),
    downloads=(
        Download(
            "https://huggingface.co/datasets/allenai/reward-bench/resolve/"
            "168d848cdbbea9764fae4a544dc9ca1e6cca4931/data/filtered-00000-of-00001.parquet",
            "65473c20ed0627e02503557ae102c25c6b0e66b5ed69ee327e224bb95e70ca29",
            "filtered-00000-of-00001.parquet",
        ),
    ),
    read=_read_own,
    wants=lambda path: _wants(path) and _prior_set(Path(path)) is None,
    layout="the hub's filtered-*.parquet, or records of {id, subset, prompt, chosen, rejected}",
)


WITH_PRIOR_SETS = dataclasses.replace(
    REWARDBENCH,
    downloads=(
        *REWARDBENCH.downloads,
        *(
            Download(f"{_PRIOR_ROOT}{name}-00000-of-00001.parquet", None, f"{name}-00000-of-00001.parquet")
            for name in PRIOR_SETS
        ),
    ),
    read=_read,
    wants=_wants,
)

PRIOR_SETS_TOO = BenchmarkConfig(
    name="prior_sets",
    description="The files of the public hub, those of the prior sets among them.",
    source=WITH_PRIOR_SETS,
)


class RewardBench(BenchmarkBuilder):
    """TFDS builder of RewardBench."""

    BUILDER_CONFIGS = [HUB, PRIOR_SETS_TOO]  # noqa: RUF012
    source = REWARDBENCH
