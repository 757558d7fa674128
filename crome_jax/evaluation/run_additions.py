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
        runs: of its facts: `method`, and as `run` and `model sha256` the folder of each model and what it held.

    Returns:
        Those found, of a method one diagnosis and one best-of-N by each judge, and a warning for each one that is left
        out, or whose model is told by its folder's name alone.

    Raises:
        CromeError: where one is damaged.
    """
    found: dict[tuple[str, str, str | None], Addition] = {}
    warnings = []
    for kind, path in _files([*folders, *(Path(row["run"]) for row in runs if "run" in row)]):
        fix = f"move it away, or write it again with `crome {kind.replace('diagnosis', 'diagnose')}`"
        figures = read_json_object(path, fix=fix)
        if figures.get("schema") != SCHEMAS[kind]:
            raise CromeError(f"{path}: is of schema {figures.get('schema')!r}, not {SCHEMAS[kind]}; {fix}")
        method, warning = _method_of(figures.get("facts") or {}, runs)
        key = kind, str(method), figures.get("judge")
        if method is not None and key in found:
            warning = f"is another {_shown(*key)} than {found[key].path}, which is shown; left out; move one away"
        elif method is not None:
            found[key] = Addition(kind, method, path, figures)
        if warning:
            warnings.append(f"{path}: {warning}")
    return list(found.values()), warnings


def _shown(kind: str, method: str, judge: str | None) -> str:
    return f"diagnosis of {method}" if kind == "diagnosis" else f"best of N of {method} by judge {judge}"


def _files(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    seen = set()
    for folder in folders:
        for kind, name in FILES.items():
            for path in (folder / name, folder / kind / name):
                if path.resolve() not in seen and path.is_file():
                    seen.add(path.resolve())
                    yield kind, path


def _method_of(facts: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """Return the method that a report is of, None where it is of none, and what is to be said of that, if anything.

    A model is told by what its files hold, and by its folder where that is not known or several hold the same; where
    folders were moved and reports do not say what they held, by the folder's name.
    """
    model, digest = facts.get("model"), facts.get("model sha256")
    none = f"is of {model}, none of the models evaluated here; left out"
    if model is None:
        return None, none
    wanted = Path(model)
    held = [row for row in runs if "run" in row]
    there = [row for row in held if Path(row["run"]).resolve() == wanted.resolve()]
    if digest:
        same = [row for row in held if row.get("model sha256") == digest]
        if same:
            return next((row for row in there if row in same), same[0])["method"], None
        if there and there[0].get("model sha256"):
            return None, f"is of another checkpoint of {model} than was evaluated; left out; measure the same one"
    if there:
        return there[0]["method"], None
    # What says otherwise what it held is another model of that name.
    named = [row for row in held if Path(row["run"]).name == wanted.name and not (digest and row.get("model sha256"))]
    if len(named) != 1:
        return None, none
    said = f"is of {model}, and taken to be of {named[0]['run']} by the folder's name alone, as no checkpoint is named"
    return named[0]["method"], f"{said}; measure again to be sure"
