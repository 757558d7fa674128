"""The testbed keeps its promises: style is a cue as strong as stated, and no word alone tells quality.

`pytest -s` prints what each baseline scores.
"""

import dataclasses
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from crome_jax.data.datasets import causal_testbed
from crome_jax.data.datasets.causal_testbed import (
    SPLITS,
    TEMPLATES,
    CausalTestbed,
    CausalTestbedConfig,
    generate_groups,
)
from crome_jax.data.datasets.testbed.contrast import CAUSAL_ATTRIBUTES
from crome_jax.data.datasets.testbed.requests import REQUESTS
from crome_jax.data.datasets.testbed.style import SPURIOUS_ATTRIBUTES, UNSEEN_ATTRIBUTES
from crome_jax.data.features import decode_group
from crome_jax.errors import CromeError
from crome_jax.evaluation.strata import CUE, stratify
from crome_jax.groups import Kind

STANDARD = CausalTestbedConfig(name="standard", absent=400)
TESTS = ("in_distribution", "reversed", "absent", "unseen")


@pytest.fixture(scope="module")
def splits():
    return {split: list(generate_groups(STANDARD, split)) for split in SPLITS}


def sides(group):
    """Return the chosen and the rejected response."""
    (comparison,) = group.comparisons
    return group.responses[comparison.left], group.responses[comparison.right]


def template(group):
    return group.metadata["template"].split("/")[0]


def accuracy(margins) -> float:
    """Share of pairs ordered rightly; an undecided pair counts half."""
    margins = np.asarray(margins)
    return float(np.mean((margins > 0) + 0.5 * (margins == 0)))


def tokens(text):
    return re.findall(r"\w+|[^\w\s]", text.lower())


def train_words(vectorizer, groups, with_prompt):
    """Train a linear Bradley-Terry model on word features and return its accuracy as a function of groups."""

    def features(some):
        texts = [
            [f"{group.prompt[0].content}\n{r.text}" if with_prompt else r.text for r in sides(group)] for group in some
        ]
        chosen, rejected = zip(*texts, strict=True)
        return vectorizer.transform(chosen) - vectorizer.transform(rejected)

    vectorizer.fit([text for g in groups for text in (g.prompt[0].content, *(r.text for r in sides(g)))])
    signs = np.where(np.arange(len(groups)) % 2, 1, -1)  # half of the differences turned round: two classes
    signed = features(groups).multiply(signs[:, None]).tocsr()
    model = LogisticRegression(fit_intercept=False, max_iter=2000).fit(signed, signs)
    return lambda some: accuracy(model.decision_function(features(some)))


WORDS = r"\w+|[^\w\s]"
BASELINES = [
    pytest.param(lambda: CountVectorizer(token_pattern=WORDS), False, id="words"),
    pytest.param(lambda: CountVectorizer(token_pattern=WORDS, ngram_range=(1, 2)), True, id="bigrams-with-prompt"),
    pytest.param(lambda: TfidfVectorizer(token_pattern=WORDS, ngram_range=(1, 2)), True, id="tfidf-with-prompt"),
]


@pytest.mark.parametrize(("vectorizer", "with_prompt"), BASELINES)
def test_words_learn_the_style_and_fail_when_it_is_reversed(splits, vectorizer, with_prompt):
    score = train_words(vectorizer(), splits["train"], with_prompt)
    scores = {split: score(splits[split]) for split in TESTS}
    print(scores)
    assert scores["in_distribution"] > 0.8
    assert scores["reversed"] <= 0.25
    assert scores["absent"] == pytest.approx(0.5, abs=4 * 0.5 / 400**0.5)
    assert scores["unseen"] <= 0.5


@pytest.mark.parametrize(
    ("vectorizer", "with_prompt"),
    # Unweighted bigrams take half a minute to fit three times.
    [pytest.param(*b.values, id=b.id, marks=pytest.mark.slow if b.id.startswith("bigrams") else ()) for b in BASELINES],
)
def test_words_do_not_tell_quality_where_style_says_nothing(splits, vectorizer, with_prompt):
    # With style present but independent of quality the model can learn that style is worth nothing, and that only.
    # One draw of the training set leaves chance leanings to or from style, which the reversed split adds up over all
    # of its pairs: hence the mean of three.
    drawn = []
    for seed in range(3):
        config = CausalTestbedConfig(name="independent", correlation=0.5, train=2000, seed=seed)
        score = train_words(vectorizer(), list(generate_groups(config, "train")), with_prompt)
        drawn.append([score(splits[split]) for split in ("reversed", "absent")])
    scores = dict(zip(("reversed", "absent"), np.mean(drawn, axis=0), strict=True))
    print(scores)
    assert all(0.45 <= s <= 0.57 for s in scores.values())


@pytest.mark.parametrize(("vectorizer", "with_prompt"), BASELINES)
def test_words_do_not_tell_quality_where_there_is_no_style(vectorizer, with_prompt):
    # The largest and cleanest sample: any word that leaned towards the right answers would be found.
    config = CausalTestbedConfig(name="plain", plain=True, train=2000, absent=1500)
    score = train_words(vectorizer(), list(generate_groups(config, "train")), with_prompt)
    absent = score(list(generate_groups(config, "absent")))
    print(absent)
    assert absent == pytest.approx(0.5, abs=4 * 0.5 / 1500**0.5)


def longer_wins(groups):
    """Return the accuracy of preferring the response of more words."""
    return accuracy([len(a.text.split()) - len(b.text.split()) for a, b in map(sides, groups)])


def test_longer_wins_in_training_and_loses_reversed(splits):
    scores = {split: longer_wins(groups) for split, groups in splits.items()}
    print(scores)
    assert scores["train"] > 0.8
    assert scores["in_distribution"] > 0.8
    assert scores["reversed"] < 0.2
    assert scores["absent"] == pytest.approx(0.5, abs=4 * 0.5 / 400**0.5)
    assert scores["unseen"] < 0.5


OVERLAPS = {
    "types": lambda prompt, words: len(set(words) & set(prompt)),
    "tokens": lambda prompt, words: sum(word in prompt for word in words),
    "counts": lambda prompt, words: sum(prompt.count(word) for word in words),
    "bigrams": lambda prompt, words: len(set(itertools.pairwise(words)) & set(itertools.pairwise(prompt))),
    "share": lambda prompt, words: sum(word in prompt for word in words) / len(words),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlap_with_the_prompt_hints_at_quality_and_does_not_tell_it(splits, name):
    def overlap(groups):
        margins = []
        for group in groups:
            prompt = tokens(group.prompt[0].content)
            better, worse = (OVERLAPS[name](prompt, tokens(r.text)) for r in sides(group))
            margins.append(better - worse)
        return accuracy(margins)

    scores = {split: overlap(splits[split]) for split in TESTS}
    print(scores)
    for kind in sorted(set(map(template, splits["reversed"]))):
        by_split = {s: overlap([g for g in splits[s] if template(g) == kind]) for s in ("reversed", "absent")}
        print(f"  {kind}: {by_split}")
    # No accident: a response that names what the prompt does not hold is wrong for it, and shows by overlap. So does,
    # to who counts how often the prompt says each word, one that leaves out what it asks about by name.
    assert 0.42 <= scores["absent"] <= 0.75
    if name == "share":
        # Style dilutes the share of the prompt's words: a dislike of style, which fails where style favours quality,
        # and where it favours the other response does not come near a plain dislike of length.
        assert scores["in_distribution"] < 0.4
        assert scores["reversed"] < 1 - longer_wins(splits["reversed"])
    else:
        assert max(scores["reversed"], scores["unseen"]) < 0.6


def share_of_the_prompts_words(group, response):
    words = re.findall(r"\w+", response.text.lower())
    prompt = set(re.findall(r"\w+", group.prompt[0].content.lower()))
    return sum(word in prompt for word in words) / len(words)


RULES = {
    "the answer of fewer words wins": lambda group, response: -len(response.text.split()),
    "fewer style attributes win": lambda group, response: (
        -sum(response.metadata[name] for name in SPURIOUS_ATTRIBUTES + UNSEEN_ATTRIBUTES)
    ),
    "the larger share of words that the prompt has wins": share_of_the_prompts_words,
}
"""What a rule that was never trained prefers, by its name in the README."""


@pytest.mark.parametrize("rule", RULES)
def test_rules_without_training_score_what_the_readme_says(splits, rule):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (said,) = re.findall(rf"^\| {rule} \|(.*)\|$", readme, re.MULTILINE)
    scores = []
    for split in TESTS:
        hundred = [(group, *sides(group)) for group in splits[split][:100]]
        scores.append(100 * accuracy([RULES[rule](g, better) - RULES[rule](g, worse) for g, better, worse in hundred]))
    assert scores == pytest.approx([float(percent) for percent in said.split("|")])


@pytest.mark.parametrize("split", SPLITS)
def test_style_has_the_stated_correlation(splits, split):
    favoured = {"reversed": 0.3, "unseen": 0.3, "absent": 0.0}.get(split, STANDARD.correlation)
    present = {"absent": (), "unseen": UNSEEN_ATTRIBUTES}.get(split, SPURIOUS_ATTRIBUTES)
    chosen, rejected = zip(*map(sides, splits[split]), strict=True)
    error = 4 * (0.21 / len(chosen)) ** 0.5
    for name in SPURIOUS_ATTRIBUTES + UNSEEN_ATTRIBUTES:
        rates = [np.mean([r.metadata[name] for r in responses]) for responses in (chosen, rejected)]
        expected = (favoured, 1 - favoured) if name in present else (0, 0)
        assert rates == pytest.approx(expected, abs=error if name in present else 0)


@pytest.mark.parametrize("split", SPLITS)
def test_records_say_what_they_are(splits, split):
    for group in splits[split]:
        chosen, rejected = sides(group)
        assert group.comparisons[0].kind == Kind.HUMAN
        assert group.comparisons[0].target == 1.0
        assert group.metadata["split"] == split
        assert all(chosen.metadata[name] for name in CAUSAL_ATTRIBUTES)
        lowered = [name for name in CAUSAL_ATTRIBUTES if not rejected.metadata[name]]
        assert group.metadata["lowered"] == "+".join(lowered)
        assert 1 <= len(lowered) <= 2
        spurious = SPURIOUS_ATTRIBUTES + UNSEEN_ATTRIBUTES
        for side, a, b in (("chosen", chosen, rejected), ("rejected", rejected, chosen)):
            count = sum(a.metadata[name] and not b.metadata[name] for name in spurious)
            assert group.metadata[f"spurious_for_{side}"] == count
        for response in group.responses:
            styled = any(response.metadata[name] for name in spurious)
            assert (response.text == response.metadata["core"]) == (not styled)


@pytest.mark.parametrize("split", SPLITS)
def test_the_report_finds_the_spurious_attributes_and_which_response_they_favour(splits, split):
    names = {"absent": (), "unseen": UNSEEN_ATTRIBUTES}.get(split, SPURIOUS_ATTRIBUTES)
    cues = Counter()
    for group in splits[split]:
        (comparison,) = group.comparisons
        strata = stratify(group, comparison.left, comparison.right)
        assert {family for family in strata if ":" in family} == {f"attribute:{name}" for name in names}
        more = group.metadata["spurious_for_chosen"] - group.metadata["spurious_for_rejected"]
        assert strata.get("cue") == (CUE[0 if more > 0 else 2 if more < 0 else 1] if names else None)
        cues[strata.get("cue")] += 1
    if names:
        with_style = CUE[2] if split in ("reversed", "unseen") else CUE[0]
        assert cues[with_style] > 0.7 * len(splits[split])
        assert all(cues[cue] > 0 for cue in CUE)


def test_categories_attributes_and_sides_are_balanced(splits):
    for split, groups in splits.items():
        categories = Counter(group.metadata["category"] for group in groups)
        assert categories.keys() == TEMPLATES.keys()
        assert max(categories.values()) - min(categories.values()) <= 1
        harmful = sum(group.metadata["harmful"] for group in groups)
        assert abs(2 * harmful - categories["safety"]) <= 1, split
        first = sum(group.comparisons[0].left == 0 for group in groups)
        assert first == pytest.approx(len(groups) / 2, abs=4 * (len(groups) / 4) ** 0.5), split


@pytest.mark.parametrize("category", ["chat", "chat-hard", "reasoning"])
def test_one_attribute_is_lowered_as_often_as_another_and_two_now_and_then(category):
    groups = generate_groups(CausalTestbedConfig(name="large", train=4000), "train")
    lowered = Counter(group.metadata["lowered"] for group in groups if group.metadata["category"] == category)
    count = lowered.total()
    for name in ("correct", "complete", "on_topic"):
        assert lowered[name] / count == pytest.approx(0.85 / 3, abs=4 * (0.21 / count) ** 0.5)
    two = sum(n for names, n in lowered.items() if "+" in names) / count
    assert two == pytest.approx(0.15, abs=4 * (0.1275 / count) ** 0.5)


def test_no_prompt_or_core_is_shared_between_train_validation_and_test(splits):
    texts = {
        name: {
            text
            for split in some
            for group in splits[split]
            for text in (group.prompt[0].content, *(r.metadata["core"] for r in group.responses))
        }
        for name, some in {"train": ("train",), "validation": ("validation",), "test": TESTS}.items()
    }
    for one, other in itertools.combinations(texts.values(), 2):
        assert one.isdisjoint(other)
    for groups in splits.values():
        prompts = [group.prompt[0].content for group in groups]
        assert len(set(prompts)) == len(prompts)


def test_no_safety_request_of_the_test_splits_is_known_from_training(splits):
    def actions(split):
        prompts = [g.prompt[0].content for g in splits[split] if g.metadata["category"] == "safety"]
        return {
            f"{verb} {target}"
            for verb, objects in REQUESTS.items()
            for target in itertools.chain(*objects)
            if any(f"{verb} {target}" in prompt for prompt in prompts)
        }

    known, asked = actions("train") | actions("validation"), actions("reversed")
    assert len(known) > 40
    assert len(asked) > 20
    assert known.isdisjoint(asked)


def test_test_splits_differ_in_style_alone(splits):
    questions = [
        [(group.prompt, *(r.metadata["core"] for r in sides(group))) for group in splits[split]] for split in TESTS
    ]
    assert all(other == questions[0] for other in questions[1:])


def test_the_same_config_gives_the_same_groups_and_a_seed_others():
    config = CausalTestbedConfig(name="a", train=40)
    train = list(generate_groups(config, "train"))
    assert list(generate_groups(dataclasses.replace(config, name="b"), "train")) == train
    other = list(generate_groups(dataclasses.replace(config, seed=1), "train"))
    assert {g.prompt for g in train}.isdisjoint(g.prompt for g in other)


def test_a_longer_split_begins_with_the_shorter_one(splits):
    shorter = list(generate_groups(dataclasses.replace(STANDARD, train=50), "train"))
    assert splits["train"][:50] == shorter


def test_another_correlation_keeps_the_questions(splits):
    strong = list(generate_groups(dataclasses.replace(STANDARD, correlation=0.85), "train"))
    cores = [[r.metadata["core"] for g in groups for r in sides(g)] for groups in (strong, splits["train"])]
    assert cores[0] == cores[1]
    rates = [np.mean([sides(g)[0].metadata["long"] for g in groups]) for groups in (strong, splits["train"])]
    assert rates[0] > rates[1]


def test_plain_training_data_has_no_style():
    groups = list(generate_groups(CausalTestbedConfig(name="plain", plain=True, train=40), "train"))
    assert all(r.text == r.metadata["core"] for group in groups for r in group.responses)


def test_the_builder_writes_what_generate_groups_yields(tmp_path):
    config = CausalTestbedConfig(name="tiny", train=12, validation=4, in_distribution=8, reversed=8, absent=0, unseen=8)
    builder = CausalTestbed(data_dir=tmp_path, config=config, file_format="array_record")
    builder.download_and_prepare()
    assert set(builder.info.splits) == set(SPLITS) - {"absent"}
    for split in builder.info.splits:
        read = [decode_group(example) for example in builder.as_data_source(split)]
        assert sorted(read, key=lambda group: group.id) == list(generate_groups(config, split))
    assert builder.info.redistribution_info.license == "Apache-2.0"


def test_named_configs_are_distinct_and_the_first_is_standard():
    configs = CausalTestbed.BUILDER_CONFIGS
    assert len({config.name for config in configs}) == len(configs)
    assert (configs[0].name, configs[0].correlation) == ("standard", STANDARD.correlation)


def test_a_wrong_config_or_split_is_refused():
    with pytest.raises(CromeError, match=r"correlation is 1\.5; give a probability"):
        CausalTestbedConfig(name="x", correlation=1.5)
    with pytest.raises(CromeError, match="size of split train is -1"):
        CausalTestbedConfig(name="x", train=-1)
    with pytest.raises(CromeError, match="no split 'test'; choose one of train"):
        list(generate_groups(STANDARD, "test"))


def test_splits_too_large_to_be_kept_apart_are_refused(monkeypatch):
    monkeypatch.setattr(causal_testbed, "_TRIES", 1)
    config = CausalTestbedConfig(name="x", in_distribution=4000, train=400)
    with pytest.raises(CromeError, match=r"no new .* question .*; ask for smaller splits"):
        list(generate_groups(config, "train"))
