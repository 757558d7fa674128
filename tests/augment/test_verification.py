import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedOracle, agrees

from crome_jax.augment import Account, add_interventions
from crome_jax.augment.growth import Growth, without
from crome_jax.augment.oracles import Declined, Direction, Rewrite
from crome_jax.augment.oracles.base import Judgement, Verdict
from crome_jax.augment.recipe import Recipe
from crome_jax.augment.verification import drop_sure, script, unusable
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Kind, Origin, Response, build_group

SOURCE = (
    "Whales sing by pushing air past a fold in the throat. It carries for 100 miles in the cold sea, and it is "
    "always heard by other whales."
)
RUSSIAN = "Киты поют, проталкивая воздух через складку в горле. Это слышно за сто миль."
GERMAN = (
    "Wale singen, indem sie Luft an einer Falte in der Kehle vorbei drücken. Das trägt hundert Meilen weit durch die "
    "kalte See, und andere Wale hören es immer."
)


def check(text, direction=Direction.DEGRADE, attribute="factuality", made=(), freely=True):
    group = build_group(id="g", prompt="How do whales sing?", responses=[SOURCE, "No idea."], comparisons=[])
    growth = Growth(group)
    for other in made:
        growth.add(Response(other, origin=Origin.DEGRADED, parent=0))
    return unusable(Rewrite(text, "x"), direction, attribute, 0, growth, freely)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SOURCE.replace("100", "900"), None),
        (SOURCE.replace("100", "900").replace("cold", "warm"), None),
        (SOURCE.replace("100", "-100"), None),
        ("", "empty text"),
        (" \n", "empty text"),
        ("No idea.", "equals another answer"),
        (SOURCE.upper(), "nothing would change"),
        (f"**{SOURCE}**\n", "nothing would change"),
        (SOURCE.replace(",", " -"), "nothing would change"),
        ("I'm sorry, but I cannot rewrite this answer to make it worse.", "refused to rewrite"),
        ("I'm sorry, but I can't help with that.", "refused to rewrite"),
        (RUSSIAN, "another language"),
        (GERMAN, "another language"),
        ("a\0b", "not valid text"),
        ("a\ud800b", "not valid text"),
    ],
)
def test_what_is_no_rewrite_is_told_by_reason(text, reason):
    assert check(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        "I won't degrade this text.",
        "I understand. Unfortunately, I'm unable to modify it.",
        "As an AI, I must respectfully decline to rewrite it so that it misleads.",
        "I cannot, in good conscience, alter it.",
        "I can not fulfil this request.",
        "We are not able to edit the answer.",
        "Sorry, but cannot rewrite it.",
        "Unable to rewrite this answer.",
        "Cannot comply.",
    ],
)
def test_who_will_not_rewrite_is_found_out(text):
    assert check(text) == check(f"**{text}**\n\nIs there more?") == "refused to rewrite"


@pytest.mark.parametrize(
    "text",
    [
        "Tuples cannot be modified after they are created.",
        "A blockchain entry can't be altered.",
        "You can't edit a tuple, as I said.",
        "Since tuples are immutable, we can't alter them.",
        "We cannot rewrite history.",
        "Type I cannot be modified, and the loop's i cannot alter it.",
        "I know that you cannot edit it.",
        "I cannot stress enough that whales should edit their songs.",
        "I can't think of an alternative.",
        "Unfortunately, tuples cannot be modified.",
        "Can't edit the file? Look at its permissions.",
        f"{SOURCE} {SOURCE.replace('100', '9')} In the end, a whale says: I will not alter my song.",
    ],
)
def test_what_cannot_be_altered_may_be_what_the_answer_is_about(text):
    assert check(text) is None


def test_declining_is_no_fault_where_declining_is_what_was_to_be_moved():
    assert check("I'm sorry, but I can't help with that.", attribute="appropriate refusal") is None


def test_the_same_edit_twice_is_a_near_duplicate_and_two_edits_are_not():
    first = SOURCE.replace("100 miles", "900 miles")
    assert (
        check(SOURCE.replace("100 miles", "900 miles").replace("Whales sing", "whales SING"), made=[first]) is not None
    )
    assert check(first.replace("miles in", "miles, in"), made=[first]) == "near-duplicate of another answer"
    assert check(SOURCE.replace("cold sea", "warm pond"), made=[first]) is None


def test_an_edit_by_rule_is_not_second_guessed():
    assert check(SOURCE.upper(), freely=False) is None
    assert check("No idea.", freely=False) == "equals another answer"


def test_the_writing_system_is_that_of_most_letters():
    assert script("да нет yes") == "CYRILLIC"
    assert script("これは日本語") == script("日本語") == "CJK"
    assert script("123") == ""


GROUP = build_group(
    id="g",
    prompt="Why?",
    responses=["good answer", "bad answer"],
    comparisons=[Comparison(0, 1)],
)


def run(judge, **recipe):
    account = Account()
    recipe = Recipe(judge=True, degrade_per_pair=1, upgrade_per_pair=1, **recipe)
    oracle = ScriptedOracle(judge=judge, names=("clarity",))
    (out,) = add_interventions([GROUP], oracle=oracle, recipe=recipe, account=account)
    return out, account, oracle


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict(None, only=True), "the attribute did not move"),
        (Verdict(Direction.UPGRADE, only=True), "the attribute moved the other way"),
        (Verdict(Direction.DEGRADE, only=False), "more than the attribute moved"),
    ],
)
def test_what_the_judge_does_not_stand_by_goes_and_what_was_made_from_it(verdict, reason):
    def judge(request):
        return agrees(request) if request.after.startswith("upgrade") else verdict

    out, account, oracle = run(judge, chain_steps=3, align_per_pair=0)
    assert {r.origin for r in out.responses} == {Origin.ORIGINAL, Origin.UPGRADED}
    assert account.dropped["judged", "clarity", reason] == 1
    assert account.dropped["judged", "clarity", "made from an answer that was dropped"] == 2
    assert oracle.counted()["Judgement"] == 6
    assert all(max(c.left, c.right) < len(out.responses) for c in out.comparisons)


@pytest.mark.parametrize(
    ("made", "attribute", "recipe"),
    [
        ("align", "every attribute", {}),
        ("paraphrase", "no attribute", {"align_per_pair": 0, "paraphrase_per_pair": 1}),
    ],
)
@pytest.mark.parametrize(
    ("moved", "reason"), [(Direction.UPGRADE, "better than its tie"), (Direction.DEGRADE, "worse than its tie")]
)
def test_a_tie_of_which_the_judge_prefers_a_side_goes_and_what_it_would_imply(made, attribute, recipe, moved, reason):
    def judge(request):
        return Verdict(moved, only=True) if request.after.startswith(made) else agrees(request)

    out, account, oracle = run(judge, **recipe)
    assert {r.origin for r in out.responses} == {Origin.ORIGINAL, Origin.DEGRADED, Origin.UPGRADED}
    assert {c.kind for c in out.comparisons} == {Kind.HUMAN, Kind.CAUSAL}
    assert account.dropped["judged", attribute, reason] == 1
    assert account.implied == 0
    # It is asked about the two answers of the tie, which of an aligned one is not the answer that it was made from.
    [judgement] = [r for r in oracle.asked if isinstance(r, Judgement) and r.after.startswith(made)]
    assert (judgement.before, judgement.attribute) == ("good answer", "overall quality")
    kept, account, _ = run(agrees, **recipe)
    assert Kind.NEUTRAL in {c.kind for c in kept.comparisons}
    assert account.dropped.total() == 0


def test_a_verdict_that_does_not_come_keeps_the_pair_and_is_counted():
    out, account, _ = run(lambda request: Declined("not JSON"))
    assert {r.origin for r in out.responses} >= {Origin.DEGRADED, Origin.UPGRADED}
    assert account.dropped["verdict", "clarity", "not JSON"] == 2


def test_the_aligned_answer_beats_no_lowered_one_that_was_dropped():
    out, _, _ = run(lambda request: Verdict(None, only=True))
    assert {r.origin for r in out.responses} == {Origin.ORIGINAL, Origin.ALIGNED}


def filtered(rewards, **how):
    group = build_group(
        id="g",
        prompt="Why?",
        responses=["a", "b", Response("c", origin=Origin.DEGRADED, parent=0), Response("d", origin=Origin.PARAPHRASED)],
        comparisons=[
            Comparison(0, 1),
            Comparison(0, 2, kind=Kind.CAUSAL, attribute="clarity"),
            Comparison(0, 3, target=0.5, kind=Kind.NEUTRAL),
        ],
    )
    account = Account()
    (out,) = drop_sure([group], [np.array(rewards, np.float32)], account=account, **how)
    return out, account


@pytest.mark.parametrize(
    ("difference", "kept"),
    # sigmoid(1.38) = 0.799, sigmoid(1.40) = 0.802: the threshold of 0.2 lies at ln 4 = 1.386.
    [(-3.0, True), (0.0, True), (1.38, True), (1.40, False), (30.0, False)],
)
def test_pairs_that_the_baseline_is_sure_of_go(difference, kept):
    out, account = filtered([difference, 0, 0, 0])
    assert len(out.comparisons) == 2 + kept
    assert ("c" in {r.text for r in out.responses}) == kept
    assert account.dropped["baseline", "clarity", "the baseline is sure of it"] == (not kept)


def test_ties_are_looked_at_where_wanted_and_human_comparisons_never():
    out, _ = filtered([9, 0, 9, 9], kinds=("causal", "neutral"))
    assert [r.text for r in out.responses] == ["a", "b", "c"]
    out, _ = filtered([9, 0, 9, 9], unsure=0)
    assert len(out.comparisons) == 3
    with pytest.raises(CromeError, match="finite"):
        filtered([np.nan, 0, 0, 0])
    with pytest.raises(CromeError, match="from 0 to 1"):
        filtered([0, 0, 0, 0], unsure=2)


def test_permutations_are_looked_at_whatever_their_kind_as_in_rrm():
    # Rewards 2, 0 of the host's own answers and 1, 0.1 of borrowed ones. Contextual: 2 - 1 = 1 (p 0.73, kept),
    # 2 - 0.1 = 1.9 (0.87, sure), 0 - 1 and 0 - 0.1 (wrong). The tie: d = 0.9, p = 0.71, 0.21 from a half, kept; of
    # d = 0.8 it is 0.19.
    group = build_group(
        id="g",
        prompt="Why?",
        responses=["a", "b", *(Response(text, origin=Origin.PERMUTED) for text in "cd")],
        comparisons=[
            Comparison(0, 1),
            *(Comparison(own, other, kind=Kind.CAUSAL, attribute="relevance") for own in (0, 1) for other in (2, 3)),
            Comparison(2, 3, target=0.5, kind=Kind.NEUTRAL),
        ],
    )
    sure = "the baseline is sure of it"
    for last, ties in ((0.1, 1), (0.2, 0)):
        account = Account()
        (out,) = drop_sure([group], [np.array([2, 0, 1, last], np.float32)], account=account, kinds=())
        assert [(c.left, c.right) for c in out.comparisons] == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)][: 4 + ties]
        assert account.dropped["baseline", "contextual", sure] == 1
        assert account.dropped["baseline", "non-contextual", sure] == 1 - ties


@given(st.data())
def test_without_keeps_the_originals_and_every_other_comparison(data):
    n = data.draw(st.integers(2, 6))
    origins = data.draw(st.lists(st.sampled_from([Origin.ORIGINAL, Origin.DEGRADED]), min_size=n, max_size=n))
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] != p[1]), max_size=8)
    )
    group = build_group(
        id="g",
        prompt="Why?",
        responses=[Response(f"r{r}", origin=o, parent=(r - 1 if r else None)) for r, o in enumerate(origins)],
        comparisons=[Comparison(*pair) for pair in pairs],
    )
    gone = data.draw(st.sets(st.integers(0, len(pairs) - 1)) if pairs else st.just(set()))
    out = without(group, gone)

    def said(g, skip=frozenset()):
        return [
            (g.responses[c.left].text, g.responses[c.right].text) for k, c in enumerate(g.comparisons) if k not in skip
        ]

    assert said(out) == said(group, gone)
    texts = {r.text for r in out.responses}
    assert texts >= {f"r{r}" for r, o in enumerate(origins) if o is Origin.ORIGINAL}
    for response in out.responses:
        if response.parent is not None:
            assert out.responses[response.parent].text == f"r{int(response.text[1:]) - 1}"
