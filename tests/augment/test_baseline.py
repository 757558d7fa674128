"""What a real reward model is sure of goes, chunk by chunk, and the account is of what is left."""

import collections
import dataclasses

import jax
import numpy as np
from toy import CFG, ONE, WordTokenizer, host_params, mesh_of, text_groups

from crome_jax.augment import baseline
from crome_jax.augment.account import Account
from crome_jax.augment.baseline import keep_unsure
from crome_jax.augment.permutations import add_permutations
from crome_jax.data.packing import RowShape
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.groups import Comparison, Kind, Message, Origin
from crome_jax.models.weights import declare
from crome_jax.training.mesh import weight_shardings


def model():
    mesh = mesh_of(*ONE)
    params = jax.tree.map(jax.device_put, host_params("all"), weight_shardings(declare(CFG), mesh))
    return RewardModel(params, CFG, WordTokenizer(), RowShape(64, 8, 8), mesh)


def augmented():
    """Give every group a human comparison of its first two responses, and causal ones of these with each other one."""
    for group in text_groups(9):
        responses = [
            dataclasses.replace(r, origin=Origin.DEGRADED, parent=0) if k > 1 else r
            for k, r in enumerate(group.responses)
        ]
        causal = [Comparison(0, k, kind=Kind.CAUSAL, attribute="clarity") for k in range(1, len(responses))]
        human = [Comparison(0, 1)] if len(responses) > 1 else []
        yield dataclasses.replace(group, responses=tuple(responses), comparisons=(*human, *causal))


def test_only_pairs_that_the_model_is_unsure_of_or_wrong_about_are_left(monkeypatch):
    monkeypatch.setattr(baseline, "CHUNK", 4)
    groups = list(augmented())
    account = Account()

    def counted():
        for group in groups:
            account.add_group(group)
            yield group

    out = list(keep_unsure(counted(), model(), account=account, unsure=0.3))
    rewards = score_groups(model(), groups).rewards
    wanted = dropped = 0
    for group, reward, left in zip(groups, rewards, out, strict=True):
        keep = [
            c
            for c in group.comparisons
            if c.kind is Kind.HUMAN or 1 / (1 + np.exp(reward[c.right] - reward[c.left])) <= 0.7
        ]
        texts = [(group.responses[c.left].text, group.responses[c.right].text) for c in keep]
        assert texts == [(left.responses[c.left].text, left.responses[c.right].text) for c in left.comparisons]
        wanted += len(keep)
        dropped += len(group.comparisons) - len(keep)
    assert dropped > 0
    assert account.dropped.total() == dropped
    assert account.comparisons.total() == wanted
    assert account.groups == len(groups)
    kinds = collections.Counter(c.kind.name.lower() for group in out for c in group.comparisons)
    assert +account.comparisons == kinds


def test_rrm_s_pairs_are_made_and_filtered_in_one_go_and_what_is_dropped_is_counted():
    plain = [dataclasses.replace(group, comparisons=group.comparisons[:1]) for group in text_groups(9)]
    account = Account()

    def made():
        for group in add_permutations(plain, account=account):
            account.add_group(group)
            yield group

    out = list(keep_unsure(made(), model(), account=account, unsure=0.2, kinds=()))
    for old, new in zip(plain, out, strict=True):
        assert new.comparisons[:1] == old.comparisons
    left = collections.Counter(
        {Kind.CAUSAL: "contextual", Kind.NEUTRAL: "non-contextual"}[c.kind] for g in out for c in g.comparisons[1:]
    )
    dropped = {what: account.dropped["baseline", what, "the baseline is sure of it"] for what in account.permuted}
    assert min(dropped.values()) > 0
    assert {what: left[what] + dropped[what] for what in dropped} == dict(account.permuted)
    assert account.comparisons.total() == sum(len(group.comparisons) for group in out)


def test_a_prompt_too_long_for_the_baseline_keeps_its_group_whole():
    groups = list(augmented())
    long = (Message("user", "word " * 200),)
    groups[3] = dataclasses.replace(groups[3], prompt=long)
    account = Account()
    out = list(keep_unsure(groups, model(), account=account))
    assert out[3] == groups[3]
    assert account.short["verdict of the baseline"] == 1
