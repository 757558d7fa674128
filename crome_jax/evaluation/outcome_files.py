"""Every comparison of an evaluation with its rewards, on disk: what a comparison of several evaluations reads."""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.leads import sides
from crome_jax.files import gzipped, whole_output
from crome_jax.groups import PreferenceGroup, prompt_text

OUTCOMES = "outcomes.jsonl.gz"
_FIELDS = {
    *("data", "group", "category", "prompt", "chosen", "rejected", "prompt_sha256", "texts_sha256", "rewards"),
}
_AGAIN = "run `crome evaluate` again"
CHARACTERS = 1500
"""Of a text, as many are kept: enough to see what two models disagree about."""


def write_outcomes(
    folder: Path,
    evaluations: Mapping[str, Mapping[str, tuple[Sequence[PreferenceGroup], Sequence[np.ndarray]]]],
    cut: Mapping[str, Mapping[str, Sequence[np.ndarray]]],
) -> Path:
    """Write OUTCOMES into a folder, in place of an older one: a line for each comparison that prefers one side.

    A line is `{data, group, comparison, category, prompt, chosen, rejected, prompt_sha256, texts_sha256, cut,
    rewards}`; `rewards` is method to those of the chosen and the rejected response (nats), of a pairwise model half of
    its log-odds to either; `cut` says whether a method saw one of the two cut to fit a row. Texts are cut to
    CHARACTERS; `prompt_sha256` is of the whole conversation, `texts_sha256` of that and both whole answers.

    Args:
        cut: method to data to one array [R] for each group: which responses were cut.

    Raises:
        CromeError: where it cannot be written.
    """
    path = folder / OUTCOMES
    splits = list(dict.fromkeys(split for by_split in evaluations.values() for split in by_split))
    with (
        whole_output(path, overwrite=True) as partial,
        gzipped(partial) as packed,
        io.TextIOWrapper(packed, "ascii") as out,
    ):
        for split in splits:
            held = {method: by_split[split] for method, by_split in evaluations.items() if split in by_split}
            for line in _lines(split, held, [cut[method][split] for method in held]):
                out.write(json.dumps(line) + "\n")
    return path


def read_outcomes(folder: Path) -> list[dict[str, Any]]:
    """Read what write_outcomes wrote.

    Raises:
        CromeError: where it is absent or damaged.
    """
    path = folder / OUTCOMES
    try:
        with path.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as lines:
            found = [json.loads(line) for line in lines]
    except FileNotFoundError:
        raise CromeError(f"{folder}: holds no {OUTCOMES}; give the folder (--out) of a `crome evaluate`") from None
    except (OSError, EOFError, ValueError) as e:
        raise DataError(f"is damaged ({e})", file=str(path), fix=_AGAIN) from None
    for number, line in enumerate(found, 1):
        lacking = _FIELDS - line.keys() if isinstance(line, dict) else _FIELDS
        if lacking:
            raise DataError(f"lacks {min(lacking)!r}", file=str(path), record=number, fix=_AGAIN)
    return found


def _lines(
    split: str,
    held: Mapping[str, tuple[Sequence[PreferenceGroup], Sequence[np.ndarray]]],
    cut: Sequence[Sequence[np.ndarray]],
) -> Iterator[dict[str, Any]]:
    groups = next(iter(held.values()))[0]
    for g, group in enumerate(groups):
        prompt = [[message.role, message.content] for message in group.prompt]
        for c, comparison in enumerate(group.comparisons):
            if comparison.target == 0.5:
                continue
            better, worse = comparison.left, comparison.right
            if comparison.target < 0.5:
                better, worse = worse, better
            category = group.metadata.get("category")
            yield {
                "data": split,
                "group": group.id,
                "comparison": c,
                "category": None if category is None else str(category),
                "prompt": prompt_text(group.prompt)[:CHARACTERS],
                "chosen": group.responses[better].text[:CHARACTERS],
                "rejected": group.responses[worse].text[:CHARACTERS],
                "prompt_sha256": _digest(prompt),
                "texts_sha256": _digest(prompt, group.responses[better].text, group.responses[worse].text),
                "cut": any(bool(flags[g][better] or flags[g][worse]) for flags in cut),
                "rewards": {method: list(sides(rewards[g], better, worse)) for method, (_, rewards) in held.items()},
            }


def _digest(*texts: Any) -> str:
    return hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()
