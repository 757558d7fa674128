"""Effects on reward: worked out by hand, and what RATE promises of a rewriter that changes more than it should."""

import dataclasses
import re

import numpy as np
import pytest
from browser import look
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.augment.oracles import OfflineEditor
from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.editor import ATTRIBUTES as CAUSAL_ATTRIBUTES
from crome_jax.data.datasets.causal_testbed import CausalTestbedConfig, generate_groups
from crome_jax.errors import CromeError
from crome_jax.evaluation.accuracy import pairwise_outcomes
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.calibration import fit_scale
from crome_jax.evaluation.diagnosis import diagnose, worst_stratum
from crome_jax.evaluation.diagnosis_page import render_diagnosis
from crome_jax.evaluation.effects import RewriteRewards, compare_effects, compare_kinds, measure_effect
from crome_jax.evaluation.length_control import measure_length_control
from crome_jax.evaluation.rewrites import causal_rewrites, count_pairs, pairs_to_rewrite
from crome_jax.evaluation.strata import word_count
from crome_jax.evaluation.style_attributes import ATTRIBUTES, rewrite
from crome_jax.groups import Comparison, PreferenceGroup, Response, build_group
from crome_jax.verbs.diagnose import draw_prompts

BOOTSTRAP = Bootstrap(resamples=50)


def test_effects_by_hand():
    # Treated: single 3 - 1 = 2, double 2.5 - 1 = 1.5; single 1 - 0 = 1, no way back.
    # Untreated: single 4 - 1 = 3, double 4 - 2 = 2.
    rows = [
        RewriteRewards(0, True, 3.0, 1.0, 2.5, restored=True),
        RewriteRewards(1, True, 1.0, 0.0, None),
        RewriteRewards(2, False, 1.0, 4.0, 2.0),
    ]
    found = measure_effect(rows, BOOTSTRAP)
    assert found["single"]["att"] == 1.5
    assert found["single"]["atu"] == 3
    assert found["single"]["ate"] == 2
    assert found["double"]["att"] == 1.5
    assert found["double"]["atu"] == 2
    assert found["double"]["ate"] == 1.75  # (1 * 1.5 + 1 * 2) / 2
    assert (found["treated"], found["untreated"], found["responses"], found["restored"]) == (1, 1, 3, 1)
    assert found["double"]["ate_interval"][0] >= 1.5
    assert found["double"]["att_interval"] is None  # One prompt tells no spread.


@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 99))
def test_two_rewrites_cancel_what_the_rewriter_does_besides(effect, besides, seed):
    # A response's reward is its quality, plus the effect of W, plus what the rewriter adds to whatever it writes.
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(20):
        quality, treated = rng.normal(), bool(rng.integers(2))
        reward = lambda has, written: quality + effect * has + besides * written  # noqa: E731, B023
        once, twice = reward(not treated, 1), reward(treated, 1)
        rows.append(RewriteRewards(group, treated, reward(treated, 0), once, twice))
    found = measure_effect(rows, BOOTSTRAP)
    assert found["double"]["ate"] == pytest.approx(effect, abs=1e-9)
    share = np.mean([row.treated for row in rows])
    assert found["single"]["ate"] == pytest.approx(effect + besides * (1 - 2 * share), abs=1e-9)


def test_sensitivity_against_leakage_by_hand():
    effect = lambda ate: {"double": {"ate": ate}}  # noqa: E731
    found = compare_kinds([effect(2.0), effect(1.0), effect(None)], [effect(-1.0), effect(0.0)], 2.0)
    assert found["sensitivity"] == 0.75
    assert found["leakage"] == 0.25
    assert found["selectivity"] == 0.75
    assert compare_kinds([effect(-1.0)], [effect(1.0)], 1.0)["selectivity"] == 0
    assert compare_kinds([], [effect(1.0)], 1.0)["selectivity"] is None


TEXTS = (
    "The capital is Paris. It lies on the Seine. Ask a map.",
    "Certainly! Here it is:\n\n- one\n- two\n\nLet me know if you need more.",
    "## Plan\n\nFirst **wait**, then go! \U0001f680",
    "x = 1\nif x != 2:\n    y = x\n```\ncode\n```",
)


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda a: a.name)
@pytest.mark.parametrize("text", TEXTS)
def test_a_rewrite_moves_its_attribute_and_back(attribute, text):
    found = rewrite(attribute, text)
    if found is None:
        return
    once, twice = found
    assert attribute.present(once) != attribute.present(text)
    assert once != text
    if twice is not None:
        assert attribute.present(twice) == attribute.present(text)


def test_every_attribute_can_be_put_on_a_plain_text_and_taken_off():
    plain = TEXTS[0]
    for attribute in ATTRIBUTES:
        once, twice = rewrite(attribute, plain)
        words = lambda text: [w.strip("*-.!# ").lower() for w in text.split() if w.strip("*-.!# ")]  # noqa: E731
        assert set(words(plain)) <= set(words(once))  # What the answer says is still there.
        assert set(words(twice)) <= set(words(once))


def length_group(number, longer, right):
    words = {True: "word " * 8, False: "word " * 4}
    texts = [f"{words[longer]}good {number}", f"{words[not longer]}poor {number}"]
    group = build_group(id=str(number), prompt=f"Why {number}?", responses=texts, comparisons=[Comparison(0, 1)])
    return group, right


def test_length_control_takes_out_a_reward_for_length_and_nothing_else():
    rng = np.random.default_rng(0)
    groups = [length_group(n, n % 4 > 0, True)[0] for n in range(80)]  # The longer is preferred three times in four.
    quality = [np.array([0.4, 0.0]) + 0.3 * rng.normal(size=2) for _ in groups]
    plain = pairwise_outcomes(groups, quality).decided()
    found = measure_length_control(groups, plain, BOOTSTRAP)
    assert found["accuracy"] == pytest.approx(plain.correct.mean(), abs=0.05)
    assert found["slope_interval"][0] < 0 < found["slope_interval"][1]
    longer = [np.array([np.log2(word_count(r.text)) for r in group.responses]) * 3 for group in groups]
    both = pairwise_outcomes(groups, [q + w for q, w in zip(quality, longer, strict=True)]).decided()
    assert both.correct.mean() == pytest.approx(0.75, abs=0.03)
    controlled = measure_length_control(groups, both, BOOTSTRAP)
    assert controlled["slope"] == pytest.approx(3, abs=0.3)
    assert controlled["accuracy"] == pytest.approx(found["accuracy"], abs=0.03)
    assert controlled["balanced"] == pytest.approx(0.5)  # All where the longer is preferred, none elsewhere.


def test_length_control_where_length_never_differs():
    group = build_group(id="a", prompt="Why?", responses=["one two", "three four"], comparisons=[Comparison(0, 1)])
    outcomes = pairwise_outcomes([group], [np.array([1.0, 0.0])]).decided()
    assert measure_length_control([group], outcomes, BOOTSTRAP)["accuracy"] is None


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_scale_of_a_calibrated_reward_is_found(scale):
    rng = np.random.default_rng(1)
    true = rng.normal(size=4000) * 2
    left = rng.random(4000) < 1 / (1 + np.exp(-true))
    groups = [
        build_group(
            id=str(n), prompt=f"{n}?", responses=["a", "b"], comparisons=[Comparison(*((0, 1) if won else (1, 0)))]
        )
        for n, won in enumerate(left)
    ]
    outcomes = pairwise_outcomes(groups, [np.array([d / scale, 0.0]) for d in true]).decided()
    assert fit_scale(outcomes) == pytest.approx(scale, rel=0.1)
    assert fit_scale(outcomes.select(np.flatnonzero(outcomes.difference > 0))) is None  # All right: no best scale.


GROUPS = list(generate_groups(CausalTestbedConfig(name="small", train=40), "train"))


def score_style(groups):
    """Reward words and bullets alone."""
    bullets = lambda text: bool(re.search(r"^- ", text, re.MULTILINE))  # noqa: E731
    return [np.array([0.01 * word_count(r.text) + 2.0 * bullets(r.text) for r in g.responses]) for g in groups]


@pytest.fixture(scope="module")
def diagnosis():
    oracle = OfflineEditor.of(GROUPS)
    return diagnose(GROUPS, score_style, oracle=oracle, attributes=tuple(CAUSAL_ATTRIBUTES), bootstrap=BOOTSTRAP)


def test_a_reward_for_style_shows_as_leakage(diagnosis):
    effects = diagnosis["effects"]
    assert effects["spurious"]["bullets"]["double"]["ate"] == pytest.approx(2, abs=0.2)
    assert abs(effects["spurious"]["emoji"]["double"]["ate"]) < 0.05
    assert effects["spurious"]["padding"]["double"]["ate"] == pytest.approx(0.35, abs=0.1)  # 36 words.
    assert effects["causal"]
    assert all(abs(effect["double"]["ate"] or 0) < 0.5 for effect in effects["causal"].values())
    assert diagnosis["summary"]["selectivity"] < 0.3
    assert diagnosis["accuracy"]["comparisons"] == 40
    assert diagnosis["worst_stratum"]["comparisons"] >= 10


def test_the_page_of_a_diagnosis_shows_its_figures(diagnosis):
    page = render_diagnosis({**diagnosis, "title": "A <model>", "facts": {"data": "<b>"}})
    assert "A &lt;model&gt;" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert f"{diagnosis['effects']['spurious']['bullets']['double']['ate']:+.3f}" in page
    assert "default-src 'none'" in page


def test_scores_of_responses_stay_their_own_when_rewrites_are_added():
    seen = {}

    def score(groups):
        seen["groups"] = groups
        return score_style(groups)

    diagnose(GROUPS[:6], score, oracle=None, bootstrap=BOOTSTRAP)
    for group, extended in zip(GROUPS, seen["groups"], strict=False):
        assert extended.responses[: len(group.responses)] == group.responses
        assert len(extended.responses) > len(group.responses)


def test_a_pairwise_model_has_the_effects_of_the_rewards_whose_differences_it_says(diagnosis):
    def judge(groups):
        judged = []
        for group, rewards in zip(groups, score_style(groups), strict=True):
            odds = np.full((len(rewards),) * 2, np.nan)
            np.fill_diagonal(odds, 0.0)
            for c in group.comparisons:  # And of nothing else: a pair is asked for or not known.
                odds[c.left, c.right] = rewards[c.left] - rewards[c.right]
                odds[c.right, c.left] = -odds[c.left, c.right]
            judged.append(odds)
        return judged

    oracle = OfflineEditor.of(GROUPS)
    found = diagnose(GROUPS, judge, oracle=oracle, attributes=tuple(CAUSAL_ATTRIBUTES), bootstrap=BOOTSTRAP)
    for kind, by_name in diagnosis["effects"].items():
        for name, effect in by_name.items():
            for rewrites in ("single", "double"):
                ours = found["effects"][kind][name][rewrites]["ate"]
                assert ours == pytest.approx(effect[rewrites]["ate"], abs=1e-9)
    assert found["summary"] == pytest.approx(diagnosis["summary"])
    assert found["accuracy"]["accuracy"] == diagnosis["accuracy"]["accuracy"]
    assert found["length_control"]["slope"] == pytest.approx(diagnosis["length_control"]["slope"])
    assert "<svg" in render_diagnosis({**found, "title": "pairs", "facts": {}})


def test_only_the_attributes_that_are_asked_for_are_measured():
    oracle = OfflineEditor.of(GROUPS[:8])
    found = diagnose(
        GROUPS[:8], score_style, oracle=oracle, attributes=("factuality",), spurious=("bold",), bootstrap=BOOTSTRAP
    )
    assert {kind: list(by_name) for kind, by_name in found["effects"].items()} == {
        "causal": ["factuality"],
        "spurious": ["bold"],
    }


@pytest.mark.parametrize("reply", [Rewrite(" ", "e"), Rewrite("a\0b", "e"), Rewrite("a\ud800", "e"), Declined("no")])
def test_what_is_no_text_is_no_rewrite(reply):
    class Oracle:
        name = "bad"

        def rewrite(self, requests):
            return (reply for _ in requests)

    assert list(causal_rewrites(GROUPS[:3], Oracle(), ("factuality",))) == []


def test_of_comparisons_that_share_a_response_the_first_is_rewritten_and_the_others_counted():
    pairs = [(0, 1), (0, 2), (2, 3), (1, 3), (4, 5, 0.0), (5, 4)]  # The last two say the same.
    texts = [f"Answer {n}. It is so. We know it." for n in range(6)]
    group = build_group(
        id="a", prompt="Why?", responses=texts, comparisons=[Comparison(left, right, *t) for left, right, *t in pairs]
    )
    assert pairs_to_rewrite(group) == [(0, 1), (2, 3), (5, 4)]
    assert count_pairs([group, GROUPS[0]]) == {"rewritten": 4, "left_out": 2}

    class Oracle:
        name = "append"

        def rewrite(self, requests):
            return (Rewrite(f"{request.text} {request.direction}", "e") for request in requests)

    found = list(causal_rewrites([group], Oracle(), ("factuality",)))
    assert [(item.response, item.treated) for item in found] == [
        (0, True), (1, False), (2, True), (3, False), (5, True), (4, False)
    ]  # fmt: skip


def test_ways_back_that_are_the_original_are_counted(diagnosis):
    """The offline editor copies from it where it raises a text again: there two rewrites say what one says."""
    rewritten = causal_rewrites(GROUPS, OfflineEditor.of(GROUPS), ("consistency",))
    both = [(item, GROUPS[item.group].responses[item.response].text) for item in rewritten if item.twice is not None]
    found = diagnosis["effects"]["causal"]["consistency"]
    assert found["treated"] + found["untreated"] == len(both)
    assert found["restored"] == sum(item.twice == text for item, text in both) > 0
    page = render_diagnosis({**diagnosis, "title": "x", "facts": {}})
    assert f"<td>{found['restored']} of {len(both)}</td>" in page
    assert "its way back is not independent of the original" in " ".join(page.split())
    assert "Along causal attributes 40 pairs of a preferred and another response were rewritten.</p>" in page
    assert diagnosis["causal_pairs"] == {"rewritten": 40, "left_out": 0}


def test_intervals_of_effects_and_of_length_control_draw_prompts():
    def widths(groups):
        found = diagnose(groups, score_style, oracle=None, spurious=("bullets",), bootstrap=BOOTSTRAP)
        effect = found["effects"]["spurious"]["bullets"]["single"]
        return effect["ate"], *effect["ate_interval"], *found["length_control"]["interval"]

    # Every record twice under one prompt says no more than once, but for rounding.
    twice = [dataclasses.replace(group, id=f"{group.id} {n}") for group in GROUPS for n in (0, 1)]
    assert widths(twice) == pytest.approx(widths(GROUPS), abs=1e-9)


def test_effects_are_paired_on_the_same_rewrites():
    def measured(groups, **scales):
        score = lambda groups: [scales.get("of", 1.0) * reward for reward in score_style(groups)]  # noqa: E731
        return diagnose(groups, score, oracle=None, spurious=("bullets", "emoji"), bootstrap=BOOTSTRAP)["effects"]

    plain, twice = measured(GROUPS), measured(GROUPS, of=2.0)
    found = {test["attribute"]: test for test in compare_effects(twice, plain, BOOTSTRAP)}
    for name, effect in plain["spurious"].items():
        double, test = effect["double"], found[name]
        assert test["difference"] == pytest.approx(double["ate"])
        assert test["interval"] == pytest.approx(double["ate_interval"])
        assert test["responses"] == effect["treated"] + effect["untreated"]
    assert found["bullets"]["p"] == 1 / 51
    assert found["bullets"]["kind"] == "spurious"
    assert compare_effects(measured(GROUPS[1:]), plain, BOOTSTRAP) == []  # Other rewrites.
    assert compare_effects({"spurious": {"bullets": {}}}, plain, BOOTSTRAP) == []


def test_prompts_are_drawn_with_all_of_their_records():
    twice = [dataclasses.replace(group, id=f"{group.id} {n}") for group in GROUPS for n in (0, 1)]
    drawn = draw_prompts(twice, 3, seed=5)
    assert len({group.prompt for group in drawn}) == 3
    assert len(drawn) == 6


def test_data_without_a_preference_is_an_error():
    group = PreferenceGroup("a", GROUPS[0].prompt, (Response("one"), Response("two")), (Comparison(0, 1, 0.5),))
    with pytest.raises(CromeError, match="no comparison of the data prefers one side"):
        diagnose([group], score_style, oracle=None)


def test_the_worst_stratum_has_enough_comparisons():
    cell = lambda accuracy, n: {"accuracy": accuracy, "interval": [0, 1], "comparisons": n, "groups": n}  # noqa: E731
    figures = {
        "by_category": {"tiny": cell(0.0, 3), "chat": cell(0.6, 50)},
        "by_stratum": {"length": {"shorter_preferred": cell(0.2, 12), "equal": cell(0.9, 40)}},
    }
    assert worst_stratum(figures)["stratum"] == "shorter_preferred"
    assert worst_stratum({"by_category": {}, "by_stratum": {}}) is None


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize(("scheme", "paper"), [(1, "rgb(255, 255, 255)"), (0, "rgb(20, 24, 29)")])
def test_a_browser_shows_the_diagnosis(diagnosis, tmp_path, width, scheme, paper):
    facts = {"model": "runs/x", "chat template": "{% for message in messages %}" * 20}
    page = render_diagnosis({**diagnosis, "title": "What crome rewards", "facts": facts})
    assert look(page, tmp_path, width, scheme) == (page.count("<section"), paper, [])
