"""reWordBench (Wu et al. 2025, arXiv 2503.11751): a RewardBench set and what becomes of it when it is reworded."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from crome_jax.augment.seeds import derive_seed
from crome_jax.data.datasets.benchmarks.builder import BenchmarkBuilder, Source, generate_groups
from crome_jax.data.datasets.benchmarks.groups import CHOSEN, REJECTED, benchmark_group
from crome_jax.data.datasets.benchmarks.rewardbench import REWARDBENCH, WITH_PRIOR_SETS
from crome_jax.data.datasets.benchmarks.transformations import FAMILIES, Pair
from crome_jax.data.features import encode_group
from crome_jax.data.quarantine import Quarantine
from crome_jax.errors import DataError
from crome_jax.evaluation.benchmarks.rewardbench import PRIOR
from crome_jax.evaluation.benchmarks.rewordbench import ORIGINAL
from crome_jax.groups import Message, PreferenceGroup

REWORDBENCH = Source(
    name="rewordbench",
    title="reWordBench",
    description="A RewardBench set as it is and under transformations that keep which response is better.",
    license=REWARDBENCH.license,
    citation=(
        "@inproceedings{wu2025rewordbench,\n  title={reWordBench: Benchmarking and Improving the Robustness of Reward "
        "Models with Transformed Inputs},\n  author={Wu, Zhaofeng and Yasunaga, Michihiro and Cohen, Andrew and Kim, "
        "Yoon and Celikyilmaz, Asli and Ghazvininejad, Marjan},\n  booktitle={Empirical Methods in Natural Language "
        "Processing},\n  year={2025}\n}"
    ),
    downloads=REWARDBENCH.downloads,
    read=WITH_PRIOR_SETS.read,
    wants=REWARDBENCH.wants,
    layout=REWARDBENCH.layout,
)


class RewordBench(BenchmarkBuilder):
    """TFDS builder of reWordBench's transformations of RewardBench."""

    source = REWORDBENCH

    def _generate_examples(self, files: Mapping[str, Path]) -> Iterator[tuple[int, dict]]:
        for number, group in enumerate(generate_reworded(files)):
            yield number, encode_group(group)


def generate_reworded(files: Mapping[str, Path], quarantine: Quarantine | None = None) -> Iterator[PreferenceGroup]:
    """Read a RewardBench set and yield it with all of its transformations, as transform_groups does.

    Pairs of the prior sets are no part of the benchmark, and are passed over.

    Raises:
        DataError: as generate_groups does, and where there are no other pairs.
    """
    read = generate_groups(REWORDBENCH, files, quarantine)
    groups = [group for group in read if group.metadata["category"] != PRIOR]
    if not groups:
        raise DataError(f"{REWORDBENCH.title}: all pairs are of prior sets", fix=f"give {REWORDBENCH.layout}")
    yield from transform_groups(groups)


def transform_groups(groups: Sequence[PreferenceGroup], seed: int = 0) -> Iterator[PreferenceGroup]:
    """Yield every pair as it is, and then under each transformation that applies to it.

    What is drawn for a pair depends on the seed, its id and the transformation alone.

    Args:
        groups: pairs of RewardBench.
    """
    following: dict[str, str] = {}
    by_subset: dict[str, list[PreferenceGroup]] = {}
    for group in groups:
        by_subset.setdefault(str(group.metadata["subset"]), []).append(group)
    for same in by_subset.values():
        for group, other in zip(same, same[1:] + same[:1], strict=True):
            following[group.id] = _text(other, CHOSEN) if other is not group else ""
    for group in groups:
        yield _reworded(group, ORIGINAL, _pair(group, following[group.id]), group.prompt)
    for family in FAMILIES.values():
        for transformation in family:
            name = transformation.__name__
            for group in groups:
                pair = _pair(group, following[group.id])
                changed = transformation(pair, random.Random(derive_seed(seed, name, group.id)))
                # Two short answers may become the same: then neither is better any more.
                if changed is not None and changed.chosen != changed.rejected:
                    yield _reworded(group, name, changed, (*group.prompt[:-1], Message("user", changed.prompt)))


def _pair(group: PreferenceGroup, elsewhere: str) -> Pair:
    return Pair(
        group.prompt[-1].content,
        _text(group, CHOSEN),
        _text(group, REJECTED),
        str(group.metadata["subset"]),
        elsewhere,
    )


def _text(group: PreferenceGroup, side: str) -> str:
    return group.responses[int(str(group.metadata[side]))].text


def _reworded(group: PreferenceGroup, name: str, pair: Pair, prompt: tuple[Message, ...]) -> PreferenceGroup:
    return benchmark_group(
        id=f"{name}/{group.id}",
        prompt=prompt,
        chosen=[pair.chosen],
        rejected=[pair.rejected],
        subset=name,
        category=name.replace("_", " "),
    )
