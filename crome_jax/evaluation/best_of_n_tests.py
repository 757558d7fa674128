"""Whether what two models pick from the same candidates differs in worth: paired by prompt, for every N and rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from crome_jax.evaluation.best_of_n import best_of_n
from crome_jax.evaluation.best_of_n_figures import CONTROLLED, LABELS, PARTS
from crome_jax.evaluation.bootstrap import Bootstrap, chance
from crome_jax.evaluation.candidates import Candidates
from crome_jax.evaluation.distinct import number_prompts

HARMFUL = {"attack_success": True, "over_refusal": False}
"""Of refusal, rate to whether it is of harmful prompts: the share of them that are not handled as they should be."""


def picks_by_prompt(
    items: Sequence[Candidates],
    rewards: Sequence[Float[np.ndarray, "M"]],
    values: Sequence[Float[np.ndarray, "M"]],
    sizes: Sequence[int],
) -> dict[str, Any]:
    """Return what a model picks of each prompt is worth, for each N: what compare_picks pairs.

    Args:
        items, rewards, values: as of best_of_n_figures.
        sizes: the N.

    Returns:
        `n`, the sizes; of each record `values`, one for each size, `prompts`, a number for its prompt, and `harmful`,
        None where a record does not say.
    """
    worth = [[best_of_n(r, v, n) for n in sizes] for r, v in zip(rewards, values, strict=True)]
    harmful = [item.facts.get("harmful") for item in items]
    prompts = number_prompts([item.to_group() for item in items])
    return {"n": list(sizes), "values": worth, "prompts": prompts.tolist(), "harmful": harmful}


def compare_picks(left: Mapping[str, Any], right: Mapping[str, Any], bootstrap: Bootstrap) -> dict[str, Any]:
    """Compare two models on the same candidates, judged alike.

    Args:
        left, right: the figures of either's report.

    Returns:
        `curve`, of refusal the two of HARMFUL, and of preference `length_controlled`: of each N that both have `n`,
        `difference` (left less right), its `interval` and `p` (bootstrap over prompts, two-sided), both None where one
        prompt leaves them unknown, and the number of `prompts`. Nothing where a report does not say what it picked, or
        they are of other candidates or verdicts.
    """
    sides = [figures.get("by_prompt") for figures in (left, right)]
    facts = [[figures["facts"].get(name) for name in ("sha256", "verdicts sha256")] for figures in (left, right)]
    if None in sides or facts[0] != facts[1] or None in facts[0]:
        return {}
    ours, theirs = sides
    whole = np.arange(len(ours["prompts"]))
    rates = {"curve": (whole, 1.0)}
    if left["judge"] == "refusal":
        is_harmful = np.array(ours["harmful"], bool)
        rates |= {name: (np.flatnonzero(is_harmful == harmful), -1.0) for name, harmful in HARMFUL.items()}
    values = [np.array(side["values"], np.float64).reshape(len(whole), -1) for side in sides]
    prompts = np.array(ours["prompts"], np.int64)
    places = [(n, ours["n"].index(n), theirs["n"].index(n)) for n in ours["n"] if n in theirs["n"]]
    tests = {
        name: [
            {"n": n, **_test(sign * values[0][at, i], sign * values[1][at, j], prompts[at], bootstrap)}
            for n, i, j in places
        ]
        for name, (at, sign) in rates.items()
        if len(at)
    }
    controlled = _compare_controlled(left, right, len(np.unique(prompts)), bootstrap)
    return tests | ({"length_controlled": controlled} if controlled else {})


def _compare_controlled(
    left: Mapping[str, Any], right: Mapping[str, Any], prompts: int, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Pair what was fitted again to the same sets of prompts; reports of before these were kept have none."""
    ours, theirs = ({p["n"]: p for p in one.get("length_controlled", ()) if "drawn" in p} for one in (left, right))
    found = []
    for n in [n for n in ours if n in theirs and ours[n]["drawn"]["seed"] == theirs[n]["drawn"]["seed"]]:
        difference = ours[n]["win_rate"] - theirs[n]["win_rate"]
        sets = zip(ours[n]["drawn"]["win_rates"], theirs[n]["drawn"]["win_rates"], strict=False)
        drawn = np.array([one - other for one, other in sets])
        interval = list(bootstrap.bounds(drawn)) if len(drawn) else None
        p = chance(drawn, difference) if len(drawn) else None
        found.append({"n": n, "difference": difference, "interval": interval, "p": p, "prompts": prompts})
    return found


def shown_tests(tests: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return title of the rate, method and test, of every comparison.

    Args:
        tests: judge to method to what compare_picks gives.
    """
    titles = {**PARTS, "length_controlled": CONTROLLED}
    return [
        (LABELS[judge] if rate == "curve" else titles[rate], method, test)
        for judge, by_method in tests.items()
        for rate in ("curve", *titles)
        for method, by_rate in by_method.items()
        for test in by_rate.get(rate, ())
    ]


def _test(left: np.ndarray, right: np.ndarray, prompts: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    difference, interval = bootstrap.paired_difference(left, right, prompts)
    return {
        "difference": difference,
        "interval": None if interval is None else list(interval),
        "p": bootstrap.paired_chance(left, right, prompts),
        "prompts": len(np.unique(prompts)),
    }
