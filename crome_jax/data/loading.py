"""From groups to batches on the mesh: tokenised, packed, shuffled, shared among hosts, resumable."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh

from crome_jax.batch import FIELDS, Batch
from crome_jax.data.cutting import check_room
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack
from crome_jax.data.pairs import REQUEST, PairForm, tokenize_pairs
from crome_jax.data.quarantine import Places, Quarantine
from crome_jax.data.row_files import RowFiles
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Kind, Origin, PreferenceGroup, to_json
from crome_jax.training.mesh import batch_sharding, row_shards, rows_of_process

if TYPE_CHECKING:
    import grain


def select_kinds(
    groups: Iterable[PreferenceGroup],
    kinds: Sequence[str],
    origins: Sequence[str] = tuple(Origin),
    *,
    name: str = "the data",
    complete: bool = True,
) -> list[PreferenceGroup]:
    """Keep the comparisons of the named kinds between responses of the named origins: the data recipe of a method.

    Args:
        kinds: of "human", "causal", "neutral".
        origins: of the values of `groups.Origin`; both responses of a comparison must be of one of them.
        name: of the data, in errors.
        complete: whether it is an error that there is no comparison of a kind.

    Raises:
        CromeError: where a name is unknown, or the data holds no comparison of a kind that was asked for.
    """
    if unknown := sorted(set(origins) - set(Origin)):
        raise CromeError(f"origin {unknown[0]!r} is none of {', '.join(Origin)}")
    try:
        wanted = {Kind[name.upper()] for name in kinds}
    except KeyError as e:
        raise CromeError(f"kind {e.args[0].lower()!r} is none of human, causal, neutral") from None
    kept, seen = [], set()
    for group in groups:
        from_there = [response.origin in origins for response in group.responses]
        comparisons = tuple(
            c for c in group.comparisons if c.kind in wanted and from_there[c.left] and from_there[c.right]
        )
        seen.update(c.kind for c in comparisons)
        if comparisons:
            kept.append(dataclasses.replace(group, comparisons=comparisons))
    for kind in sorted(wanted - seen) if complete else ():
        kind_name = kind.name.lower()
        between = "" if set(origins) == set(Origin) else f" between responses of {', '.join(origins)}"
        raise CromeError(
            f"{name} holds no {kind_name} comparison{between}; augment it, or take {kind_name!r} out of Method.kinds"
            f"{', or add to Method.origins' if between else ''}"
        )
    return kept


def count_comparisons(groups: Iterable[PreferenceGroup]) -> list[dict[str, str | int]]:
    """Return how many comparisons there are of each kind, and between responses of which origins: what was trained on.

    Returns:
        Records of kind, between, comparisons; the kinds in order, the largest first.
    """
    counts = collections.Counter(
        (
            comparison.kind,
            " and ".join(sorted(group.responses[side].origin for side in (comparison.left, comparison.right))),
        )
        for group in groups
        for comparison in group.comparisons
    )
    ranked = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return [{"kind": kind.name.lower(), "between": between, "comparisons": count} for (kind, between), count in ranked]


def tokenize(group: PreferenceGroup, index: int, tokenizer: Tokenizer) -> TokenizedGroup:
    """Encode a group; `index` is its place in the data set."""
    comparisons = group.comparisons
    return TokenizedGroup(
        index=index,
        prompt=tokenizer.encode_prompt(group.prompt),
        responses=[tokenizer.encode_response(r.text) for r in group.responses],
        **{name: np.array([getattr(c, name) for c in comparisons], np.int32) for name in ("left", "right", "kind")},
        **{
            name: np.array([getattr(c, name) for c in comparisons], np.float32)
            for name in ("target", "weight", "margin")
        },
        attributes=[c.moved for c in comparisons],
        ending=len(tokenizer.ending),
    )


def pack_groups(
    groups: Sequence[PreferenceGroup],
    tokenizer: Tokenizer,
    shape: RowShape,
    *,
    every_response: bool = False,
    pairs: PairForm | None = None,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    name: str | None = None,
    places: Places | None = None,
) -> Rows:
    """Tokenise groups and pack them into rows, in order.

    Args:
        every_response: place the responses that no comparison needs, too.
        pairs: lay the comparisons out so, both answers in one slot; None gives each response a slot.
        on_bad: called with a group that the chat template refuses or whose prompt is too long for a row; without it
            the error is raised.
        places: as `read_groups` fills them: errors name those rather than ids.

    Raises:
        DataError: naming the record where its place is known, else the group, and the data where its `name` is given.
    """
    tokenized = tokenize_groups(groups, tokenizer, shape, pairs=pairs, on_bad=on_bad, name=name, places=places)
    return pack(tokenized, shape, every_response=every_response)


def tokenize_groups(
    groups: Sequence[PreferenceGroup],
    tokenizer: Tokenizer,
    shape: RowShape,
    *,
    pairs: PairForm | None = None,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    name: str | None = None,
    places: Places | None = None,
) -> Iterator[TokenizedGroup]:
    """Encode groups in order, leaving out those that `on_bad` of pack_groups is called with.

    Raises:
        DataError: as pack_groups does, without `on_bad`.
        CromeError: where the chat template writes no pairs.
    """
    between = tokenizer.encode_between(REQUEST) if pairs is not None else ()
    for index, group in enumerate(groups):
        try:
            if pairs is not None:
                item = tokenize_pairs(group, index, tokenizer, shape.tokens, between, pairs)
            else:
                item = tokenize(group, index, tokenizer)
                check_room(len(item.prompt), shape.tokens)
        except DataError as e:
            unknown = f"group {group.id!r}{f' of {name}' if name else ''}", None
            error = e.at(*(places or {}).get(group.id, unknown))
            if on_bad is None:
                raise error from None
            on_bad(group, error)
        else:
            yield item


def fitting_groups(
    groups: Sequence[PreferenceGroup],
    tokenizer: Tokenizer,
    shape: RowShape,
    quarantine: Quarantine | None,
    *,
    forms: Sequence[PairForm | None] = (None,),
    places: Places | None = None,
) -> list[PreferenceGroup]:
    """Return the groups that can be packed in all these forms, in order; the others are set aside.

    Args:
        quarantine: where they go; None makes the first one an error.
        forms: of laying comparisons out, as `pairs` of pack_groups.
        places: as of pack_groups.

    Raises:
        DataError: as pack_groups does, without a quarantine.
    """
    refused: dict[int, DataError] = {}  # By object: ids may come twice.

    def refuse(group: PreferenceGroup, error: DataError) -> None:
        refused.setdefault(id(group), error)

    for form in forms:
        on_bad = None if quarantine is None else refuse
        for _ in tokenize_groups(groups, tokenizer, shape, pairs=form, on_bad=on_bad, places=places):
            pass
    for group in groups:
        if id(group) in refused:
            quarantine.add(refused[id(group)], to_json(group))
    return [group for group in groups if id(group) not in refused]


def fingerprint(rows: Rows) -> str:
    """Return the sha256 of everything the packed rows hold: equal exactly where training sees the same data."""
    digest = hashlib.sha256()
    for name in FIELDS:
        digest.update(np.ascontiguousarray(getattr(rows.batch, name)).tobytes())
    return digest.hexdigest()


def fingerprint_groups(groups: Iterable[PreferenceGroup]) -> str:
    """Return the sha256 of groups as canonical JSON lines, in order."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(to_json(group).encode() + b"\n")
    return digest.hexdigest()


def row_order(rows: int, seed: int, mixture: Sequence[tuple[int, float]] = ()) -> "grain.MapDataset":
    """Return the numbers of the rows in the order they are trained on, without end.

    Args:
        rows: how many there are.
        seed: of the order.
        mixture: of several data sets, in the order their rows come: how many rows each has, and its weight. Each is
            shuffled and repeated by itself; in any stretch of the order their rows come in proportion to the weights.

    Raises:
        CromeError: where a weight is not positive.
    """
    import grain  # Here: what scores needs none of it, and it takes a second to import.

    if not mixture:
        return grain.MapDataset.range(rows).seed(seed).shuffle().repeat()
    if min(weight for _, weight in mixture) <= 0:
        raise CromeError(f"the weights of the data are {[weight for _, weight in mixture]}; give positive numbers")
    parts, start = [], 0
    for count, _ in mixture:
        parts.append(grain.MapDataset.range(start, start + count).seed(seed + len(parts)).shuffle().repeat())
        start += count
    return grain.MapDataset.mix(parts, [weight for _, weight in mixture])


def rows_of_step(
    step: int, *, rows: int, rows_per_step: int, seed: int, mixture: Sequence[tuple[int, float]] = ()
) -> list[int]:
    """Return the numbers of the rows that step number `step` (from 1) trains on, over all processes."""
    order = row_order(rows, seed, mixture)
    return [int(order[at]) for at in range((step - 1) * rows_per_step, step * rows_per_step)]


def batches(
    rows: Rows | RowFiles,
    *,
    rows_per_step: int,
    seed: int,
    hidden: np.ndarray | None = None,
    mesh: Mesh | None = None,
    mixture: Sequence[tuple[int, float]] = (),
) -> "grain.DatasetIterator":
    """Iterate over shuffled batches without end; this process takes only the rows its devices hold.

    The order is a function of the seed and the step alone, on however many processes and whatever mesh; `get_state`
    and `set_state` resume it, there as well.

    Args:
        rows_per_step: over all processes.
        hidden: [N, T, D]; what enters the first trained layer, where that was computed ahead.
        mesh: whose devices the rows are for; None takes all rows of a step.
        mixture: see `row_order`.

    Returns:
        An iterator of dictionaries of numpy arrays: the fields of a Batch, `attribute` where the rows have any.

    Raises:
        CromeError: where rows_per_step does not divide over the mesh.
    """
    import grain

    mine = np.arange(rows_per_step) if mesh is None else rows_of_process(mesh, rows_per_step)

    def gather(numbers: np.ndarray) -> dict[str, np.ndarray]:
        at = numbers[mine]
        batch = rows.take(at)
        return batch if hidden is None else batch | {"hidden": np.asarray(hidden[at])}

    order = row_order(len(rows), seed, mixture)
    dataset = order.batch(rows_per_step, drop_remainder=True).map(gather)  # There is no remainder: rows never end.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """Place this process's rows on the mesh, split over its data-like axes.

    Args:
        batch: the rows that `rows_of_process` says, in its order.

    Raises:
        CromeError: where the rows of all processes do not divide over those axes.
    """
    sharding, shards = batch_sharding(mesh), row_shards(mesh)
    mine = len(rows_of_process(mesh, shards))  # Of the parts into which rows are split.
    rows = len(batch["tokens"]) * shards // mine
    rows_of_process(mesh, rows)  # Says what is wrong with an indivisible number.
    place = lambda x: jax.make_array_from_process_local_data(sharding, x, (rows, *x.shape[1:]))  # noqa: E731
    return Batch(**{name: place(x) for name, x in batch.items()})
