"""The causal effect of an attribute on reward, from rewrites: RATE (Reber et al. 2024, arXiv 2410.11348, algorithm 1).

Of a response y that has the attribute (W = 1), y0 = Re(y, 0) is y rewritten without it and y01 = Re(y0, 1) that with it
again; of one that has not, y1 = Re(y, 1) and y10 = Re(y1, 0). A rewriter changes more than it is asked to; rewritten
twice, both sides have been through it, and what it does besides cancels:

    single rewrite   ATT = mean R(y) - R(y0)     ATU = mean R(y1) - R(y)
    double (RATE)    ATT = mean R(y01) - R(y0)   ATU = mean R(y1) - R(y10)
    ATE = (n1 ATT + n0 ATU) / (n1 + n0), n1 responses with the attribute and n0 without.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from crome_jax.evaluation.bootstrap import Bootstrap


@dataclasses.dataclass(frozen=True)
class RewriteRewards:
    """The rewards of a response and of its rewrites along one attribute.

    Args:
        prompt: number of its prompt, the unit that intervals draw.
        treated: whether the response has the attribute.
        original, once, twice: rewards (nats) of the response, of its rewrite to the other value, and of that one's
            rewrite back; `twice` is None where the rewriter declined to go back.
    """

    prompt: int
    treated: bool
    original: float
    once: float
    twice: float | None


def measure_effect(rows: Sequence[RewriteRewards], bootstrap: Bootstrap) -> dict[str, Any]:
    """Estimate an attribute's effect on reward.

    Returns:
        `single` and `double`, each with `ate`, `att`, `atu` (nats) and their `interval`s as `ate_interval`, ...;
        `treated` and `untreated` responses of the double estimate; `responses` rewritten at all. None where there are
        no responses, or too few prompts for an interval.
    """
    double = [row for row in rows if row.twice is not None]
    return {
        "single": _estimate(rows, [_single(row) for row in rows], bootstrap),
        "double": _estimate(double, [_double(row) for row in double], bootstrap),
        "treated": sum(row.treated for row in double),
        "untreated": sum(not row.treated for row in double),
        "responses": len(rows),
    }


def _single(row: RewriteRewards) -> float:
    return row.original - row.once if row.treated else row.once - row.original


def _double(row: RewriteRewards) -> float:
    return row.twice - row.once if row.treated else row.once - row.twice


def _estimate(rows: Sequence[RewriteRewards], effects: Sequence[float], bootstrap: Bootstrap) -> dict[str, Any]:
    effect, prompt = np.array(effects, np.float64), np.array([row.prompt for row in rows], np.int64)
    treated = np.array([row.treated for row in rows], bool)
    found: dict[str, Any] = {}
    # The mean over all responses is the ATE: each side counts by its number.
    for name, kept in (("ate", np.ones(len(rows), bool)), ("att", treated), ("atu", ~treated)):
        interval = bootstrap.mean_interval(effect[kept], prompt[kept]) if kept.any() else None
        found[name] = float(effect[kept].mean()) if kept.any() else None
        found[f"{name}_interval"] = list(interval) if interval else None
    return found


def compare_kinds(causal: Sequence[dict[str, Any]], spurious: Sequence[dict[str, Any]], scale: float) -> dict[str, Any]:
    """Set the sensitivity along causal attributes against the leakage along spurious ones.

    Args:
        causal, spurious: what measure_effect gives of each attribute.
        scale: what effects are divided by (nats): the spread of reward differences between responses of one prompt, so
            that models whose rewards are spread otherwise compare.

    Returns:
        `sensitivity`, the mean ATE over causal attributes, and `leakage`, the mean |ATE| over spurious ones, both by
        double rewrite and in units of `scale`; `selectivity` = sensitivity / (sensitivity + leakage), where causal
        effects that point the wrong way count as none. None where there is no attribute of a kind.
    """
    held = [[e["double"]["ate"] for e in effects if e["double"]["ate"] is not None] for effects in (causal, spurious)]
    if scale <= 0:
        return {"scale": scale, "sensitivity": None, "leakage": None, "selectivity": None}
    sensitivity = float(np.mean(held[0])) / scale if held[0] else None
    leakage = float(np.mean(np.abs(held[1]))) / scale if held[1] else None
    selectivity = None
    if sensitivity is not None and leakage is not None:
        total = max(sensitivity, 0.0) + leakage
        selectivity = max(sensitivity, 0.0) / total if total else None
    return {"scale": scale, "sensitivity": sensitivity, "leakage": leakage, "selectivity": selectivity}
