"""A user's own preference data as a benchmark: any shape that is read, plain accuracy by category."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.datasets.benchmarks.builder import BenchmarkBuilder, Source, any_record_file
from crome_jax.data.datasets.benchmarks.groups import benchmark_group
from crome_jax.data.records import stem
from crome_jax.data.shapes import group_from_record
from crome_jax.errors import DataError
from crome_jax.groups import PreferenceGroup


def _read(record: Mapping[str, Any], file: Path) -> PreferenceGroup:
    if record.get("id") is None:
        raise DataError("is missing", field="id", fix="give every pair an id of its own")
    group = group_from_record(dict(record), str(record["id"]))
    if len(group.comparisons) != 1 or group.comparisons[0].target not in (0.0, 1.0):
        problem = f"is no pair with one better answer (it has {len(group.comparisons)} comparisons)"
        raise DataError(problem, fix="measure rankings and ties with --data, which counts every comparison")
    (comparison,) = group.comparisons
    better, worse = comparison.left, comparison.right
    if comparison.target == 0.0:
        better, worse = worse, better
    category = str(group.metadata.get("category", group.metadata.get("subset", stem(Path(file.name)))))
    return benchmark_group(
        id=group.id,
        prompt=group.prompt,
        chosen=[group.responses[better].text],
        rejected=[group.responses[worse].text],
        subset=category,
        category=category,
        facts={name: value for name, value in group.metadata.items() if name not in ("subset", "category")},
        response_facts=[group.responses[better].metadata, group.responses[worse].metadata],
    )


PAIRS = Source(
    name="pairs",
    title="Own pairs",
    description="Pairs of a user's own, with one better answer each.",
    license="the user's own",
    citation="",
    downloads=(),
    read=_read,
    wants=any_record_file,
    layout="JSON lines or Parquet of pairs, with ids",
    language_field=False,
)


class Pairs(BenchmarkBuilder):
    """TFDS builder of a user's own pairs; it has nothing to download."""

    source = PAIRS
