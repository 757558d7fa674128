"""OUT.card.json, beside scored records: by which model and chat template, of which input, and how many were cut."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from crome_jax.augment.card_files import card_path
from crome_jax.evaluation.report import plain_json
from crome_jax.evaluation.reward_models import Measured
from crome_jax.files import check_absent, check_no_folder, sha256_of, whole_output


class HashedStream:
    """A stream of lines that is hashed as it is read."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._digest = hashlib.sha256()

    def readline(self, size: int = -1) -> bytes:
        """Return the next line, or so many bytes of it."""
        line = self._stream.readline(size)
        self._digest.update(line)
        return line

    @property
    def sha256(self) -> str:
        """Of what was read."""
        return self._digest.hexdigest()


def input_sha256(path: Path) -> dict[str, str | None]:
    """Return the SHA-256 of an input: file, or every file of a folder, to its sum.

    A pipe, which cannot be read twice, has None; what cannot be read is left to who reads it to say why.
    """
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return {str(file): sha256_of(file) if file.is_file() else None for file in files}
    except OSError:
        return {}


def score_card(
    models: Sequence[Measured],
    *,
    ensemble: str | None,
    split: str | None,
    sums: Mapping[str, str | None],
    responses: int,
    cut: int,
    bad: int,
) -> dict[str, Any]:
    """Return what is told of scored records, as plain JSON.

    Args:
        models: that scored them.
        ensemble: how their rewards were combined.
        split: of the input, that was read.
        sums: the input's files with their SHA-256.
        responses, cut: how many were scored, and cut to fit a row.
        bad: records that were set aside.
    """
    return plain_json(
        {
            "crome_jax": "score card",
            "models": [
                {
                    "name": model.name,
                    **model.facts,
                    "key": model.key,
                    "row tokens": model.model.shape.tokens,
                    "chat template": model.model.tokenizer.chat_template,
                }
                for model in models
            ],
            "ensemble": ensemble,
            "input sha256": sums,
            "split": split,
            "responses": responses,
            "responses cut": cut,
            "bad records set aside": bad,
        }
    )


@contextlib.contextmanager
def score_card_output(out: Path, *, overwrite: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield what writes the card of an output; it appears when the block ends well, in which the output itself does.

    Raises:
        CromeError: where the output or the card exists and `overwrite` is false, one of them is a folder, or it cannot
            be written.
    """
    for file in (out, card_path(out, "json")):  # Before anything is scored.
        check_no_folder(file)
    check_absent(out, overwrite)  # Before the card, whose name the user never gave.
    with whole_output(card_path(out, "json"), overwrite=overwrite) as partial:
        yield lambda card: partial.write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
