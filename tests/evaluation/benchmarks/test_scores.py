"""Every benchmark's score is its authors' formula: worked out by hand, and what arithmetic says of trivial scorers."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.data.datasets.benchmarks.groups import benchmark_group
from crome_jax.data.datasets.benchmarks.rewordbench import transform_groups
from crome_jax.data.datasets.benchmarks.transformations import ABSENT
from crome_jax.errors import CromeError
from crome_jax.evaluation.benchmark_notes import benchmark_notes, overall_name
from crome_jax.evaluation.benchmarks.examples import Examples, read_examples
from crome_jax.evaluation.benchmarks.judgebench import CATEGORIES, measure_judgebench
from crome_jax.evaluation.benchmarks.llmbar import EXAMPLE_COUNTS as LLMBAR_COUNTS
from crome_jax.evaluation.benchmarks.llmbar import measure_llmbar
from crome_jax.evaluation.benchmarks.pairs import measure_pairs
from crome_jax.evaluation.benchmarks.rewardbench import (
    EXAMPLE_COUNTS,
    PAIR_COUNTS,
    PRIOR_SETS,
    SECTIONS,
    measure_rewardbench,
)
from crome_jax.evaluation.benchmarks.rewardbench2 import EXAMPLE_COUNTS as REWARDBENCH2_COUNTS
from crome_jax.evaluation.benchmarks.rewardbench2 import SUBSETS, check_ties, measure_rewardbench2, ties_scores
from crome_jax.evaluation.benchmarks.rewordbench import NAMES, PAPERS, measure_rewordbench
from crome_jax.evaluation.benchmarks.rm_bench import difficulty_values, measure_rm_bench
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.trivial_scorers import (
    score_constant,
    score_first,
    score_length,
    score_oracle,
    score_random,
)

BOOTSTRAP = Bootstrap(resamples=50)


def examples(rows) -> Examples:
    """Line up (subset, chosen rewards, rejected rewards), or with an id first."""
    rows = [row if len(row) == 4 else (str(n), *row) for n, row in enumerate(rows)]
    return Examples(
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        np.arange(len(rows)),
        tuple(np.array(row[2], float) for row in rows),
        tuple(np.array(row[3], float) for row in rows),
    )


def line(table, name):
    return next(row for row in table["rows"] if row["name"] == name)


def pairs(subset, right, wrong, equal=0):
    return [(subset, [2], [1])] * right + [(subset, [1], [2])] * wrong + [(subset, [1], [1])] * equal


def test_rewardbench_by_hand():
    # Chat: alpacaeval-easy 3/4 weighs 100, mt-bench-med 1/2 weighs 40: (75 + 20) / 140.
    # Chat Hard: 0. Safety: one equal pair of two: 1/2. Reasoning: math-prm 1/1 weighs 984, hep-go 0/1 weighs 164.
    rows = pairs("alpacaeval-easy", 3, 1) + pairs("mt-bench-med", 1, 1) + pairs("llmbar-natural", 0, 2)
    rows += pairs("donotanswer", 1, 0, equal=1) + pairs("math-prm", 1, 0) + pairs("hep-go", 0, 1)
    table = measure_rewardbench(examples(rows), BOOTSTRAP)
    chat, reasoning = 95 / 140, 984 / (984 + 164)
    assert line(table, "Chat")["score"] == pytest.approx(chat)
    assert line(table, "Safety")["score"] == 0.5
    assert line(table, "Reasoning")["score"] == pytest.approx(reasoning)
    assert table["score"] == pytest.approx((chat + 0 + 0.5 + reasoning) / 4)
    assert table["examples"] == 12
    assert not table["complete"]
    assert set(table["missing"]) == set(EXAMPLE_COUNTS) - {row[0] for row in rows}
    low, high = table["interval"]
    assert low < table["score"] < high


def test_rewardbench_with_prior_sets_by_hand():
    # Four sections of 1, 1, 0, 0 at weight 2; prior sets (1 + 0 + 0 + 0) / 4 at weight 1: (4 + 0.25) / 9.
    rows = pairs("alpacaeval-easy", 1, 0) + pairs("llmbar-natural", 1, 0) + pairs("donotanswer", 0, 1)
    rows += pairs("hep-go", 0, 1) + pairs("shp", 5, 0)
    for name in ("anthropic_helpful", "anthropic_hhh", "summarize"):
        rows += pairs(name, 0, 3)
    table = measure_rewardbench(examples(rows), BOOTSTRAP, prior_sets=True)
    assert line(table, "Prior Sets")["score"] == 0.25
    assert table["score"] == pytest.approx(4.25 / 9)
    assert measure_rewardbench(examples(rows), BOOTSTRAP)["score"] == 0.5


def test_the_sections_of_rewardbench_hold_its_23_subsets_with_their_official_numbers():
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(EXAMPLE_COUNTS)
    assert len(EXAMPLE_COUNTS) == 23
    # 2,985 pairs, of which math-prm's 447 count as 984.
    assert sum(PAIR_COUNTS.values()) == 2985
    assert EXAMPLE_COUNTS == PAIR_COUNTS | {"math-prm": 984}
    assert {name: sum(EXAMPLE_COUNTS[s] for s in names) for name, names in SECTIONS.items()} == {
        "Chat": 358,
        "Chat Hard": 456,
        "Safety": 740,
        "Reasoning": 1968,
    }


def test_best_of_four_by_hand():
    # Highest alone: 1; shared with one: 1/2; shared with all: 1/4; not the highest: 0. Mean 1.75 / 4.
    rows = [
        ("Math", [3], [1, 2, 0]),
        ("Math", [3], [3, 2, 0]),
        ("Math", [3], [3, 3, 3]),
        ("Math", [3], [4, 0, 0]),
        ("Focus", [1], [0, 0, 0]),
    ]
    table = measure_rewardbench2(examples(rows), BOOTSTRAP)
    assert line(table, "Math")["score"] == 1.75 / 4
    assert table["score"] == (1.75 / 4 + 1) / 2
    assert table["missing"] == ["Factuality", "Precise IF", "Safety", "Ties"]


@pytest.mark.parametrize(
    ("tied", "ref", "expected"),
    [
        # spread 1, gap 2, gap ref 3: right in all; tanh(2/1 - 1).
        (([5, 4], [2, 0]), ([6], [3]), 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(1)),
        # spread 3, gap 1, gap ref 2: accurate, but right answers differ more; tanh(1/3 - 1).
        (([5, 2], [1]), ([3], [1]), 0.6 + 0.01 * math.tanh(1 / 3 - 1)),
        # spread 1, gap 2, gap ref 0.5: the harder preference fails; tanh(0.5 - 1).
        (([5, 4], [2]), ([1.5], [1]), 0.6 + 0.2 + 0.01 * math.tanh(-0.5)),
        # gap -1, gap ref -1, spread 1: nothing; tanh(-1 - 1).
        (([5, 4], [5]), ([1], [2]), 0.01 * math.tanh(-2)),
        # An oracle: no spread, so that the last term is tanh(infinity).
        (([1, 1], [0]), ([1], [0]), 1.01),
        # All equal: 0 / 0 counts 0.
        (([1, 1], [1]), ([1], [1]), 0.0),
    ],
)
def test_ties_by_hand(tied, ref, expected):
    arrays = [tuple(np.array(side, float) for side in sides) for sides in (tied, ref)]
    assert ties_scores(*arrays) == pytest.approx(expected)
    rows = [("Ties/tied:7", "Ties", *tied), ("Ties/ref:7", "Ties", *ref)]
    table = measure_rewardbench2(examples(rows), BOOTSTRAP)
    assert line(table, "Ties")["score"] == pytest.approx(expected)
    assert line(table, "Ties")["examples"] == 2


def test_a_half_of_ties_is_an_error_before_scoring_and_left_out_where_the_other_was_set_aside():
    whole = [
        benchmark_group(
            id=f"Ties/{kind}:7", prompt="Why?", chosen=["a", "b"], rejected=["c"], subset="Ties", category="Ties"
        )
        for kind in ("tied", "ref")
    ]
    check_ties(whole)
    with pytest.raises(CromeError, match="there is tied:7 but not its other version"):
        check_ties(whole[:1])
    rows = [("Ties/tied:8", "Ties", [1, 1], [0]), ("Ties/ref:8", "Ties", [1], [0])]
    found = measure_rewardbench2(examples([("Ties/tied:7", "Ties", [0, 5], [9]), *rows]), BOOTSTRAP)
    assert line(found, "Ties")["score"] == pytest.approx(1.01)  # Of question 8 alone.
    assert found["examples"] == line(found, "Ties")["examples"] == 2
    assert found["missing"][-1] == "1 of the versions in Ties"


def test_rm_bench_by_hand():
    # Example 1: right answers 1, 2, 3 by style, wrong ones 0, 2, 4. Right beats wrong where it is the larger:
    #   concise 1: > 0 | not 2 | not 4;  detailed 2: > 0 | not 2 | not 4;  markdown 3: > 0 | > 2 | not 4.
    # easy (right richer): cells (1,0), (2,0), (2,1) = 1, 1, 1; normal: 1, 0, 0; hard: 0, 0, 0.
    # Example 2: always right. Chat: easy 1, normal (1/3 + 1)/2 = 2/3, hard 1/2.
    one, two = ("chat", [1, 2, 3], [0, 2, 4]), ("chat", [9, 9, 9], [0, 0, 0])
    # Safety, two files one domain: one right in all, one wrong in all: 1/2 in each.
    safety = [("safety-refuse", [9, 9, 9], [0, 0, 0]), ("safety-response", [0, 0, 0], [9, 9, 9])]
    table = measure_rm_bench(examples([one, two, *safety]), BOOTSTRAP)
    chat = (1 + 2 / 3 + 1 / 2) / 3
    assert line(table, "chat")["score"] == pytest.approx(chat)
    assert line(table, "safety")["score"] == 0.5
    assert table["score"] == pytest.approx((chat + 0.5) / 2)
    found = [row["score"] for row in table["rows"][1:4]]
    assert found == pytest.approx([(1 + 0.5) / 2, (2 / 3 + 0.5) / 2, (0.5 + 0.5) / 2])  # easy, normal, hard
    assert table["matrices"]["chat"] == [[1, 0.5, 0.5], [1, 0.5, 0.5], [1, 1, 0.5]]
    assert table["missing"] == ["math", "code"]


def test_difficulties_are_the_cells_below_on_and_above_the_diagonal():
    wins = np.zeros((1, 3, 3))
    wins[0, 2, 0] = 1  # right answer with markdown, wrong one concise
    assert {name: value[0] for name, value in difficulty_values(wins).items()} == {
        "easy": 1 / 3,
        "normal": 0,
        "hard": 0,
    }


def test_judgebench_is_the_share_of_all_pairs():
    rows = pairs("gpt/knowledge", 3, 1) + pairs("gpt/coding", 0, 1) + pairs("gpt/math", 0, 0, equal=1)
    table = measure_judgebench(examples(rows), BOOTSTRAP)
    assert table["score"] == pytest.approx(3 / 6)
    assert line(table, "knowledge")["score"] == 0.75
    assert table["missing"] == ["reasoning"]
    assert table["rule"] == "share of all pairs by gpt"
    assert [row["name"] for row in table["rows"]] == ["JudgeBench", "knowledge", "math", "coding"]


def test_the_two_files_of_judgebench_have_scores_of_their_own():
    rows = pairs("gpt/knowledge", 3, 1) + pairs("gpt/math", 1, 0) + pairs("claude/knowledge", 0, 4)
    table = measure_judgebench(examples(rows), BOOTSTRAP)
    assert table["score"] == pytest.approx(4 / 9)
    assert line(table, "knowledge")["score"] == 3 / 8  # Of both.
    assert (line(table, "pairs by gpt")["score"], line(table, "pairs by gpt")["examples"]) == (pytest.approx(4 / 5), 5)
    assert line(table, "pairs by claude")["score"] == 0
    assert table["rule"] == "share of all pairs by gpt and claude, pooled"
    below = [row["name"] for row in table["rows"] if row["level"] == "subset"]
    assert below == ["knowledge", "math", "knowledge"]


def test_llmbar_by_hand():
    # Natural 1/2; Neighbor 1, GPTInst 0, GPTOut 1/2 (equal), Manual 1: adversarial 2.5/4, all five 3/5.
    rows = pairs("Natural", 1, 1) + pairs("Neighbor", 2, 0) + pairs("GPTInst", 0, 1)
    rows += pairs("GPTOut", 0, 0, equal=1) + pairs("Manual", 1, 0)
    table = measure_llmbar(examples(rows), BOOTSTRAP)
    assert line(table, "Adversarial")["score"] == pytest.approx(2.5 / 4)
    assert table["score"] == pytest.approx(3 / 5)
    assert table["missing"] == []


def test_rewordbench_by_hand():
    # Original: right, right, wrong. "quotes" of all three: right, wrong, wrong: 1/3, drop 1/3.
    # "rot" of the first two: wrong, right: 1/2 where it was 1, drop 1/2.
    rows = [
        (f"{name}/{n}", name, [1.0 if right else 0.0], [0.5])
        for name, rights in (("original", (1, 1, 0)), ("quotes", (1, 0, 0)), ("rot", (0, 1)))
        for n, right in enumerate(rights)
    ]
    table = measure_rewordbench(examples(rows), BOOTSTRAP)
    assert line(table, "quotes")["drop"] == pytest.approx(1 / 3)
    assert line(table, "rot")["before"] == 1
    assert table["score"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert table["drop"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert table["relative_drop"] == pytest.approx((0.5 + 0.5) / 2)


def test_the_intervals_of_rewordbench_draw_the_prompts_of_the_pairs_as_they_were():
    # 40 pairs of 20 prompts, and 23 times what one transformation makes of them, each under prompts of its own.
    rng = np.random.default_rng(0)
    right = {name: rng.integers(0, 2, 40) for name in ("original", NAMES[0])}
    rows = [("original", n, right["original"][n], n % 20) for n in range(40)]
    rows += [(name, n, right[NAMES[0]][n], 100 + len(rows) + n) for name in NAMES for n in range(40)]
    read = lambda rows: dataclasses.replace(  # noqa: E731
        examples([(f"{name}/{n}", name, [float(right)], [0.5]) for name, n, right, _ in rows]),
        prompts=np.array([prompt for *_, prompt in rows]),
    )
    whole = measure_rewordbench(read(rows), BOOTSTRAP)
    one = measure_rewordbench(read([row for row in rows if row[0] in ("original", NAMES[0])]), BOOTSTRAP)
    by_prompt = BOOTSTRAP.mean_interval(right[NAMES[0]] * 1.0, np.arange(40) % 20)
    lost = BOOTSTRAP.mean_interval(1.0 * right["original"] - right[NAMES[0]], np.arange(40) % 20)
    for found in (whole, one):
        assert found["interval"] == pytest.approx(by_prompt)
        assert line(found, NAMES[0])["interval"] == pytest.approx(by_prompt)
        assert found["drop_interval"] == pytest.approx(lost)
        assert line(found, NAMES[0])["drop_interval"] == pytest.approx(lost)


def test_rewordbench_says_which_of_the_papers_transformations_are_not_there():
    assert len(NAMES) == 23 == PAPERS - len(ABSENT) - 1  # One entry stands for two.
    rows = [(f"{name}/0", name, [1.0], [0.5]) for name in ("original", *NAMES)]
    whole = measure_rewordbench(examples(rows), BOOTSTRAP)
    assert not whole["complete"]
    assert whole["missing"][0].startswith("paraphrase (needs a language model")
    assert len(whole["missing"]) == len(ABSENT)
    assert whole["rule"] == "mean accuracy over 23 of the paper's 28 transformations"
    part = measure_rewordbench(examples(rows[:-1]), BOOTSTRAP)
    assert part["missing"][len(ABSENT) :] == ["jailbreak_2"]
    assert overall_name({"a model": part}) == "overall (partial)"


def test_rewordings_whose_original_was_set_aside_are_left_out():
    rows = [("original/0", "original", [1.0], [0.5]), ("deleted/1", "deleted", [1.0], [0.5])]
    rows += [("quotes/0", "quotes", [0.0], [0.5]), ("quotes/1", "quotes", [1.0], [0.5])]
    table = measure_rewordbench(examples(rows), BOOTSTRAP)
    assert line(table, "quotes")["drop"] == 1
    assert "deleted" not in {row["name"] for row in table["rows"]}


def _tie(n, kind):
    return f"Ties/{kind}:{n}", "Ties", [2], [1]


WHOLE = {
    "rewardbench": (measure_rewardbench, [row for name, n in PAIR_COUNTS.items() for row in pairs(name, n, 0)]),
    "rewardbench2": (
        measure_rewardbench2,
        [row for name in SUBSETS[:-1] for row in pairs(name, REWARDBENCH2_COUNTS[name], 0)]
        + [_tie(n, kind) for n in range(51) for kind in ("tied", "ref")],
    ),
    "rm_bench": (
        measure_rm_bench,
        [
            (name, [2, 2, 2], [1, 1, 1])
            for name, n in {"math": 9, "code": 228, "safety-refuse": 284, "safety-response": 157, "chat": 129}.items()
            for _ in range(n)
        ],
    ),
    "judgebench": (
        measure_judgebench,
        [row for name, n in zip(CATEGORIES, (154, 98, 56, 42), strict=True) for row in pairs(f"GPT/{name}", n, 0)],
    ),
    "llmbar": (measure_llmbar, [row for name, n in LLMBAR_COUNTS.items() for row in pairs(name, n, 0)]),
}
"""All examples of each benchmark; of RM-Bench's math, whose number is not known, any."""


@pytest.mark.parametrize("name", WHOLE)
def test_a_benchmark_is_whole_with_its_published_numbers_of_examples_alone(name):
    measure, rows = WHOLE[name]
    whole = measure(examples(rows), BOOTSTRAP)
    assert (whole["complete"], whole["missing"], whole["partial"]) == (True, [], [])
    fewer = measure(examples(rows[:-2]), BOOTSTRAP)  # The last part has more than two, of Ties one question.
    assert not fewer["complete"]
    assert overall_name({"a model": fewer}) == "overall (partial)"
    part, official = {
        "rewardbench": ("hep-rust", 164),
        "rewardbench2": ("Ties", 102),
        "rm_bench": ("chat", 129),
        "judgebench": ("pairs by GPT", 350),
        "llmbar": ("Manual", 46),
    }[name]
    assert fewer["partial"] == [{"name": part, "examples": official - 2, "official": official}]
    found = {"methods": {"a model": fewer}, "left_out": 0, "set_aside": 0}
    (note,) = benchmark_notes(found, {})
    assert f"{part} {official - 2} of {official}; the score does not compare with others'" in note


def test_more_examples_than_published_are_said_and_so_are_records_set_aside():
    rows = [row for name, n in LLMBAR_COUNTS.items() for row in pairs(name, n + (name == "Natural"), 0)]
    table = measure_llmbar(examples(rows), BOOTSTRAP)
    found = {"methods": {"a model": table}, "left_out": 0, "set_aside": 3}
    numbers, bad = benchmark_notes(found, {})
    assert "Natural 101 instead of 100" in numbers
    assert bad == "3 records were bad and set aside, so the score is of the rest."


# --- trivial scorers: arithmetic, not measurement ---------------------------------------------------------------------


def _groups(subsets, chosen, rejected, count=200, **options):
    """Build groups whose chosen and rejected texts are made by functions of the example's number."""
    return [
        benchmark_group(
            id=f"{subset}/{options.get('prefix', '')}{n}",
            prompt=f"Question {n} of {subset}?",
            chosen=chosen(n),
            rejected=rejected(n),
            subset=subset,
            category=subset,
        )
        for subset in subsets
        for n in range(count)
    ]


def _short(n):
    return [f"answer {n}"]


def _long(n):
    return [f"a much longer answer {n} in many words"]


def _two_sided(p, n):
    """Return five standard deviations of a share of n draws: further off, a share is no chance."""
    return 5 * math.sqrt(p * (1 - p) / n)


BY_PAIRS = {
    "rewardbench": (measure_rewardbench, ["alpacaeval-easy", "llmbar-natural", "donotanswer", "hep-go"], 0.0),
    "judgebench": (measure_judgebench, [f"gpt/{category}" for category in CATEGORIES], 0.0),
    "llmbar": (measure_llmbar, ["Natural", "Neighbor", "GPTInst", "GPTOut", "Manual"], 0.5),
    "pairs": (measure_pairs, ["a", "b"], 0.5),
}


@pytest.mark.parametrize("name", BY_PAIRS)
def test_trivial_scorers_of_pairs(name):
    measure, subsets, of_equal = BY_PAIRS[name]
    groups = _groups(subsets, _long, _short)
    score = lambda scorer: measure(read_examples(groups, scorer(groups)), BOOTSTRAP)["score"]  # noqa: E731
    assert score(score_oracle) == 1
    assert score(score_length) == 1  # Here the chosen response is always the longer one,
    turned = _groups(subsets, _short, _long)
    assert measure(read_examples(turned, score_length(turned)), BOOTSTRAP)["score"] == 0  # and here never.
    assert score(score_constant) == of_equal
    close = _two_sided(0.5, len(groups))
    assert score(score_random) == pytest.approx(0.5, abs=close)
    assert score(score_first) == pytest.approx(0.5, abs=close)  # Peeking at order gets what chance gives.


def test_trivial_scorers_of_rewardbench2():
    best_of = _groups(SUBSETS[:-1], _short, lambda n: [f"wrong {n} {k}" for k in range(3)])
    ties = [
        *_groups(["Ties"], lambda n: [f"right {n}", f"true {n}"], lambda n: [f"wrong {n}", f"no {n}"], prefix="tied:"),
        *_groups(["Ties"], _short, lambda n: [f"wrong {n}", f"no {n}"], prefix="ref:"),
    ]
    score = lambda groups, scorer: measure_rewardbench2(read_examples(groups, scorer(groups)), BOOTSTRAP)  # noqa: E731
    assert score(best_of, score_oracle)["score"] == 1
    assert score(best_of, score_constant)["score"] == 0.25
    # Wrong answers have three words and the right one two; in Ties all have two.
    assert score(best_of, score_length)["score"] == 0
    assert score(ties, score_length)["score"] == 0
    close = _two_sided(0.25, len(best_of))
    assert score(best_of, score_random)["score"] == pytest.approx(0.25, abs=close)
    assert score(best_of, score_first)["score"] == pytest.approx(0.25, abs=close)
    assert score(ties, score_oracle)["score"] == pytest.approx(1.01)
    assert score(ties, score_constant)["score"] == 0
    # Two right above two wrong, of 24 orders: 4, so 1/6; one right above two wrong: 1/3.
    found = score(ties, score_random)["score"]
    assert 0.3 / 6 + 0.3 / 3 - 0.12 < found < 0.3 / 6 + 0.3 / 3 + 0.2 * 2 / 6 + 0.12


def test_trivial_scorers_of_rm_bench():
    styles = lambda word: lambda n: [" ".join([f"{word}{n}"] * words) for words in (1, 5, 9)]  # noqa: E731
    groups = _groups(["chat", "math", "code", "safety-refuse"], styles("right"), styles("wrong"))
    measure = lambda scorer: measure_rm_bench(read_examples(groups, scorer(groups)), BOOTSTRAP)  # noqa: E731
    assert measure(score_oracle)["score"] == 1
    # The longer answer: always right where the right one has the richer style, never where the wrong one has, and
    # equal, which is not right, on the diagonal.
    found = measure(score_length)
    assert [row["score"] for row in found["rows"][:4]] == pytest.approx([1 / 3, 1, 0, 0])
    assert found["matrix"] == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert measure(score_constant)["score"] == 0
    for scorer in (score_random, score_first):
        # Nine cells of an example are not independent: the bound is that of one.
        assert measure(scorer)["score"] == pytest.approx(0.5, abs=_two_sided(0.5, len(groups)))


def test_trivial_scorers_of_rewordbench():
    # The right answer has eight words and the wrong one two: none of the transformations turns that round.
    sets = _groups(["alpacaeval-easy"], _long, _short)
    groups = list(transform_groups(sets))
    measure = lambda scorer: measure_rewordbench(read_examples(groups, scorer(groups)), BOOTSTRAP)  # noqa: E731
    oracle = measure(score_oracle)
    assert (oracle["score"], oracle["drop"], oracle["relative_drop"]) == (1, 0, 0)
    length = measure(score_length)
    assert (length["score"], length["drop"]) == (1, 0)
    constant = measure(score_constant)
    assert (constant["score"], constant["drop"], constant["relative_drop"]) == (0, 0, None)
    for scorer in (score_random, score_first):
        # Sixteen transformations of an example are drawn apart, but the bound is that of one.
        found = measure(scorer)
        assert found["score"] == pytest.approx(0.5, abs=_two_sided(0.5, len(sets)))
        assert found["drop"] == pytest.approx(0, abs=2 * _two_sided(0.5, len(sets)))


@given(st.integers(0, 2**32))
def test_the_order_of_responses_is_drawn_by_id(number):
    group = benchmark_group(
        id=str(number), prompt="Why?", chosen=["a", "b"], rejected=["c", "b"], subset="s", category="s"
    )
    assert sorted(r.text for r in group.responses) == ["a", "b", "c"]
    places = {side: [int(p) for p in group.metadata[side].split(",")] for side in ("chosen_at", "rejected_at")}
    texts = {side: [group.responses[p].text for p in found] for side, found in places.items()}
    assert texts == {"chosen_at": ["a", "b"], "rejected_at": ["c", "b"]}
    # b against b is no comparison; the benchmark's formula still sees it.
    assert len(group.comparisons) == 3


def test_rewards_that_are_no_numbers_are_an_error():
    groups = _groups(["a"], _short, _long, count=2)
    with pytest.raises(CromeError, match="is nan; a model whose training diverged cannot be evaluated"):
        read_examples(groups, [np.array([1.0, 2.0]), np.array([np.nan, 0.0])])


def test_intervals_widen_with_fewer_examples_and_prior_sets_are_those_of_the_leaderboard():
    few, many = (measure_pairs(examples(pairs("a", n, n)), Bootstrap(resamples=500))["interval"] for n in (10, 1000))
    assert few[1] - few[0] > 3 * (many[1] - many[0])
    assert PRIOR_SETS == ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
