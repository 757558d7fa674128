"""What a card says of an oracle: who it is, what went over the wire, what it cost."""

from collections.abc import Mapping
from typing import Any


def oracle_facts(oracle: Any) -> dict[str, Any]:
    """Return facts of the whole run as plain JSON types; of an oracle that is no model, its name alone."""
    facts = process_facts(oracle)
    return {**facts, **spent_facts(oracle.budget.spent(), oracle.settings)} if hasattr(oracle, "traffic") else facts


def process_facts(oracle: Any) -> dict[str, Any]:
    """Return the same of what this process did since it began."""
    facts: dict[str, Any] = {"oracle": oracle.name, **getattr(oracle, "provenance", {})}
    if not hasattr(oracle, "traffic"):
        return facts
    traffic = oracle.traffic
    return {
        **facts,
        "replies kept from before": traffic.kept,
        "malformed replies": dict(sorted(traffic.malformed.items())),
        **spent_facts(traffic, oracle.settings),
    }


def spent_facts(spent: Any, settings: Any) -> dict[str, Any]:
    """Return facts about what was sent and spent: a `Spent`, or the `Traffic` of a process."""
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


def spent_since(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts with counts of what came between two looks at one oracle."""
    return {name: _difference(value, before.get(name)) for name, value in now.items()}


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


def _difference(now: Any, before: Any) -> Any:
    if isinstance(now, Mapping):
        changed = {name: _difference(value, (before or {}).get(name, 0)) for name, value in now.items()}
        return {name: value for name, value in changed.items() if value}
    return round(now - (before or 0), 6) if isinstance(now, int | float) else now
