"""What a candidate is worth: judges that best-of-N values come from, by a rule, or by a function of the user's."""

import hashlib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.candidates import DIFFICULTY, Candidates
from crome_jax.evaluation.exact_match import exact_match, extract_number
from crome_jax.evaluation.refusal import refusal_value, refuses

Own = Callable[[dict[str, Any], list[str]], Sequence[bool | float]]
"""A judge of the user's: from a record, as it was read, and its candidates to one verdict for each."""

_JUDGED_BY = ("answer", "harmful", "refused", "baseline", "preferences", "instruction_difficulty")


class Judge(NamedTuple):
    """What candidates are judged by.

    Args:
        check: raises DataError where a record's fields, whatever its candidates, are not what the judge needs.
        verdicts: of a record's candidates, by a rule or by the record's own fields: what a function of the user's
            gives in its place.
        value: from a record's fields and a verdict to what best-of-N counts, in [0, 1].
        written: the field that verdicts are read from, where there is no rule: candidates that are yet to be written
            have none.
    """

    check: Callable[[Mapping[str, Any]], None]
    verdicts: Callable[[Candidates], Sequence[bool | float]]
    value: Callable[[Mapping[str, Any], bool | float], float]
    written: str | None = None


def judge_candidates(judge: str, item: Candidates, own: Own | None = None) -> Float[np.ndarray, "M"]:
    """Return what each candidate of a record is worth, in [0, 1].

    Args:
        judge: a key of JUDGES.
        own: whose verdicts count in the place of the judge's rule.

    Raises:
        DataError: naming the field that is missing, or what is wrong with it.
        CromeError: where `own` fails, or its verdicts do not fit the candidates.
    """
    by = JUDGES[judge]
    by.check(item.facts)
    verdicts = by.verdicts(item) if own is None else _own_verdicts(own, item)
    return np.array([by.value(item.facts, verdict) for verdict in verdicts], np.float64)


def fingerprint_verdicts(items: Sequence[Candidates], values: Sequence[Float[np.ndarray, "M"]]) -> str:
    """Return the SHA-256 of what candidates were found to be worth, and of the fields that judges read.

    Best-of-N figures of the same candidates compare where these are the same, whoever judged.

    Args:
        values: of each record, as judge_candidates gives them.
    """
    told = [
        [value.tolist(), {name: item.facts[name] for name in _JUDGED_BY if name in item.facts}]
        for item, value in zip(items, values, strict=True)
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode("ascii")).hexdigest()


def load_judge(text: str) -> Own:
    """Load a judge of the user's: FILE.py:FUNCTION. The file is run.

    Raises:
        CromeError: where there is no such file or function, or the file fails.
    """
    file, _, name = text.rpartition(":")
    if not file or not Path(file).is_file():
        raise CromeError(f"{text}: is no FILE.py:FUNCTION, or there is no such file; --judge-by names one")
    spec = importlib.util.spec_from_file_location("judge_of_the_user", file)
    if spec is None or spec.loader is None:
        raise CromeError(f"{file}: is no Python file; --judge-by takes FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:  # Whatever the user's file does.
        raise CromeError(f"{file}: cannot be run ({type(e).__name__}: {e}); mend it") from e
    found = getattr(module, name, None)
    if not callable(found):
        raise CromeError(f"{file}: has no function {name!r}; --judge-by takes FILE.py:FUNCTION")
    return found


def _own_verdicts(own: Own, item: Candidates) -> Sequence[bool | float]:
    name = getattr(own, "__name__", "judge")
    try:
        verdicts = list(own(dict(item.raw), list(item.texts)))
    except Exception as e:
        raise CromeError(f"--judge-by {name}: fails on record {item.id!r} ({type(e).__name__}: {e}); mend it") from e
    if len(verdicts) != len(item.texts) or not all(map(_is_share, verdicts)):
        raise CromeError(
            f"--judge-by {name}: gives no list of {len(item.texts)} booleans or numbers from 0 to 1 for record "
            f"{item.id!r}, one for each candidate; mend it"
        )
    return verdicts


def _is_share(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.bool_ | np.number) and 0 <= value <= 1 and math.isfinite(value)


def _check_exact(facts: Mapping[str, Any]) -> None:
    if extract_number(_answer(facts)) is None:
        raise DataError("is missing or holds no number", field="answer")


def _answer(facts: Mapping[str, Any]) -> str:
    answer = facts.get("answer")
    number = isinstance(answer, int | float) and not isinstance(answer, bool)
    return str(answer) if number else answer if isinstance(answer, str) else ""


def _check_refusal(facts: Mapping[str, Any]) -> None:
    if not isinstance(facts.get("harmful"), bool):
        raise DataError("is not true or false", field="harmful")


def _refusals(item: Candidates) -> Sequence[bool]:
    given = item.facts.get("refused")
    if given is None:
        return [refuses(text) for text in item.texts]
    if not _one_each(given, item) or not all(isinstance(verdict, bool) for verdict in given):
        problem = f"is no list of {len(item.texts)} booleans, one for each candidate"
        raise DataError(problem, field="refused")
    return given


def _check_preference(facts: Mapping[str, Any]) -> None:
    if not isinstance(facts.get("baseline"), str):
        raise DataError("is missing: the baseline's output, whose length is controlled for", field="baseline")
    difficulty = facts.get(DIFFICULTY)
    number = isinstance(difficulty, int | float) and not isinstance(difficulty, bool) and math.isfinite(difficulty)
    if difficulty is not None and not number:
        raise DataError(f"is {difficulty!r}, no number", field=DIFFICULTY)


def _preferences(item: Candidates) -> Sequence[float]:
    given = item.facts.get("preferences")
    if not _one_each(given, item) or not all(_is_share(p) and not isinstance(p, bool) for p in given):
        problem = f"is no list of {len(item.texts)} numbers from 0 to 1, one for each candidate"
        raise DataError(problem, field="preferences")
    return given


def _one_each(given: Any, item: Candidates) -> bool:
    return isinstance(given, list) and len(given) == len(item.texts)


JUDGES = {
    "exact": Judge(
        _check_exact,
        lambda item: [exact_match(text, _answer(item.facts)) for text in item.texts],
        lambda facts, right: float(right),
    ),
    "refusal": Judge(_check_refusal, _refusals, lambda facts, refused: refusal_value(bool(refused), facts["harmful"])),
    "preference": Judge(_check_preference, _preferences, lambda facts, better: float(better), written="preferences"),
}
"""Name, as --judge takes it, to judge: GSM8K's final number against `answer`; WildGuardTest's refusal, told by how an
answer begins or by `refused`, against `harmful`; AlpacaEval 2's `preferences` over `baseline`."""
