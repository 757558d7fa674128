"""The page of a data card: its figures, and pairs to read, as one HTML file that needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from crome_jax.evaluation.counterfactuals import sample_counterfactuals
from crome_jax.groups import PreferenceGroup

PAIRS = 60

_TITLES = {
    "comparisons": "Comparisons by kind and attribute",
    "responses": "Responses by origin",
    "recipes": "Responses by further recipe",
    "preferred_is_longer": "How often the preferred answer is the longer one",
    "made": "Rewrites made",
    "dropped": "Dropped, by reason",
    "wanted_and_not_made": "Wanted and not made",
}


def render_card(figures: Mapping[str, Any], sample: Sequence[PreferenceGroup], name: str) -> str:
    """Return card.html's text; whatever comes from the data or the oracle is escaped.

    Args:
        figures: what `Card.figures` gives.
        sample: groups to draw pairs from.
        name: of the data set.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = lambda key: key.replace("_", " ")
    tables = [(title, figures[key]) for key, title in _TITLES.items() if figures[key]]
    pairs = sample_counterfactuals(sample, {}, pairs=PAIRS) if sample else []
    return environment.get_template("card.html.jinja").render(
        name=name,
        groups=figures["groups"],
        tables=tables,
        drift=figures["drift"],
        note=_note(figures["rows_by_attribute"]),
        oracle=figures["oracle"],
        making=figures["making"],
        pairs=pairs,
    )


def _note(rows: Mapping[str, Any]) -> str:
    shown = f"Of rows by attribute the {rows['most_shown']} most frequent are shown, and the others as one."
    share = rows["of_share_of_groups"]
    return shown if share == 1 else f"{shown} They are of one group in {round(1 / share)}: there are too many names."
