"""The files of a data card, beside the data: OUT.card.json and OUT.card.html."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crome_jax.errors import CromeError
from crome_jax.files import is_remote, place, read_json_object, whole_output
from crome_jax.groups import PreferenceGroup


def card_path(out: Path, suffix: str) -> Path:
    """Return where the card of a data set is, its figures ("json") or its page ("html")."""
    named = out.resolve() if not is_remote(out) and out.name in ("", "..") else out
    return named.with_name(f"{named.name}.card.{suffix}")


def check_card(out: Path) -> None:
    """Raise CromeError where the files of a card would replace something else."""
    figures, page = (card_path(out, suffix) for suffix in ("json", "html"))
    if figures.exists() or page.exists():
        try:
            ours = '"crome_jax": "data card"' in figures.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            ours = False
        if not ours:
            raise CromeError(f"{figures}: its place, or that of {page.name}, is taken by no data card; move it away")


@contextlib.contextmanager
def written_card(out: Path, figures: Mapping[str, Any], sample: Sequence[PreferenceGroup]) -> Iterator[None]:
    """Write the card of a data set, figures and page, which appear beside it when the block ends without an error.

    After an error what was there, the card of an earlier data set, is as it was before.
    """
    from crome_jax.evaluation.card_page import render_card

    with (
        whole_output(card_path(out, "json"), overwrite=True) as figures_file,
        whole_output(card_path(out, "html"), overwrite=True) as page_file,
    ):
        figures_file.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        page_file.write_text(render_card(figures, sample, out.name), encoding="utf-8")
        yield


def write_card(out: Path, figures: Mapping[str, Any], sample: Sequence[PreferenceGroup]) -> None:
    """Write the card of a data set beside it."""
    with written_card(out, figures, sample):
        pass


def read_making(data: str) -> dict[str, Any]:
    """Return how a data set was made, as its card says; nothing where there is no card, or none that says it.

    Raises:
        CromeError: where the card is damaged.
    """
    path = card_path(place(data), "json")
    if not path.is_file():
        return {}
    card = read_json_object(path, "augment again, or delete it")
    making = card.get("making", {}) if card.get("crome_jax") == "data card" else {}
    if not isinstance(making, dict):
        raise CromeError(f"{path}: damaged (making is {making!r}); augment again, or delete it")
    return making
