"""LLMBar (Zeng et al. 2023, arXiv 2310.07641): which of two outputs follows the instruction."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.datasets.benchmarks.builder import BenchmarkBuilder, Download, Source, of_names, subset_in_name
from crome_jax.data.datasets.benchmarks.groups import benchmark_group, read_prompt, read_text
from crome_jax.errors import DataError
from crome_jax.evaluation.benchmarks.llmbar import SUBSETS
from crome_jax.groups import PreferenceGroup

_ROOT = (
    "https://raw.githubusercontent.com/princeton-nlp/LLMBar/900616bff90b6c6c8e1681f7d079250637c55992/Dataset/LLMBar/"
)
_SHA256 = {
    "Natural": "f7127b7aa78104cb8e03a2b1b3ac0077e95b125714dd441a8ee63666145a3375",
    "Adversarial/Neighbor": "6712c7eda6342602e0bc7c06c282fa95e2110d4e741a284026a62d937f9780a0",
    "Adversarial/GPTInst": "1002425f73c2cf54b6e6de99bce3f6c60fa2a17d13194772e37d7481c1351d42",
    "Adversarial/GPTOut": "1ff56e520d7607750a9866a3be0f5b850392ca4477a1f69d80f32bd3e310f561",
    "Adversarial/Manual": "0d9598769a39cdbbd265778c37e49939d41d5f76dcfb17bd75dcfa07516d3837",
}
_NAMES = tuple(name.lower() for name in SUBSETS)


def _read(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    found = subset_in_name(file, _NAMES)
    if found is None:
        raise DataError("is missing", field="subset", fix=f"name the file or its folder by one of {', '.join(SUBSETS)}")
    subset = SUBSETS[_NAMES.index(found)]
    label = record.get("label")
    if isinstance(label, bool) or label not in (1, 2):
        raise DataError("is missing" if label is None else f"is {label!r}, not 1 or 2", field="label")
    prompt = read_prompt(record, "input")
    outputs = [read_text(record, "output_1"), read_text(record, "output_2")]
    # Records have no id of their own: what they say tells them apart.
    key = hashlib.sha256(json.dumps([prompt[-1].content, *sorted(outputs)]).encode()).hexdigest()[:16]
    return benchmark_group(
        id=f"{subset}/{key}",
        prompt=prompt,
        chosen=[outputs[label - 1]],
        rejected=[outputs[2 - label]],
        subset=subset,
        category=subset,
    )


LLMBAR = Source(
    name="llmbar",
    title="LLMBar",
    description=(
        "419 instructions with two outputs, of which one follows the instruction; in the adversarial sets the other "
        "is the more engaging."
    ),
    license="MIT",
    citation=(
        "@inproceedings{zeng2024llmbar,\n  title={Evaluating Large Language Models at Evaluating Instruction "
        "Following},\n  author={Zeng, Zhiyuan and Yu, Jiatong and Gao, Tianyu and Meng, Yu and Goyal, Tanya and Chen, "
        "Danqi},\n  booktitle={International Conference on Learning Representations (ICLR)},\n  year={2024}\n}"
    ),
    downloads=tuple(
        Download(f"{_ROOT}{name}/dataset.json", sha256, f"{name}/dataset.json") for name, sha256 in _SHA256.items()
    ),
    read=_read,
    # Nor RewardBench's copies of the sets, nor what evaluators said of them, in the repository's folders.
    wants=lambda path: of_names(*_NAMES)(path) and not of_names("processed", "rewardbench", "evaluators/")(path),
    layout="the repository's Dataset/LLMBar, or files named by natural, neighbor, gptinst, gptout and manual",
)


class LLMBar(BenchmarkBuilder):
    """TFDS builder of LLMBar."""

    source = LLMBAR
