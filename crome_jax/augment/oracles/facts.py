"""What a card says of an oracle: who it is, what went over the wire, what it cost."""

from collections.abc import Mapping
from typing import Any


def oracle_facts(oracle: Any) -> dict[str, Any]:
    """Return facts of the whole run as plain JSON types; of an oracle that is no model, its name alone."""
    if not hasattr(oracle, "traffic"):
        return traffic_facts(oracle, None)
    return {**traffic_facts(oracle, oracle.traffic), **spent_facts(oracle.budget.spent(), oracle.settings)}


def traffic_facts(oracle: Any, traffic: Any) -> dict[str, Any]:
    """Return the same of a `Traffic`: that of this process, or of a part of its work."""
    facts: dict[str, Any] = {"oracle": oracle.name, **getattr(oracle, "provenance", {})}
    if not hasattr(oracle, "traffic"):
        return facts
    return {
        **facts,
        "requests in all": traffic.asked,
        "requests without a reply": dict(sorted(traffic.unanswered.items())),
        "replies kept from before": traffic.kept,
        "malformed replies": dict(sorted(traffic.malformed.items())),
        **spent_facts(traffic, oracle.settings),
    }


def spent_facts(spent: Any, settings: Any) -> dict[str, Any]:
    """Return facts about what was sent and spent: a `Spent`, or a `Traffic`."""
    dollars = settings.cost(spent.prompt_tokens, spent.reply_tokens)
    return {
        "requests sent": spent.sent,
        "replies": spent.answered,
        "attempts that failed": dict(sorted(spent.failed.items())),
        "tokens of prompts": spent.prompt_tokens,
        "tokens of replies": spent.reply_tokens,
        "tokens": spent.prompt_tokens + spent.reply_tokens,
        **({} if dollars is None else {"dollars": round(dollars, 6)}),
    }


def add_facts(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add counts to counts, in place; names stay."""
    for name, value in more.items():
        if isinstance(value, Mapping):
            inner = total.setdefault(name, {})
            add_facts(inner, value)
        elif isinstance(value, int | float):
            total[name] = round(total.get(name, 0) + value, 6)
        else:
            total[name] = value
