"""Groups, and an oracle over a fake endpoint that is asked about them."""

from crome_jax.augment import Account, augment_groups
from crome_jax.augment.oracles.base import Direction, Intervention
from crome_jax.augment.oracles.chat.oracle import ChatOracle
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.recipe import Recipe
from crome_jax.groups import Comparison, Message, build_group, to_json

KEY = "sk-proj-THE-SECRET-0123456789"
RECIPE = Recipe(rubrics_per_prompt=3, chain_steps=2, judge=True, paraphrase_per_pair=1)

TOPICS = ("whales sing", "bread rises", "stars shine", "glaciers move", "clocks tick", "bridges hold", "rivers bend")
GROUPS = [
    build_group(
        id=f"g{k}",
        prompt=f"How do {TOPICS[k % len(TOPICS)]}, question {k}?",
        responses=[f"The good answer number {k} is this one.", f"The bad answer number {k} is that one."],
        comparisons=[Comparison(0, 1)],
    )
    for k in range(14)
]


def settings(endpoint, tmp_path=None, **how):
    given = {"backoff_s": 0.01, "longest_wait_s": 0.05, "timeout_s": 5.0, "attempts": 40, "concurrency": 16, **how}
    cache = None if tmp_path is None else str(tmp_path / "cache")
    return ChatSettings("model-x", endpoint.url, cache=cache, **given)


def augment(chosen, groups=GROUPS, recipe=RECIPE, completer=None):
    account = Account()
    with ChatOracle(chosen, *([completer] if completer else [])) as oracle:
        out = list(augment_groups(groups, oracle=oracle, recipe=recipe, account=account))
    return [to_json(group) for group in out], account, oracle


def intervention(text="The tide turns twice a day.", **fields):
    prompt = (Message("user", "When does the tide turn?"),)
    return Intervention(Direction.DEGRADE, "accuracy", prompt, text, **fields)


def ask(endpoint, requests, tmp_path=None, **how):
    """Submit requests to an oracle; return its replies and what became of them."""
    with ChatOracle(settings(endpoint, tmp_path, **how)) as oracle:
        futures = [oracle.submit(request) for request in requests]
        return [future.result() for future in futures], oracle
