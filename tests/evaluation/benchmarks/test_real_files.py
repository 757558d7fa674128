"""What is known of the real files, where they are: how many records they have, and what arithmetic says of length."""

import pytest

from crome_jax.data.datasets.benchmarks.registry import BENCHMARKS, read_benchmark
from crome_jax.evaluation.benchmarks.examples import read_examples
from crome_jax.evaluation.benchmarks.rewardbench import EXAMPLE_COUNTS
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.trivial_scorers import score_length, score_random


def measured(name, groups, scorer):
    return BENCHMARKS[name].measure(read_examples(groups, scorer(groups)), Bootstrap(20))


def of_subset(groups, subset):
    return sum(group.metadata["subset"] == subset for group in groups)


def test_llmbar_and_judgebench_have_their_numbers_of_pairs(shared_data):
    llmbar = read_benchmark("llmbar", shared_data / "eval", shared_data)
    counts = {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}
    assert {subset: of_subset(llmbar, subset) for subset in counts} == counts
    assert len(llmbar) == 419
    assert len(read_benchmark("judgebench", shared_data / "eval", shared_data)) == 350


# In how many of a file's records the chosen response has more words than the rejected one. This and the matrices below
# are counted from the records themselves, without any of our code:
#   zcat FILE | jq -s 'map(select([.chosen, .rejected | [splits("\\s+") | select(. != "")] | length] | .[0] > .[1]))
#     | length'
LONGER_CHOSEN = {
    "alpacaeval-easy": (143, 150),
    "alpacaeval-hard": (147, 150),
    "alpacaeval-length": (102, 150),
    "donotanswer": (213, 805),
    "hep-cpp": (26, 164),
    "hep-go": (37, 164),
    "hep-java": (33, 164),
    "hep-js": (33, 164),
    "hep-python": (33, 164),
    "hep-rust": (38, 164),
    "llmbar-adver-GPTInst": (13, 92),
    "llmbar-adver-GPTOut": (20, 47),
    "llmbar-adver-manual": (8, 46),
    "llmbar-adver-neighbor": (16, 134),
    "llmbar-natural": (52, 100),
    "xstest-should-refuse": (171, 520),
    "xstest-should-respond": (227, 456),
}


def test_the_rebuilt_rewardbench_gives_length_what_its_records_say(shared_data):
    groups = read_benchmark("rewardbench", shared_data / "eval" / "rewardbench_rebuilt", shared_data)
    assert {name: of_subset(groups, name) for name in LONGER_CHOSEN} == {n: of for n, (_, of) in LONGER_CHOSEN.items()}
    for name, (_, count) in LONGER_CHOSEN.items():  # Of the parts that could be rebuilt in full.
        assert not name.startswith(("hep-", "llmbar-")) or count == EXAMPLE_COUNTS[name]
    table = measured("rewardbench", groups, score_length)
    found = {row["name"]: row["score"] for row in table["rows"] if row["level"] == "subset"}
    assert found == pytest.approx({name: longer / of for name, (longer, of) in LONGER_CHOSEN.items()})
    assert set(table["missing"]) == set(EXAMPLE_COUNTS) - set(LONGER_CHOSEN)
    assert {"name": "xstest-should-respond", "examples": 456, "official": 250} in table["partial"]
    assert not {part["name"] for part in table["partial"]} & {n for n in LONGER_CHOSEN if n.startswith(("hep-", "llm"))}
    # 3,634 pairs; Chat Hard's 419 alone spread by 0.024.
    assert measured("rewardbench", groups, score_random)["score"] == pytest.approx(0.5, abs=0.04)


# Of the sample's 20 records of each file, in how many the chosen text of a style (row) has more words than the rejected
# text of a style (column): concise, detailed, detailed with markdown.
LONGER_STYLES = {
    "chat": [[2, 0, 0], [20, 7, 3], [20, 12, 9]],
    "code": [[12, 5, 5], [18, 12, 11], [18, 13, 12]],
    "safety-refuse": [[0, 0, 0], [20, 2, 0], [20, 14, 3]],
    "safety-response": [[16, 2, 0], [20, 20, 11], [20, 20, 11]],
}


def test_the_sample_of_rm_bench_gives_length_what_its_records_say(shared_data):
    groups = read_benchmark("rm_bench", shared_data / "eval", shared_data)
    assert {part: of_subset(groups, part) for part in LONGER_STYLES} == dict.fromkeys(LONGER_STYLES, 20)
    assert all(len(group.comparisons) == 9 or len(group.responses) < 6 for group in groups)
    for part, counts in LONGER_STYLES.items():
        some = [group for group in groups if group.metadata["subset"] == part]
        table = measured("rm_bench", some, score_length)
        assert table["matrix"] == [pytest.approx([count / 20 for count in row]) for row in counts]
        # Easy is below the diagonal, where the chosen text has the richer style, and hard above it.
        cells = {
            "easy": [counts[1][0], counts[2][0], counts[2][1]],
            "normal": [counts[style][style] for style in range(3)],
            "hard": [counts[0][1], counts[0][2], counts[1][2]],
        }
        found = {row["name"]: row["score"] for row in table["rows"][1:4]}
        assert found == pytest.approx({name: sum(some) / 60 for name, some in cells.items()})
