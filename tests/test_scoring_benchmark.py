"""The benchmark of scoring draws whole prompts in their proportions, and its page says what the timings are."""

from types import SimpleNamespace

import numpy as np
from toy import WordTokenizer, text_groups

from benchmarks.scoring import __main__ as command
from benchmarks.scoring.__main__ import (
    Prompt,
    Timing,
    Transformers,
    Work,
    bounds,
    by_prompt,
    count_work,
    draw,
    render,
)
from crome_jax.data.datasets.benchmarks.groups import benchmark_group
from crome_jax.data.packing import RowShape
from crome_jax.models.config import tiny


def pair(subset, prompt, n, words=1):
    return benchmark_group(
        id=f"{subset}/{prompt}/{n}",
        prompt=f"Prompt {prompt}?",
        chosen=[f"good {n} " + "word " * words],
        rejected=[f"bad {n}"],
        subset=subset,
        category=subset,
    )


class Words:
    """A tokenizer of words; a prompt takes three tokens besides."""

    def encode_prompt(self, prompt):
        return [0] * (3 + len(prompt[0].content.split()))

    def encode_responses(self, texts):
        return [text.split() for text in texts]


class Base:
    tokenizer = Words()


def prompts(counts):
    """Make so many prompts of each subset, asked by three pairs each, the longer the later."""
    groups = [pair(s, f"{s}{n}", m, words=n) for s, count in counts.items() for n in range(count) for m in range(3)]
    return by_prompt(groups, Base())


def test_the_tokens_of_a_prompt_are_counted_once_and_by_every_text():
    # The prompt takes 3 + 2 tokens, its answers 2 + 4 and 2 in each of three pairs, none of them equal.
    (found,) = by_prompt([pair("a", 0, n, words=4) for n in range(3)], Base())
    assert (found.distinct, found.alone) == (5 + 3 * 8, 3 * (2 * 5 + 8))
    # The same answers to the same prompt in another subset add nothing but texts by themselves.
    (both,) = by_prompt([pair(subset, 0, 0, words=4) for subset in "ba"], Base())
    assert both.subsets == ("a", "b")
    assert (both.distinct, both.alone) == (5 + 8, 2 * (2 * 5 + 8))


def test_what_is_drawn_has_every_subset_and_length_in_its_share():
    whole = prompts({"a": 40, "b": 80, "c": 20})
    drawn = draw(whole, 10)
    assert [sum(p.subsets == (s,) for p in drawn) for s in "abc"] == [4, 8, 2]
    assert all(len(prompt.groups) == 3 for prompt in drawn)  # With all of its pairs.
    mean = lambda some: np.mean([prompt.alone for prompt in some if prompt.subsets == ("b",)])  # noqa: E731
    assert abs(mean(drawn) / mean(whole) - 1) < 0.1
    assert draw(whole[::-1], 10) == drawn
    assert draw(whole, 1) == sorted(whole, key=lambda p: (p.subsets, p.alone, p.groups[0].id))


def test_the_page_gives_the_ratio_of_the_run_that_did_not_compile():
    ours = {"compiling": Timing(30.0, 35.0, 900, 100), "": Timing(10.0, 15.0, 900, 100)}
    some = [Prompt(("a",), ("pair", "pair"), 100, 250)]
    page = render({"date": "today"}, 20, ours, Timing(60.0, 90.0, 2000, 500), "They agree.", some, some * 2, WORK, 5e10)
    assert "**6.00 times the pairs/s** (6.00 times by CPU time" in page  # 60 / 10 and 90 / 15.
    assert "| crome_jax, compiling | 30.0 | 35.0 | 0.67 | 900 | 100 | 30 |" in page
    assert "| crome_jax | 10.0 | 15.0 | 2.00 | 900 | 100 | 90 |" in page
    assert "| transformers | 60.0 | 90.0 | 0.33 | 2,000 | 500 | 33 |" in page
    assert "2.50 times as many. What was scored here takes 2.50" in page
    assert "| a | 2 | 50.0% | 250 | 50.0% |" in page


WORK = Work(weights=3e11, attention=1e11)


def test_the_page_says_what_attention_takes_and_how_near_the_machine_s_speed_it_is():
    said = bounds(Timing(10.0, 15.0, 900, 100), Timing(60.0, 90.0, 2000, 500), WORK, 5e10, 2.5)
    assert "computes 0.40 TFLOP, 25% of them in attention" in said
    assert "40 GFLOP/s (30 without attention) of the 50" in said  # 0.4 TFLOP in 10 seconds.
    assert "100 tokens/s with the padding, transformers 42" in said
    assert "2.50 times, less 10% of padding" in said


def test_the_work_is_that_of_the_rows_that_are_packed():
    cfg = tiny(layers=3, vocab_size=64)
    model = SimpleNamespace(cfg=cfg, tokenizer=WordTokenizer(), shape=RowShape(256, 64, 1))
    found = count_work(model, text_groups(2), 256)  # Both in one row.
    d, e = cfg.width, cfg.head_width
    keys, other = 2 * d * cfg.kv_heads * e, 2 * d * cfg.heads * e + 3 * d * cfg.ffn_width
    # Two FLOP a weight and token; the last layer keeps all keys and asks for the 64 slots alone, also of attention.
    weights = 2 * (2 * 256 * (keys + other) + 256 * keys + 64 * other)
    pairs = 4 * cfg.heads * e * 256**2 / 2
    assert found.attention == 2 * pairs
    assert found.weights == weights + pairs * 64 / 256
    assert count_work(model, text_groups(2), 512) == Work(2 * found.weights, 2 * found.attention)


def test_transformers_gets_the_batch_that_is_the_fastest(monkeypatch):
    other = object.__new__(Transformers)
    seconds = {1: 5.0, 4: 2.0, 16: 4.0}
    monkeypatch.setattr(other, "time", lambda texts, batch: (Timing(seconds[batch], 1.0, 100, 0), None))
    assert other.fastest(["a", "b"], [1, 4, 16]) == (4, {1: 20.0, 4: 50.0, 16: 25.0})


def test_the_command_is_shown_without_the_places_of_one_machine():
    assert command._shown(["--data", "x", "--every", "2", "--table", "y"]) == ["--every", "2"]
