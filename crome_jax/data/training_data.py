"""What a run trains on: read, selected and packed by one process, and seen by all."""

import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.attributes import tell_commonest_apart
from crome_jax.data.loading import fingerprint, fingerprint_groups, pack_groups, select_kinds
from crome_jax.data.packing import Rows, RowShape, join_rows, packing_facts
from crome_jax.data.pairs import PairForm
from crome_jax.data.quarantine import Places, Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.data.row_files import INDEX_FILE, RowFiles, write_row_files
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError
from crome_jax.files import is_remote
from crome_jax.groups import to_json

_FACTS = ("mixture", "fingerprint", "source", "packing", "attributes")


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Packed rows, in memory or in files, and what is said of them.

    Args:
        rows: what `loading.batches` takes from.
        records: from the number of a row to the ids of its records.
        mixture: of several data sets, how many rows each has, and its weight; empty for one.
        fingerprint: sha256 of the packed rows; the same wherever they are.
        source: sha256 of what they were packed from, and how; empty where they are not to be kept.
        packing: what `packing_facts` says of them.
        attributes: names of what causal comparisons move, in the order of their numbers.
    """

    rows: Rows | RowFiles
    records: Callable[[int], list[str]]
    mixture: list[tuple[int, float]]
    fingerprint: str
    source: str
    packing: dict[str, Any]
    attributes: tuple[str, ...]

    def kept_in(self, folder: Path) -> "TrainingData":
        """Write the rows into a folder, unless they are there, for other processes to `open_training_data`.

        What killed processes left of them there is removed: of a run's rows one process is the writer.
        """
        if not is_remote(folder):
            for left in folder.parent.glob(f".{folder.name}.*.partial"):
                shutil.rmtree(left, ignore_errors=True)
        if isinstance(self.rows, Rows):
            facts = {name: getattr(self, name) for name in _FACTS}
            write_row_files(folder, self.rows, self.records, facts)
        return open_training_data(folder)


def open_training_data(folder: Path) -> TrainingData:
    """Open what another process, or an earlier start of the run, has packed.

    Raises:
        CromeError: where a file is missing or cut short.
    """
    rows = RowFiles(folder)
    facts = rows.facts | {"mixture": [tuple(part) for part in rows.facts["mixture"]]}
    facts |= {"attributes": tuple(rows.facts["attributes"])}
    return TrainingData(rows, rows.records, **facts)


def read_training_data(
    sources: Mapping[str, float],
    kinds: tuple[str, ...],
    origins: tuple[str, ...],
    tokenizer: Tokenizer,
    shape: RowShape,
    *,
    pairs: PairForm | None = None,
    quarantine: Quarantine | None = None,
    kept: Path | None = None,
) -> TrainingData:
    """Read data sets, and tokenise and pack the comparisons that a method trains on.

    Args:
        sources: path -> weight.
        kinds, origins: see `select_kinds`.
        pairs: lay the comparisons out so; None gives each response a slot.
        quarantine: where bad records go; None makes them an error.
        kept: a folder that these rows are to be kept in; where they are there, of an earlier start, they are not packed
            again.

    Raises:
        CromeError: where the data cannot be read, or does not hold what the method wants.
    """
    places: list[Places] = [{} for _ in sources]
    read = [
        list(read_groups(path, quarantine=quarantine, places=found))
        for path, found in zip(sources, places, strict=True)
    ]
    # Of all together no kind may be absent.
    select_kinds(itertools.chain(*read), kinds, origins, name=" + ".join(sources))
    read = [select_kinds(some, kinds, origins, complete=False) for some in read]
    # Of a large data set it takes a while to say, and only rows that are kept want it.
    source = "" if kept is None else _source(read, [*sources.values()], tokenizer, shape, pairs)
    # What packing sets aside is not known without packing.
    if kept is not None and quarantine is None and (found := _opened(kept, source)) is not None:
        return found
    parts = [
        pack_groups(
            some,
            tokenizer,
            shape,
            pairs=pairs,
            on_bad=None if quarantine is None else lambda group, error: quarantine.add(error, to_json(group)),
            places=found,
        )
        for some, found in zip(read, places, strict=True)
    ]
    rows = tell_commonest_apart(join_rows([(part, len(some)) for part, some in zip(parts, read, strict=True)]))
    ids = [group.id for group in itertools.chain(*read)]
    mixture = [(len(part), weight) for part, weight in zip(parts, sources.values(), strict=True)]
    return TrainingData(
        rows=rows,
        records=lambda row: [ids[group] for group in dict.fromkeys(rows.groups[row].tolist()) if group >= 0],
        mixture=mixture if len(mixture) > 1 else [],
        fingerprint=fingerprint(rows),
        source=source,
        packing=packing_facts(rows),
        attributes=rows.attributes,
    )


def _source(read: list, weights: list[float], tokenizer: Tokenizer, shape: RowShape, pairs: PairForm | None) -> str:
    made_of = [[fingerprint_groups(some) for some in read], weights, tokenizer.fingerprint, dataclasses.astuple(shape)]
    made_of += [] if pairs is None else [dataclasses.astuple(pairs)]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _opened(folder: Path, source: str) -> TrainingData | None:
    """Return the rows in a folder, where they are whole and of this source."""
    if not (folder / INDEX_FILE).is_file():
        return None
    try:
        found = open_training_data(folder)
    except CromeError:
        return None
    return found if found.source == source and found.rows.is_whole() else None
