"""JudgeBench (Tan et al. 2024, arXiv 2410.12784): pairs of which one answer is objectively right, the other wrong."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from crome_jax.data.datasets.benchmarks.builder import BenchmarkBuilder, Download, Source, of_names
from crome_jax.data.datasets.benchmarks.groups import benchmark_group, read_id, read_prompt, read_text
from crome_jax.data.records import stem
from crome_jax.errors import DataError
from crome_jax.evaluation.benchmarks.judgebench import CATEGORIES
from crome_jax.groups import PreferenceGroup

_ROOT = "https://raw.githubusercontent.com/ScalerLab/JudgeBench/e2c52c284e735e139b3daa61c206ee208f36c461/data/"
_FILE = "dataset=judgebench,response_model={}.jsonl"
_SHA256 = {
    "gpt-4o-2024-05-13": "d5106306b38dead1b2e964ecf5534a3e7b2fc4b8d3b8da327599edfcebd76042",
    "claude-3-5-sonnet-20240620": "3b70504588e400613bf5744a20a345da8701b7150be9a30c9db0e6f3d7b70a62",
}


def _read(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    source = read_text(record, "source")
    category = next((name for name, start in CATEGORIES.items() if source.startswith(start)), None)
    if category is None:
        raise DataError(f"is {source!r}", field="source", fix=f"JudgeBench has {', '.join(CATEGORIES.values())}")
    label = record.get("label")
    if label not in ("A>B", "B>A"):
        raise DataError("is missing" if label is None else f"is {label!r}, not A>B or B>A", field="label")
    better, worse = (read_text(record, f"response_{side}") for side in label.split(">"))
    model = _response_model(record, file)
    return benchmark_group(
        id=f"{model}/{read_id(record, 'pair_id')}",
        prompt=read_prompt(record, "question"),
        chosen=[better],
        rejected=[worse],
        subset=f"{model}/{category}",
        category=category,
        facts={"source": source, "response_model": model},
    )


def _response_model(record: Mapping[str, Any], file: Path) -> str:
    """Return which model wrote both answers, as the record or its file's name says: each has a file of its own."""
    if record.get("response_model") is not None:
        return read_text(record, "response_model").replace("/", "-")
    named = re.search(r"response_model=([^,/]+?)(?:\.jsonl?|\.parquet|,|$)", file.name.removesuffix(".gz"))
    return named[1] if named else stem(file)


JUDGEBENCH = Source(
    name="judgebench",
    title="JudgeBench",
    description=(
        "Pairs of answers by one model to a hard question of knowledge, reasoning, mathematics or coding, of which one "
        "is right and one is wrong."
    ),
    license="MIT (the hub's card); the repository states none",
    citation=(
        "@misc{judgebench2024,\n  title={JudgeBench: A Benchmark for Evaluating LLM-Based Judges},\n"
        "  author={Tan, Sijun and Zhuang, Siyuan and Montgomery, Kyle and Tang, William Yuan and Cuadron, Alejandro "
        "and Wang, Chenguang and Popa, Raluca Ada and Stoica, Ion},\n  year={2024},\n  eprint={2410.12784},\n"
        "  archivePrefix={arXiv}\n}"
    ),
    # The pairs of GPT-4o, on which the paper's main table is; those of Claude 3.5 Sonnet are read from a folder.
    downloads=tuple(
        Download(
            _ROOT + _FILE.format(model).replace("=", "%3D").replace(",", "%2C"), _SHA256[model], _FILE.format(model)
        )
        for model in ("gpt-4o-2024-05-13",)
    ),
    read=_read,
    # Nor what judges said of the pairs, in the repository's folder of outputs.
    wants=lambda path: of_names("judgebench")(path) and "outputs" not in Path(path).parts,
    layout="files with judgebench in their names, of {pair_id, source, question, response_A, response_B, label}",
)


class JudgeBench(BenchmarkBuilder):
    """TFDS builder of JudgeBench."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.1.0": "Subsets say whose answers they are."}  # noqa: RUF012 (TFDS declares it so)
    source = JUDGEBENCH
