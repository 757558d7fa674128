"""The benchmark on real preferences, on data of the same shapes and a tiny backbone."""

import dataclasses
import gzip
import json
import math
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.data.loading import pack_groups
from crome_jax.data.packing import RowShape
from crome_jax.data.readers import read_groups
from crome_jax.data.shapes import group_from_record
from crome_jax.errors import CromeError
from crome_jax.evaluation.strata import stratify
from crome_jax.groups import Comparison, PreferenceGroup, build_group, prompt_text
from crome_jax.training import study
from crome_jax.weights.backbones import load_backbone

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.real_preferences import __main__ as command
from benchmarks.real_preferences.page import measure_length
from benchmarks.real_preferences.sampling import EVALUATIONS, TRAIN, draw, mark_styles

TINY = (
    "--gin_file=gin/models/tiny.gin",
    "--gin.TRAINABLE=1",
    "--gin.ROW_TOKENS=192",
    "--gin.STEPS=2",
    "--gin.study.search_steps=1",
    "--gin.study.rows_per_step=8",
)
SMALL = ("--prompts=6", "--held-out=2", "--pairs=2", "--gin.LEARNING_RATES=(1e-3,)")
SHARED = "Which river flows through Vienna?"
WORDS = ["river", "stone", "lamp", "cloud", "paper", "wheel", "garden", "violin", "copper", "winter"]


def sentence(rng: random.Random, words: int) -> str:
    return f"The {' '.join(rng.choices(WORDS, k=words))} was built in {rng.randint(1000, 2000)}."


def question(rng: random.Random) -> str:
    """Ask of three things that no other prompt asks of: then answers to one prompt are irrelevant to another."""
    things = ["".join(rng.choices("bcdfghklmnprst", k=7)) for _ in range(3)]
    return f"What is the {things[0]} of {things[1]} in {things[2]}?"


def trained_on(rng: random.Random, number: int) -> dict:
    """A record of AlpacaEval's groups, where the longest answer wins."""
    return {
        "prompt_id": number,
        "prompt": SHARED if number == 3 else question(rng),
        "dataset": "koala",
        "responses": [{"generator": str(n), "text": sentence(rng, 4 + 5 * n)} for n in range(4)],
        "comparisons": [{"left": n, "right": 0, "target": 1.0, "annotator": "a"} for n in (1, 2, 3)],
    }


def evaluated(rng: random.Random, name: str, number: int) -> dict:
    """A record in the shape of the file of that name."""
    prompt = SHARED if number == 0 else question(rng)
    one, other = sentence(rng, 5), sentence(rng, 9)
    if "llmbar_" in name:
        return {"input": prompt, "output_1": one, "output_2": other, "label": 1 + number % 2}
    if "rm_bench" in name:
        texts = [[f"{text}{more}" for more in ("", " Indeed so.", " **Indeed** so.")] for text in (one, other)]
        return {"id": number, "prompt": prompt, "subset": "s", "chosen": texts[0], "rejected": texts[1]}
    return {"id": f"{name}/{number}", "subset": name, "prompt": prompt, "chosen": one, "rejected": other}


def write(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder with every file of the benchmark; one holds a bad record, another one that is too long."""
    folder, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    write(folder / TRAIN, [trained_on(rng, number) for number in range(12)])
    for which in EVALUATIONS.values():
        for file in which.files.values():
            name = Path(file).name.partition(".")[0]
            records = [evaluated(rng, name, number) for number in range(3)]
            if name == "donotanswer":
                records.append(records[0] | {"id": "equal", "rejected": records[0]["chosen"]})
                records.append(records[1] | {"id": "long", "prompt": "word " * 300})
            write(folder / file, records)
    return folder


@pytest.fixture(scope="module")
def page(data, tmp_path_factory) -> tuple[Path, list[list[str]]]:
    """The work folder of a run, and the rows of the page's tables."""
    work = tmp_path_factory.mktemp("work")
    base = load_backbone("tiny", 1)  # Reading its tokenizer takes seconds.
    with pytest.MonkeyPatch.context() as patch:
        for module in (command, study):
            patch.setattr(module, "load_backbone", lambda *_: base)
        command.run(["--data", str(data), "--work", str(work), "--table", str(work / "page.md"), *SMALL, *TINY])
    lines = (work / "page.md").read_text().splitlines()
    return work, [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line.startswith("|")]


@pytest.mark.slow
def test_the_page_holds_what_the_study_found(page):
    work, rows = page
    figures = json.loads((work / "report.json").read_text())
    splits = {name: method["splits"] for name, method in figures["methods"].items()}
    assert set(splits) == {"bradley_terry", "crome"}
    assert set(splits["crome"]) == {"alpaca_eval", *EVALUATIONS}
    for name, which in EVALUATIONS.items():
        row = next(row for row in rows if row[0] == f"**{which.title}**")
        assert int(row[1]) == splits["crome"][name]["comparisons"]
        for method, cell in zip(("bradley_terry", "crome"), row[3:5], strict=True):
            assert float(cell.split()[0]) == pytest.approx(100 * splits[method][name]["accuracy"], abs=0.05)
    held_out = next(row for row in rows if row[0] == "**AlpacaEval, held-out prompts**")
    assert held_out[1] == "6"
    assert held_out[2].startswith("100.0")  # The longer answer wins in all of this data.
    assert {"*easy*", "*normal*", "*hard*", "*longer preferred*", "neighbor", "hep"} - {row[0] for row in rows} == {
        "hep"
    }


@pytest.mark.slow
def test_the_page_counts_what_was_encoded_and_how_fast(page):
    _, rows = page
    header = ["", "comparisons", "tokens for each", "by itself", "saving", "responses cut", "tokens/s"]
    start = rows.index(header) + 2
    table = rows[start : start + 4 + len(EVALUATIONS)]
    assert [row[0] for row in table[:2]] == ["training of bradley_terry", "training of crome"]
    assert table[-1][0] == "**all**"
    for row in table:
        each, alone = float(row[2]), float(row[3])
        assert float(row[4].split()[0]) == pytest.approx(alone / each, rel=0.005)  # Of figures rounded to 0.1 tokens.
        assert each < alone  # Here a prompt has two answers at least, and nothing is cut.
        assert row[5] == "0"
    assert int(table[-1][1]) == sum(int(row[1]) for row in table[:-1])


@pytest.mark.slow
def test_no_prompt_is_trained_on_that_is_measured(page):
    work, _ = page
    asked = {
        split: {prompt_text(group.prompt) for group in read_groups(work / "data", split=split)}
        for split in ("validation", "alpaca_eval", *EVALUATIONS)
    }
    trained = {prompt_text(group.prompt) for group in read_groups(work / "train.jsonl")}
    assert SHARED in asked["llmbar"]
    assert len(trained) == 6
    for prompts in asked.values():
        assert not trained & prompts
    assert not asked["validation"] & asked["alpaca_eval"]


@pytest.mark.slow
def test_the_page_accounts_for_every_record(page):
    _, rows = page
    account = {tuple(row[:2]): row[2:] for row in rows if len(row) == 7 and row[1].endswith(".gz")}
    assert account["rewardbench_safety", "eval/rewardbench_rebuilt/donotanswer.jsonl.gz"][:2] == ["1", "1"]
    assert account["train", TRAIN] == ["0", "0", "1", "6", "18"]
    assert account["rm_bench", "eval/rm_bench_chat_sample20.jsonl.gz"] == ["0", "0", "0", "3", "27"]
    assert account["mt_bench", "eval/llmbar_processed_mt-bench.jsonl.gz"] == ["0", "0", "0", "2", "2"]


@pytest.mark.parametrize("asked", [(), ("--gin.STEPS=2",)])
def test_a_full_run_sees_every_row_once_unless_told_otherwise(data, tmp_path, monkeypatch, asked):
    class Studied(Exception):
        pass

    def crome(verb, *arguments):
        if verb == "study":
            raise Studied(*arguments)
        assert command.crome_main([verb, *map(str, arguments)]) == 0

    base = load_backbone("tiny", 1)
    monkeypatch.setattr(command, "load_backbone", lambda *_: base)
    monkeypatch.setattr(command, "_crome", crome)
    monkeypatch.setattr(command, "FULL", dataclasses.replace(command.FULL, held_out=2))
    flags = ("--full", *(flag for flag in TINY if "STEPS" not in flag), *asked)
    with pytest.raises(Studied) as caught:
        command.run(["--data", str(data), "--work", str(tmp_path), "--table", str(tmp_path / "page.md"), *flags])
    *_, steps = (flag for flag in caught.value.args if flag.startswith("--gin.STEPS="))
    rows = len(pack_groups(read_groups(tmp_path / "groups.jsonl"), base.tokenizer, RowShape(192)))
    assert rows > 8  # Of which a step takes 8, as TINY says.
    assert steps == (asked[0] if asked else f"--gin.STEPS={math.ceil(rows / 8)}")


def test_data_that_is_not_there_is_said(data, tmp_path):
    with pytest.raises(CromeError, match=r"nowhere: no such folder; .*--data"):
        command.run(["--data", str(tmp_path / "nowhere")])
    (tmp_path / "eval").symlink_to(data / "eval")
    with pytest.raises(CromeError, match=f"lacks {TRAIN};"):
        command.run(["--data", str(tmp_path)])


@st.composite
def groups_with_many_comparisons(draw_one) -> PreferenceGroup:
    responses = draw_one(st.integers(2, 7))
    sides = st.lists(st.integers(0, responses - 1), min_size=2, max_size=2, unique=True)
    compared = draw_one(st.lists(st.tuples(sides, st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=12))
    return build_group(
        id=str(draw_one(st.integers(0, 99))),
        prompt="Why?",
        responses=[f"Answer {r}" for r in range(responses)],
        comparisons=[Comparison(*pair, target=target) for pair, target in compared],
    )


def judgements(group: PreferenceGroup) -> set[tuple[str, str, float]]:
    return {(group.responses[c.left].text, group.responses[c.right].text, c.target) for c in group.comparisons}


@given(groups_with_many_comparisons(), st.integers(1, 5), st.integers(0, 3))
def test_drawn_comparisons_are_the_groups_own_with_just_the_responses_they_need(group, most, seed):
    (drawn,) = draw([group], 1, most, seed)
    pairs = [frozenset((c.left, c.right)) for c in drawn.comparisons]
    distinct = {frozenset((c.left, c.right)) for c in group.comparisons}
    assert judgements(drawn) <= judgements(group)
    assert len(pairs) == len(set(pairs)) == min(most, len(distinct))
    assert set().union(*pairs) == set(range(len(drawn.responses)))


@given(st.lists(groups_with_many_comparisons(), min_size=1, max_size=6, unique_by=lambda group: group.id))
def test_what_is_drawn_does_not_depend_on_the_order(groups):
    assert draw(groups, 3, 2, seed=1) == draw(groups[::-1], 3, 2, seed=1)


def test_comparisons_share_responses_where_they_can():
    pairs = [(0, 1), (2, 3), (4, 5), (1, 2), (3, 4), (0, 2)]
    group = build_group(
        id="a", prompt="Why?", responses=map(str, range(6)), comparisons=[Comparison(*pair) for pair in pairs]
    )
    for seed in range(8):
        (drawn,) = draw([group], 1, 3, seed)
        assert len(drawn.responses) <= 4


def test_styles_are_strata_of_the_benchmark():
    record = {"id": 7, "prompt": "Why?", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]}
    group = mark_styles(group_from_record(record, "x"))
    for comparison in group.comparisons:
        better, worse = (group.responses[side].metadata["style"] for side in (comparison.left, comparison.right))
        expected = "balanced" if better == worse else "cue_for_chosen" if better > worse else "cue_for_rejected"
        assert stratify(group, comparison.left, comparison.right)["cue"] == expected


def test_length_is_measured_in_words():
    group = build_group(id="a", prompt="Why?", responses=["aaaaaaaa", "b b"], comparisons=[Comparison(0, 1)])
    other = dataclasses.replace(group, id="b", comparisons=(Comparison(1, 0),))
    assert measure_length({"one": [group], "two": [other]})["splits"]["one"]["accuracy"] == 0
    assert measure_length({"one": [group], "two": [other]})["splits"]["two"]["accuracy"] == 1
