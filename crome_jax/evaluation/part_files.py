"""What every example adds to a benchmark's scores, on disk: of which the scores of several evaluations are paired."""

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from crome_jax.data.datasets.benchmarks.groups import CHOSEN, REJECTED
from crome_jax.errors import CromeError, DataError
from crome_jax.files import gzipped, whole_output
from crome_jax.groups import PreferenceGroup

PARTS = "parts.json.gz"
SCHEMA = "crome_jax.parts/1"
_AGAIN = "run `crome evaluate` again"


class StoredPart(NamedTuple):
    """One mean of which a score is made.

    Args:
        examples: of each example a digest of its id and its texts: equal ones are the same in any evaluation.
        prompts: equal numbers are equal prompts, in all parts of the benchmark.
        values: what each example adds.
    """

    examples: tuple[str, ...]
    prompts: Int[np.ndarray, "N"]
    values: Float[np.ndarray, "N"]


class StoredRow(NamedTuple):
    """A line of a benchmark's table: a weighted sum of parts.

    Args:
        section, name, level: that tell it from the others.
        parts: of each its share, and the part.
        together: whether the parts are of the same prompts.
    """

    section: str
    name: str
    level: str
    parts: tuple[tuple[float, StoredPart], ...]
    together: bool

    @property
    def score(self) -> float:
        """The weighted sum of the parts' means."""
        return float(sum(share * part.values.mean() for share, part in self.parts))


def write_parts(
    folder: Path,
    benchmarks: Mapping[str, tuple[Sequence[PreferenceGroup], Mapping[str, Sequence[Mapping[str, Any]]]]],
) -> Path:
    """Write PARTS into a folder, in place of an older one.

    It holds, under a benchmark's name, `examples` (their digests) and `methods.<method>`: `parts` of `examples` (places
    among those), `prompts` and `values`, and `rows` of `section`, `name`, `level`, `together` and `shares`, pairs of a
    share and the place of a part.

    Args:
        benchmarks: name to its groups and, by method, the rows of its table, as benchmark_rows gives them.

    Raises:
        CromeError: where it cannot be written.
    """
    content = {
        name: {
            "examples": [_digest(group) for group in groups],
            "methods": {method: _plain(rows) for method, rows in by_method.items()},
        }
        for name, (groups, by_method) in benchmarks.items()
    }
    with whole_output(folder / PARTS, overwrite=True) as partial, gzipped(partial) as packed:
        packed.write(json.dumps({"schema": SCHEMA, "benchmarks": content}).encode("ascii"))
    return folder / PARTS


def read_parts(folder: Path) -> dict[str, dict[str, list[StoredRow]]]:
    """Read what write_parts wrote: benchmark to method to the rows of its table.

    Raises:
        CromeError: where it is absent, damaged, or of another version.
    """
    path = folder / PARTS
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content["schema"] != SCHEMA:
            raise DataError(f"is of schema {content['schema']!r}, not {SCHEMA}", file=str(path), fix=_AGAIN)
        return {
            name: {method: _rows(found["examples"], table) for method, table in found["methods"].items()}
            for name, found in content["benchmarks"].items()
        }
    except FileNotFoundError:
        raise CromeError(f"{folder}: holds no {PARTS}, which benchmarks are compared by; {_AGAIN}") from None
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as e:
        raise DataError(f"is damaged ({type(e).__name__}: {e})", file=str(path), fix=_AGAIN) from None


def _plain(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a table's rows with each part once, however many rows it is in."""
    numbers: dict[int, int] = {}
    parts: list[dict[str, Any]] = []
    lines, section = [], ""
    for row in rows:
        section = row["name"] if row["level"] != "subset" else section
        shares = []
        for share, part in row["parts"]:
            if id(part) not in numbers:
                numbers[id(part)] = len(parts)
                columns = {"examples": part.examples, "prompts": part.prompts, "values": part.values}
                parts.append({name: np.asarray(column).tolist() for name, column in columns.items()})
            shares.append([share, numbers[id(part)]])
        told = {"section": section, "name": row["name"], "level": row["level"], "together": row["together"]}
        lines.append({**told, "shares": shares})
    return {"parts": parts, "rows": lines}


def _rows(examples: Sequence[str], table: Mapping[str, Any]) -> list[StoredRow]:
    parts = [
        StoredPart(
            tuple(examples[at] for at in part["examples"]),
            np.array(part["prompts"], np.int64),
            np.array(part["values"], np.float64),
        )
        for part in table["parts"]
    ]
    return [
        StoredRow(
            row["section"],
            row["name"],
            row["level"],
            tuple((float(share), parts[at]) for share, at in row["shares"]),
            bool(row["together"]),
        )
        for row in table["rows"]
    ]


def _digest(group: PreferenceGroup) -> str:
    """Return the SHA-256 of an example's id, prompt and answers, in the order that benchmarks read these in."""
    prompt = [[message.role, message.content] for message in group.prompt]
    sides = [
        [group.responses[int(place)].text for place in str(group.metadata[side]).split(",")]
        for side in (CHOSEN, REJECTED)
    ]
    return hashlib.sha256(json.dumps([group.id, prompt, sides]).encode("ascii")).hexdigest()[:32]
