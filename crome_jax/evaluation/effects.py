"""The causal effect of an attribute on reward, from rewrites: RATE (Reber et al. 2024, arXiv 2410.11348, algorithm 1).

Of a response y that has the attribute (W = 1), y0 = Re(y, 0) is y rewritten without it and y01 = Re(y0, 1) that with it
again; of one that has not, y1 = Re(y, 1) and y10 = Re(y1, 0). A rewriter changes more than it is asked to; rewritten
twice, both sides have been through it, and what it does besides cancels:

    single rewrite   ATT = mean R(y) - R(y0)     ATU = mean R(y1) - R(y)
    double (RATE)    ATT = mean R(y01) - R(y0)   ATU = mean R(y1) - R(y10)
    ATE = (n1 ATT + n0 ATU) / (n1 + n0), n1 responses with the attribute and n0 without.

It cancels where the second rewrite is written anew. One that gives the original back makes of the double rewrite the
single one again; how many do is reported.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
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
        restored: whether the text of `twice` is that of `original`.
    """

    prompt: int
    treated: bool
    original: float
    once: float
    twice: float | None
    restored: bool = False


def measure_effect(rows: Sequence[RewriteRewards], bootstrap: Bootstrap) -> dict[str, Any]:
    """Estimate an attribute's effect on reward.

    Returns:
        `single` and `double`, each with `ate`, `att`, `atu` (nats) and their `interval`s as `ate_interval`, ...;
        `treated` and `untreated` responses of the double estimate, and how many of them have the original as second
        rewrite (`restored`); `responses` rewritten at all. None where there are no responses, or too few prompts for an
        interval.
    """
    double = [row for row in rows if row.twice is not None]
    return {
        "single": _estimate(rows, [_single(row) for row in rows], bootstrap),
        "double": _estimate(double, [_double(row) for row in double], bootstrap),
        "treated": sum(row.treated for row in double),
        "untreated": sum(not row.treated for row in double),
        "restored": sum(row.restored for row in double),
        "responses": len(rows),
    }


def effects_by_rewrite(rows: Sequence[RewriteRewards], texts: Sequence[Sequence[str | None]]) -> dict[str, Any]:
    """Return the effects that the mean by double rewrite is of: what compare_effects pairs.

    Args:
        rows: of one attribute.
        texts: of each what was rewritten, and its rewrites.

    Returns:
        `sha256` of the texts; of each double rewrite `prompts`, a number for its prompt, and `values` (nats).
    """
    double = [(row, text) for row, text in zip(rows, texts, strict=True) if row.twice is not None]
    return {
        "sha256": hashlib.sha256(json.dumps([text for _, text in double]).encode("ascii")).hexdigest(),
        "prompts": [row.prompt for row, _ in double],
        "values": [_double(row) for row, _ in double],
    }


def compare_effects(
    left: Mapping[str, Mapping[str, Any]], right: Mapping[str, Mapping[str, Any]], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Compare two models' effects (ATE by double rewrite) on the same rewrites.

    Args:
        left, right: the `effects` of either's diagnosis.

    Returns:
        Of each attribute that both measured on the same rewrites `kind`, `attribute`, `difference` (left less right,
        nats), its `interval` and `p` (bootstrap over prompts, two-sided), both None where one prompt leaves them
        unknown, and the number of `responses`.
    """
    found = []
    for kind, by_name in right.items():
        for name, effect in by_name.items():
            sides = [one.get("by_rewrite") for one in (left.get(kind, {}).get(name, {}), effect)]
            if None in sides or sides[0]["sha256"] != sides[1]["sha256"] or not sides[0]["values"]:
                continue
            ours, theirs = (np.array(side["values"], np.float64) for side in sides)
            prompts = np.array(sides[0]["prompts"], np.int64)
            difference, interval = bootstrap.paired_difference(ours, theirs, prompts)
            found.append(
                {
                    "kind": kind,
                    "attribute": name,
                    "difference": difference,
                    "interval": None if interval is None else list(interval),
                    "p": bootstrap.paired_chance(ours, theirs, prompts),
                    "responses": len(ours),
                }
            )
    return found


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
