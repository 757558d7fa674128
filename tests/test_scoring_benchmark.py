"""The benchmark of scoring draws whole prompts, and its page says what the timings are."""

from benchmarks.scoring import __main__ as command
from benchmarks.scoring.__main__ import Timing, draw, render
from crome_jax.data.datasets.benchmarks.groups import benchmark_group


def pair(subset, prompt, n):
    return benchmark_group(
        id=f"{subset}/{prompt}/{n}",
        prompt=f"Prompt {prompt} of {subset}?",
        chosen=[f"good {n}"],
        rejected=[f"bad {n}"],
        subset=subset,
        category=subset,
    )


GROUPS = [pair(subset, prompt, n) for subset in "abc" for prompt in range(4) for n in range(3)]


def test_a_drawn_prompt_comes_with_all_of_its_pairs():
    drawn = draw(GROUPS, [], 2, seed=0)
    assert len(drawn) == 3 * 2 * 3
    for group in drawn:
        assert sum(other.prompt == group.prompt for other in drawn) == 3
    assert {group.metadata["subset"] for group in draw(GROUPS, ["a", "c"], 1, seed=0)} == {"a", "c"}
    assert draw(GROUPS, [], 2, seed=0) == drawn != draw(GROUPS, [], 2, seed=1)


def test_the_page_gives_the_ratio_of_all_turns():
    ours, theirs = [Timing(10.0, 15.0, 900, 0), Timing(30.0, 35.0, 900, 0)], [Timing(60.0, 90.0, 2000, 500)] * 2
    page = render({"date": "today"}, 20, ours, theirs, "They agree.", (100, 250), 40)
    assert "**3.00 times the pairs/s** (3.60 times by CPU time" in page  # 120 / 40 and 180 / 50.
    assert "| 1 | crome_jax | 10.0 | 15.0 | 2.00 | 900 | 0 |  |" in page
    assert "| 6.00 (6.00) |" in page
    assert "2.50 times as many" in page


def test_the_command_is_shown_without_the_places_of_one_machine():
    assert command._shown(["--data", "x", "--turns", "2", "--table", "y"]) == ["--turns", "2"]
