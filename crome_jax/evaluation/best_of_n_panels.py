"""Best-of-N reports of several models side by side: one panel for each curve that a judge gives."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from crome_jax.evaluation.best_of_n_figures import CONTROLLED, LABELS, PARTS


class Panel(NamedTuple):
    """One rate against N.

    Args:
        title: of what the rate is, in words.
        curves: method to points of `n`, `value` and `interval`.
    """

    title: str
    curves: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def lines(self) -> list[tuple[int, list[Mapping[str, Any] | None]]]:
        """Every N, with the point of each method there, None where it has none."""
        points = [{point["n"]: point for point in curve} for curve in self.curves.values()]
        return [(n, [held.get(n) for held in points]) for n in sorted(set().union(*points))]


def best_of_n_panels(best_of_n: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Panel]:
    """Lay out reports as panels.

    Args:
        best_of_n: judge to method to its figures, as run_comparison.compare_runs gives them.
    """
    panels = []
    for judge, by_method in best_of_n.items():
        panels.append(Panel(LABELS[judge], {method: found["curve"] for method, found in by_method.items()}))
        for part, title in PARTS.items():
            held = {method: found[part]["curve"] for method, found in by_method.items() if part in found}
            panels.append(Panel(title, held))
        controlled = {
            # Older reports have no interval of these.
            method: [
                {"n": point["n"], "value": point["win_rate"], "interval": point.get("interval")}
                for point in found["length_controlled"]
            ]
            for method, found in by_method.items()
            if "length_controlled" in found
        }
        panels.append(Panel(CONTROLLED, controlled))
    return [panel for panel in panels if panel.curves]
