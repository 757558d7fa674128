"""Best-of-N and diagnosis reports of evaluated models: where they are looked for, and whose figures they are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crome_jax.errors import CromeError
from crome_jax.evaluation import best_of_n_figures, diagnosis
from crome_jax.files import read_json_object

FILES = {"best_of_n": "best_of_n.json", "diagnosis": "diagnosis.json"}
"""What is looked for: the folder that it usually is in, and its name."""

SCHEMAS = {"best_of_n": best_of_n_figures.SCHEMA, "diagnosis": diagnosis.SCHEMA}


class Addition(NamedTuple):
    """A report that an evaluation lacks.

    Args:
        kind: a key of FILES.
        method: of the evaluation, whose model it is of.
        path: of its file.
        figures: that it holds.
    """

    kind: str
    method: str
    path: Path
    figures: Mapping[str, Any]


def read_additions(folders: Sequence[Path], runs: Sequence[Mapping[str, Any]]) -> tuple[list[Addition], list[str]]:
    """Read the best-of-N and diagnosis reports that belong to an evaluation's models.

    They are looked for in the evaluation's folders and its models' own, and in `best_of_n` and `diagnosis` of either.

    Args:
        folders: of the evaluation.
        runs: of its facts: `method`, and as `run` the folder of each model.

    Returns:
        Those found, and a warning for each one that is of none of these models.

    Raises:
        CromeError: where one is damaged.
    """
    found, warnings = [], []
    for kind, path in _files([*folders, *(Path(row["run"]) for row in runs if "run" in row)]):
        fix = f"move it away, or write it again with `crome {kind.replace('diagnosis', 'diagnose')}`"
        figures = read_json_object(path, fix=fix)
        if figures.get("schema") != SCHEMAS[kind]:
            raise CromeError(f"{path}: is of schema {figures.get('schema')!r}, not {SCHEMAS[kind]}; {fix}")
        model = (figures.get("facts") or {}).get("model")
        method = _method_of(model, runs)
        if method is None:
            warnings.append(f"{path}: is of {model}, none of the models evaluated here; left out")
        else:
            found.append(Addition(kind, method, path, figures))
    return found, warnings


def _files(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    seen = set()
    for folder in folders:
        for kind, name in FILES.items():
            for path in (folder / name, folder / kind / name):
                if path.resolve() not in seen and path.is_file():
                    seen.add(path.resolve())
                    yield kind, path


def _method_of(model: str | None, runs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the method whose folder is a model's; where folders were moved, the one with a folder of that name."""
    if model is None:
        return None
    held = [(row["method"], Path(row["run"])) for row in runs if "run" in row]
    wanted = Path(model)
    same = [method for method, run in held if run.resolve() == wanted.resolve()]
    same = same or [method for method, run in held if run.name == wanted.name]
    return same[0] if len(same) == 1 else None
