"""The verbs that train and use a model, on a tiny backbone."""

import functools
import io
import json
import shutil
import sys
import time
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from fake_endpoint import Answer, FakeEndpoint

from crome_jax.cli import main
from crome_jax.data.datasets.causal_testbed import CausalTestbedConfig, generate_groups
from crome_jax.data.readers import read_groups
from crome_jax.evaluation.outcome_files import read_outcomes
from crome_jax.evaluation.score_journal import ScoreJournal
from crome_jax.evaluation.scoring import score_groups
from crome_jax.groups import Kind, prompt_text, to_json
from crome_jax.training import train as training
from crome_jax.verbs import score as scoring_verb
from crome_jax.verbs.evaluate import DataSet, data_set

TINY = ("--gin_file=gin/models/tiny.gin", "--gin.TRAINABLE='head'", "--gin.ROW_TOKENS=256", "--gin.STEPS=2")
SMALL = CausalTestbedConfig(name="small", train=16, in_distribution=12)


def run(*arguments) -> int:
    return main(last_of_each([str(argument) for argument in arguments]))


def last_of_each(arguments: list[str]) -> list[str]:
    """Leave out the earlier of two bindings of a name: what a test says takes the place of what its helper does."""
    names = [argument.partition("=")[0] for argument in arguments]
    last = {name: at for at, name in enumerate(names)}
    return [argument for at, argument in enumerate(arguments) if names[at][:6] != "--gin." or last[names[at]] == at]


def train_command(data, out, *further) -> list[str]:
    return ["train", "--gin_file=gin/runs/crome.gin", *TINY, f"--gin.DATA='{data}'", f"--gin.OUT='{out}'", *further]


@pytest.fixture(scope="module", autouse=True)
def one_backbone():
    """Read the tokenizer once for all tests: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_backbone", functools.cache(training.load_backbone))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with preference data, groups made of it, a held-out set, and a run trained on the groups."""
    folder = tmp_path_factory.mktemp("place")
    for name, split in (("prefs", "train"), ("held_out", "in_distribution")):
        lines = [to_json(group) for group in generate_groups(SMALL, split)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    assert run("augment", "--data", folder / "prefs.jsonl", "--out", folder / "groups") == 0
    assert run(*train_command(folder / "groups", folder / "run")) == 0
    return folder


@pytest.fixture
def own_run(place, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(place / "run", tmp_path / "run")


@pytest.fixture
def records(place):
    """What is to be scored: each prompt twice, and not together."""
    groups = list(read_groups(place / "held_out.jsonl"))
    return [
        {"prompt": prompt_text(group.prompt), "response": group.responses[r].text, "note": f"{group.id} — {r}"}
        for r in range(2)
        for group in groups
    ]


def score(records, *flags) -> tuple[int, list[dict]]:
    """Run `crome score` on standard input and return its status and what it wrote."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    given, written = io.BytesIO("\n".join(lines).encode()), io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=given))
        patch.setattr(sys, "stdout", SimpleNamespace(buffer=written, flush=lambda: None))
        status = run("score", *flags)
    return status, [json.loads(line) for line in written.getvalue().decode().splitlines()]


def test_training_leaves_a_whole_run(place):
    run_folder = place / "run"
    assert {path.name for path in run_folder.iterdir()} >= {"model.json", "checkpoints", "events", "metrics.jsonl"}
    operative = (run_folder / "operative_config.gin").read_text()
    for line in ("STEPS = 2", "adamw.beta1 = 0.9", "crome.neutral_weight = 1.0", "make_mesh.data = -1"):
        assert line in operative.splitlines()
    assert not (place / "run.bad.jsonl").exists()


def test_the_same_command_again_says_that_it_is_finished(place, own_run, capsys):
    assert run(*train_command(place / "groups", own_run)) == 0
    assert f"{own_run}: finished already, at step 2" in capsys.readouterr().err


def test_more_steps_go_on_from_where_the_run_stood(place, own_run, capsys):
    assert run(*train_command(place / "groups", own_run, "--gin.STEPS=3")) == 0
    printed = capsys.readouterr()
    assert f"{own_run}: resumed at step 2" in printed.err
    assert "tokens/s" in printed.out


def test_a_run_is_not_continued_by_another_configuration(place, own_run, capsys):
    assert run(*train_command(place / "groups", own_run, "--gin.ROW_TOKENS=192")) == 2
    assert "holds another run (row_tokens was 256, is 192" in capsys.readouterr().err
    assert run(*train_command(place / "prefs.jsonl", own_run)) == 2
    assert f"{place / 'prefs.jsonl'} holds no causal comparison" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("binding", "difference"),
    [
        ("SEED=7", "seed was '0', is '7'"),
        ("crome.neutral_weight=0.5", "crome.neutral_weight was '1.0', is '0.5'"),
        ("adamw.learning_rate=0.5", "adamw.learning_rate was "),
    ],
)
def test_a_run_does_not_go_on_under_other_settings(place, own_run, capsys, binding, difference):
    assert run(*train_command(place / "groups", own_run, "--gin.STEPS=3", f"--gin.{binding}")) == 2
    printed = capsys.readouterr().err
    assert "holds another run (" in printed
    assert difference in printed
    assert run(*train_command(place / "groups", own_run, "--gin.STEPS=3", "--gin.train.log_every=1")) == 0


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--gin.train.stepz=3"], "'train' doesn't have a parameter named 'stepz'"),
        (["--gin.BACKBONE='nothing.gguf'"], "nothing.gguf"),
        (["--gin.ROW_TOKENS=24"], "'prompt' takes"),
        (["--gin.DATA='nowhere.jsonl'"], "nowhere.jsonl: does not exist"),
        (["--gin.adamw.learning_rate='fast'"], "adamw.learning_rate is 'fast', not float"),
        (["--gin.TRAINABLE='all'", "--gin.train.cache_frozen=True"], "cache_frozen needs frozen layers"),
        (["--gin.TRAINABLE=99"], "tiny has 3 layers; trainable = 99 is not one to 3"),
        (["--gin.train.dtype='float7'"], "dtype is 'float7'; give 'float32' or 'bfloat16'"),
        (["--gin.train.attention='tpu'"], "attention is 'tpu', but the devices are cpu, for which that kernel"),
        (["--gin.STEPS=0"], "steps is 0; give 1 or more"),
        (["--gin.RowShape.responses=1"], "RowShape.responses is 1; a pair of responses needs 2 at least"),
        (["--gin.train.micro_batches=3"], "rows_per_step is 8, in 3 micro-batches over"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(place, tmp_path, capsys, flags, problem):
    assert run(*train_command(place / "groups", tmp_path / "run", *flags)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("crome: error: ")
    assert problem in error


def test_a_run_folder_that_cannot_be_written_is_said(place, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(*train_command(place / "groups", tmp_path / "file" / "run")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_training_sets_bad_records_aside(place, tmp_path, capsys):
    data = tmp_path / "groups.jsonl"
    groups = list(read_groups(place / "groups"))
    long = json.loads(to_json(groups[0])) | {"id": "long"}
    long["prompt"][-1]["content"] = "word " * 300
    data.write_text("\n".join(["{", *map(to_json, groups), json.dumps(long)]))
    assert run(*train_command(data, tmp_path / "run"), "--skip-bad") == 0
    assert "2 records set aside" in capsys.readouterr().err
    aside = [json.loads(line) for line in (tmp_path / "run.bad.jsonl").read_text().splitlines()]
    assert "is not JSON" in aside[0]["error"]
    assert "'prompt' takes" in aside[1]["error"]


def test_goodput_counts_the_time_from_the_command_s_start(place, tmp_path, monkeypatch):
    begun = []
    # What the command does before anything is loaded.
    monkeypatch.setattr("crome_jax.verbs.train.say_terms", lambda backbone: begun.append(time.time()))
    assert run(*train_command(place / "groups", tmp_path / "run")) == 0
    *_, line = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert line["goodput/since"] < begun[0]
    assert line["goodput"] == pytest.approx(line["goodput/run"], rel=0.01)


def test_evaluation_writes_every_figure_and_prints_the_main_ones(place, tmp_path, capsys):
    data = [f"held={place / 'held_out.jsonl'}", place / "groups"]
    assert run("evaluate", "--checkpoint", place / "run", "--out", tmp_path / "out", "--data", *data) == 0
    table = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    splits = figures["methods"]["crome"]["splits"]
    held_out = list(read_groups(place / "held_out.jsonl"))
    scores = score_groups(training.load_run(place / "run"), held_out)
    margins = [
        values[c.left] - values[c.right]
        for group, values in zip(held_out, scores.rewards, strict=True)
        for c in group.comparisons
    ]
    accuracy = float(np.mean((np.array(margins) > 0) + 0.5 * (np.array(margins) == 0)))
    assert splits["held"]["accuracy"] == pytest.approx(accuracy)
    assert splits["held"]["interval"][0] <= accuracy <= splits["held"]["interval"][1]
    assert splits["held"]["comparisons"] == 12
    assert splits["groups"]["by_kind"].keys() >= {"human", "causal"}
    assert figures["counterfactuals"]
    assert [record["step"] for record in figures["methods"]["crome"]["training"]] == [2]
    assert f"{accuracy:.1%}" in table
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    by_data = {row["data"]: row for row in figures["facts"]["scoring"]}
    assert (
        by_data["groups"]["tokens encoded for each comparison"]
        < by_data["groups"]["if every pair were encoded by itself"]
    )
    assert by_data["held"]["tokens encoded"] == scores.tokens
    assert {len(row["sha256"]) for row in figures["facts"]["data"]} == {64}


def test_several_runs_are_compared_on_the_same_groups(place, tmp_path, capsys):
    shutil.copytree(place / "run", tmp_path / "other")
    runs = ["--checkpoint", place / "run", tmp_path / "other"]
    data = ["--data", place / "held_out.jsonl"]
    assert run("evaluate", *runs, *data) == 2
    assert "--out" in capsys.readouterr().err
    assert run("evaluate", *runs, *data, "--out", tmp_path / "out") == 0
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    first, second = figures["methods"].values()
    assert set(figures["methods"]) == {f"crome ({place / 'run'})", f"crome ({tmp_path / 'other'})"}
    assert first["splits"] == second["splits"]
    (difference,) = figures["differences"]["held_out"].values()
    assert difference["difference"] == 0


def test_evaluation_sets_aside_what_no_row_has_room_for(place, tmp_path, capsys):
    held_out = [json.loads(to_json(group)) for group in read_groups(place / "held_out.jsonl")]
    held_out[3]["prompt"][-1]["content"] = "word " * 300
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, held_out)))
    flags = ["evaluate", "--checkpoint", place / "run", "--data", data, "--out", tmp_path / "out"]
    assert run(*flags) == 2
    assert f"record 4 of {data}: 'prompt' takes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(*flags, "--skip-bad") == 0
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["methods"]["crome"]["splits"]["data"]["comparisons"] == 11
    (aside,) = map(json.loads, (tmp_path / "out.bad.jsonl").read_text().splitlines())
    assert (json.loads(aside["raw"]), aside["file"], aside["record"]) == (held_out[3], str(data), 4)
    # Of several runs each refuses the group; it is one bad record.
    shutil.copytree(place / "run", tmp_path / "other")
    flags[2:3] = [place / "run", tmp_path / "other"]
    (tmp_path / "out.bad.jsonl").unlink()
    capsys.readouterr()
    assert run(*flags, "--skip-bad") == 0
    assert "1 bad records set aside" in capsys.readouterr().err
    assert len((tmp_path / "out.bad.jsonl").read_text().splitlines()) == 1


@pytest.fixture(scope="module")
def pairs(place):
    """RewardBench's shape: a folder with the held-out pairs in three of its subsets."""
    folder = place / "rewardbench"
    folder.mkdir()
    subsets = ("alpacaeval-easy", "donotanswer", "hep-go")
    lines = [
        json.dumps(
            {
                "id": n,
                "subset": subsets[n % 3],
                "prompt": prompt_text(group.prompt),
                "chosen": group.responses[group.comparisons[0].left].text,
                "rejected": group.responses[group.comparisons[0].right].text,
            }
        )
        for n, group in enumerate(read_groups(place / "held_out.jsonl"))
    ]
    (folder / "filtered.jsonl").write_text("\n".join(lines))
    return folder


def test_a_benchmark_gives_its_own_table(place, pairs, tmp_path, capsys):
    flags = ["evaluate", "--checkpoint", place / "run", "--manual_dir", pairs, "--out", tmp_path / "out"]
    assert run(*flags, "--benchmark", "rewardbench", "pairs") == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    found = figures["benchmarks"]["rewardbench"]["methods"]["crome"]
    sections = {row["name"]: row["score"] for row in found["rows"] if row["level"] == "section"}
    assert found["score"] == pytest.approx((sections["Chat"] + sections["Safety"] + sections["Reasoning"]) / 3)
    assert not found["complete"]
    assert "the score is of the rest" in printed
    assert f"{100 * found['score']:.1f}" in printed
    assert 0 < figures["benchmarks"]["pairs"]["reference"]["longer answer"]["score"] < 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Not the whole benchmark" in page
    assert "ODC-BY" in page
    (run_facts,) = figures["facts"]["runs"]
    assert "<|im_start|>" in run_facts["chat template"]
    assert {row["responses cut"] for row in figures["facts"]["scoring"]} == {0}
    outcomes = read_outcomes(tmp_path / "out")
    assert len(outcomes) == 24
    right = [
        line
        for line in outcomes
        if line["data"] == "rewardbench" and line["rewards"]["crome"][0] > line["rewards"]["crome"][1]
    ]
    assert len(right) / 12 == figures["methods"]["crome"]["splits"]["rewardbench"]["accuracy"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # No journal is left.


def test_bad_records_of_a_benchmark_are_counted_beside_its_score(place, pairs, tmp_path, capsys):
    good, *_, other = (pairs / "filtered.jsonl").read_text().splitlines()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "filtered.jsonl").write_text("\n".join([good, '{"id": "bad"}', other]))
    flags = ["evaluate", "--checkpoint", place / "run", "--manual_dir", tmp_path / "files", "--out", tmp_path / "out"]
    assert run(*flags, "--benchmark", "rewardbench", "--skip-bad") == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())["benchmarks"]["rewardbench"]
    assert (found["set_aside"], found["left_out"], found["methods"]["crome"]["examples"]) == (1, 0, 2)
    said = "1 record was bad and set aside, so the score is of the rest."
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "report.html").read_text()


def test_a_benchmark_without_its_files_writes_nothing(place, tmp_path, capsys):
    flags = ["evaluate", "--checkpoint", place / "run", "--out", tmp_path / "out", "--benchmark", "rm_bench"]
    assert run(*flags, "--manual_dir", tmp_path) == 2
    assert "holds no file of RM-Bench" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run("evaluate", "--checkpoint", place / "run") == 2
    assert "there is nothing to measure on" in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(place):
    """The run as a Hugging Face folder."""
    assert run("export", "--checkpoint", place / "run", "--out", place / "exported") == 0
    return place / "exported"


def test_a_hugging_face_folder_is_measured_as_the_run_that_it_is(place, folder, pairs, tmp_path):
    data = ["--benchmark", "rewardbench", "--manual_dir", pairs]
    assert run("evaluate", "--checkpoint", place / "run", folder, *data, "--out", tmp_path / "out") == 0
    for line in read_outcomes(tmp_path / "out"):
        ours, theirs = line["rewards"].values()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_folder_without_a_chat_template_or_a_head_is_refused(folder, pairs, tmp_path, capsys):
    bare = shutil.copytree(folder, tmp_path / "bare")
    config = json.loads((bare / "tokenizer_config.json").read_text())
    template = config.pop("chat_template")
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    flags = ["evaluate", "--benchmark", "pairs", "--manual_dir", pairs, "--out", tmp_path / "out", "--checkpoint"]
    assert run(*flags, bare) == 2
    assert "ships no chat template" in capsys.readouterr().err
    (tmp_path / "template.jinja").write_text(template)
    assert run(*flags, bare, "--chat-template", tmp_path / "template.jinja") == 0
    config = json.loads((bare / "config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (bare / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert run(*flags, bare, "--chat-template", "chatml") == 2
    assert "is no sequence classifier" in capsys.readouterr().err


def test_prior_sets_without_their_benchmark_are_refused(place, pairs, tmp_path, capsys):
    flags = ["evaluate", "--checkpoint", place / "run", "--benchmark", "pairs", "--manual_dir", pairs]
    assert run(*flags, "--out", tmp_path / "out", "--prior-sets") == 2
    assert "--prior-sets are RewardBench's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_killed_evaluation_goes_on_where_it_was(place, pairs, tmp_path, monkeypatch):
    flags = ["evaluate", "--checkpoint", place / "run", "--benchmark", "pairs", "--manual_dir", pairs]
    flags += ["--rows-at-once", 1, "--out"]
    assert run(*flags, tmp_path / "whole") == 0

    def kill(journal, batch, values):
        add(journal, batch, values)
        raise KeyboardInterrupt

    add = ScoreJournal.add
    with monkeypatch.context() as patch:
        patch.setattr(ScoreJournal, "add", kill)
        assert run(*flags, tmp_path / "out") == 130
    assert not (tmp_path / "out").exists()
    (journal,) = (tmp_path / ".out.scores").iterdir()
    with journal.open("ab") as file:
        file.write(b'{"batch": "256x')  # As a kill in the middle of a line leaves it.
    assert run(*flags, tmp_path / "out") == 0
    assert not (tmp_path / ".out.scores").exists()
    first, second = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "out"))
    assert second["facts"]["scoring"][0]["batches found done"] == 1
    assert second["benchmarks"] == first["benchmarks"]
    assert second["methods"] == first["methods"]


def test_a_diagnosis_tells_what_a_model_rewards(place, folder, tmp_path, capsys):
    flags = ["diagnose", "--data", place / "held_out.jsonl", "--prompts", 4, "--out"]
    assert run(*flags, tmp_path / "run", "--model", place / "run") == 0
    printed = capsys.readouterr().out
    assert "effect of bullets (spurious)" in printed
    assert run(*flags, tmp_path / "folder", "--model", folder) == 0
    ours, theirs = (json.loads((tmp_path / name / "diagnosis.json").read_text()) for name in ("run", "folder"))
    assert ours["facts"]["prompts"] == 4
    assert ours["facts"]["responses cut"] == 0
    for attribute, effect in ours["effects"]["spurious"].items():
        # fp32 rounding of rewards packed into rows of another length.
        assert effect["double"]["ate"] == pytest.approx(
            theirs["effects"]["spurious"][attribute]["double"]["ate"], abs=1e-5
        )
    page = (tmp_path / "run" / "diagnosis.html").read_text()
    assert "<title>What crome rewards</title>" in page
    assert run(*flags, tmp_path / "none", "--model", tmp_path) == 2
    assert "no model.json" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_best_of_n_is_measured_from_a_file(place, tmp_path, capsys):
    records = [
        {
            "prompt": prompt_text(group.prompt),
            "candidates": ["It is 3.", "It is 4.", "It is 4.", "Who knows?"],
            "answer": 4,
        }
        for group in list(read_groups(place / "held_out.jsonl"))[:3]
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, records)))
    flags = ["best_of_n", "--model", place / "run", "--candidates", tmp_path / "c.jsonl", "--out", tmp_path / "out"]
    assert run(*flags, "--judge", "refusal") == 2
    assert "'harmful' is not true or false" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(*flags, "--judge", "exact") == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    assert [point["n"] for point in figures["curve"]] == [1, 2, 4]
    assert figures["curve"][0]["value"] == 0.5
    by_prompt = np.array(figures["by_prompt"]["values"])
    np.testing.assert_allclose(by_prompt.mean(0), [point["value"] for point in figures["curve"]])
    assert f"best of 4: {100 * figures['curve'][2]['value']:.1f}%" in printed
    assert figures["facts"]["responses cut"] == 0
    assert "Best of N by crome" in (tmp_path / "out" / "best_of_n.html").read_text()


def test_best_of_n_of_candidates_that_an_endpoint_writes(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # Where the replies are kept.
    monkeypatch.setenv("KEY_OF_THE_ENDPOINT", "sk-THE-SECRET-0123456789")
    prompts = [prompt_text(group.prompt) for group in list(read_groups(place / "held_out.jsonl"))[:2]]
    records = [{"prompt": prompt, "answer": 4} for prompt in prompts]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, records)))
    flags = ["best_of_n", "--model", place / "run", "--judge", "exact", "--samples", 4, "--candidates"]
    with FakeEndpoint(lambda number, body: Answer(f"It is {body['seed']}.")) as endpoint:
        asked = ["--endpoint", endpoint.url, "--endpoint-key", "KEY_OF_THE_ENDPOINT", "--out", tmp_path / "out"]
        assert run(*flags, tmp_path / "p.jsonl", *asked) == 0
        assert run(*flags, tmp_path / "p.jsonl", *asked) == 0
        assert len(endpoint.requests) == 8
        assert {head["authorization"] for head in endpoint.headers} == {"Bearer sk-THE-SECRET-0123456789"}
        assert run(*flags, tmp_path / "out" / "candidates.jsonl", *asked) == 2
    said = capsys.readouterr()
    assert "is where candidates go, and the prompts are read from it" in said.err
    assert run(*flags, tmp_path / "p.jsonl", "--endpoint", "http://me:SECRET@host/v1", "--out", tmp_path / "x") == 2
    assert "give one without a user" in (refused := capsys.readouterr()).err.replace("\n", " ")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"SECRET" in text for text in written)
    assert "SECRET" not in "".join((*said, *refused))
    figures = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    assert figures["curve"][0]["value"] == 0  # 0, 1, 2 and 3, and the answer is 4.
    written = [json.loads(line) for line in (tmp_path / "out" / "candidates.jsonl").read_text().splitlines()]
    assert written[0] == records[0] | {"candidates": [f"It is {n}." for n in range(4)]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b.jsonl", ("b", "a/b.jsonl", None)),
        ("testbed@reversed", ("reversed", "testbed", "reversed")),
        ("mine=testbed@reversed", ("mine", "testbed", "reversed")),
        ("mine=a/b.jsonl.gz", ("mine", "a/b.jsonl.gz", None)),
        ("groups/", ("groups", "groups", None)),
    ],
)
def test_data_sets_are_named(text, expected):
    name, path, split = expected
    found = data_set(text)
    assert (found.name, str(found.path), found.split) == (name, path, split)


def test_a_path_that_is_there_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b@c.jsonl").touch()
    assert data_set("a=b@c.jsonl") == DataSet("a=b@c", tmp_path.__class__("a=b@c.jsonl"), None)


def test_two_data_sets_of_one_name_are_refused(place, capsys):
    data = place / "held_out.jsonl"
    assert run("evaluate", "--checkpoint", place / "run", "--data", data, data) == 2
    assert "2 data sets are called 'held_out'; tell them apart with --data NAME=PATH" in capsys.readouterr().err


def test_scores_come_in_the_order_of_the_records_with_all_they_held(place, records, capsys):
    status, scored = score(records, "--checkpoint", place / "run")
    assert status == 0
    assert [{name: value for name, value in record.items() if name != "reward"} for record in scored] == records
    groups = list(read_groups(place / "held_out.jsonl"))
    expected = score_groups(training.load_run(place / "run"), groups).rewards
    found = [record["reward"] for record in scored]
    np.testing.assert_allclose(found, [e[0] for e in expected] + [e[1] for e in expected], rtol=1e-4, atol=1e-6)
    assert f"{len(records)} responses scored, 0 of them cut" in capsys.readouterr().err


def test_scores_do_not_depend_on_the_chunk(place, records):
    whole = score(records, "--checkpoint", place / "run")[1]
    parts = score(records, "--checkpoint", place / "run", "--chunk", 5, "--rows-at-once", 3)[1]
    assert [record["note"] for record in parts] == [record["note"] for record in whole]
    np.testing.assert_allclose([r["reward"] for r in parts], [r["reward"] for r in whole], rtol=1e-4, atol=1e-6)


def test_files_are_scored_whole_or_not_at_all(place, records, tmp_path, capsys):
    data, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps(record) for record in records]
    data.write_text("\n".join([*lines, "not JSON"]))
    flags = ["score", "--checkpoint", place / "run", "--data", data, "--out", out, "--chunk", 8]
    assert run(*flags) == 2
    assert f"record {len(lines) + 1} of {data}: is not JSON" in capsys.readouterr().err
    assert not out.exists()
    data.write_text("\n".join(lines))
    assert run(*flags) == 0
    assert len(out.read_text().splitlines()) == len(lines)
    assert run(*flags) == 2
    assert "exists already; choose another name or pass --overwrite" in capsys.readouterr().err


def test_killed_scoring_goes_on_where_it_was(place, records, tmp_path, monkeypatch, capsys):
    data = tmp_path / "in.jsonl"
    long = {"prompt": "word " * 300, "response": "yes"}
    mixed = [*records[:3], long, *records[3:8], "{", *records[8:]]
    data.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in mixed))
    flags = ["score", "--checkpoint", place / "run", "--data", data, "--chunk", 4, "--skip-bad", "--out"]
    assert run(*flags, tmp_path / "whole.jsonl") == 0
    chunks = []

    def kill(*arguments, **options):
        chunks.append(arguments)
        if len(chunks) == 3:
            raise KeyboardInterrupt
        return score_items(*arguments, **options)

    score_items = scoring_verb.score_items
    with monkeypatch.context() as patch:
        patch.setattr(scoring_verb, "score_items", kill)
        assert run(*flags, tmp_path / "out.jsonl") == 130
    assert not (tmp_path / "out.jsonl").exists()
    with (tmp_path / ".out.jsonl.scored" / "scored.jsonl").open("ab") as file:
        file.write(b'{"prompt": "half of a chunk')
    capsys.readouterr()
    assert run(*flags, tmp_path / "out.jsonl") == 0
    assert "out.jsonl: resumed after 8 records" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    aside = [(tmp_path / f"{name}.jsonl.bad.jsonl").read_text() for name in ("whole", "out")]
    assert aside[0] == aside[1]
    assert len(aside[0].splitlines()) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_bad_records_are_set_aside_by_their_number(place, records, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    long = {"prompt": "word " * 300, "response": "yes"}
    mixed = ["{", records[0], long, {"prompt": "a"}, long, records[1], '{"prompt": "a", "response": "\\u0000"}']
    status, scored = score(mixed, "--checkpoint", place / "run", "--skip-bad", "--chunk", 1)
    assert status == 0
    assert [record["note"] for record in scored] == [records[0]["note"], records[1]["note"]]
    aside = [json.loads(line) for line in (tmp_path / "scored.bad.jsonl").read_text().splitlines()]
    assert sorted(line["record"] for line in aside) == [1, 3, 4, 5, 7]
    assert "5 bad records set aside in scored.bad.jsonl" in capsys.readouterr().err
    assert score(mixed[1:], "--checkpoint", place / "run", "--chunk", 2)[0] == 2
    assert "record 2 of <stdin>: 'prompt' takes" in capsys.readouterr().err.splitlines()[-1]


def test_a_lone_surrogate_beside_what_is_scored_is_kept(place, records):
    status, (scored,) = score([records[0] | {"note": "\ud800"}], "--checkpoint", place / "run")
    assert status == 0
    assert scored["note"] == "\ud800"


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "in.jsonl: is empty"), (b"\n\n", "holds no record that can be scored")]
)
def test_nothing_to_score_is_an_error(place, tmp_path, capsys, content, problem):
    (tmp_path / "in.jsonl").write_bytes(content)
    flags = ["--data", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl"]
    assert run("score", "--checkpoint", place / "run", *flags) == 2
    assert problem in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "in.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("missing.jsonl", None, "does not exist"),
        ("cut.jsonl.gz", b"\x1f\x8b\x08", "is cut short"),
    ],
)
def test_a_file_that_cannot_be_scored_is_named(place, tmp_path, capsys, name, content, problem):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run("score", "--checkpoint", place / "run", "--data", tmp_path / name, "--out", tmp_path / "out") == 2
    assert f"crome: error: {tmp_path / name}: {problem}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["groups", "groups.jsonl", "groups.parquet"])
def test_every_response_of_groups_is_scored_in_order(place, tmp_path, capsys, name):
    groups = list(read_groups(place / "groups"))
    data = place / "groups" if name == "groups" else tmp_path / name
    if name == "groups.jsonl":
        data.write_text("\n".join(map(to_json, groups)))
    elif name == "groups.parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([json.loads(to_json(g)) for g in groups]), data)
    out = tmp_path / "scored.jsonl"
    # The chunk cuts groups in two.
    assert run("score", "--checkpoint", place / "run", "--data", data, "--out", out, "--chunk", 7) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [(group.id, i, r.text) for group in groups for i, r in enumerate(group.responses)]
    assert [(line["id"], line["index"], line["response"]) for line in scored] == expected
    rewards = np.concatenate(score_groups(training.load_run(place / "run"), groups).rewards)
    np.testing.assert_allclose([line["reward"] for line in scored], rewards, rtol=1e-4, atol=1e-6)
    assert score(scored[:3], "--checkpoint", place / "run")[0] == 0


def test_the_papers_recipe_with_a_baseline_keeps_the_causal_pairs_that_it_gets_wrong_or_is_unsure_of(place, tmp_path):
    """Without one it keeps them all: `test_cli_oracle` has that run."""
    with FakeEndpoint() as endpoint:
        settings = {"base_url": endpoint.url, "cache": str(tmp_path / "cache"), "api_key_env": None}
        gin = ["--gin_file=gin/augment/crome.gin", *(f"--gin.ChatSettings.{k}={v!r}" for k, v in settings.items())]
        command = ["augment", *gin, "--data", place / "prefs.jsonl", "--out"]
        assert run(*command, tmp_path / "whole") == 0
        sent = len(endpoint.requests)
        # Sure is whom two steps of training have made prefer the better answer at all.
        baseline = [f"--gin.BASELINE='{place / 'run'}'", "--gin.augmentation.unsure=0.5"]
        assert run(*command, tmp_path / "kept", *baseline) == 0
        assert len(endpoint.requests) == sent
    whole, kept = (list(read_groups(tmp_path / name)) for name in ("whole", "kept"))
    wrong = [
        [c for c in group.comparisons if c.kind is not Kind.CAUSAL or rewards[c.left] <= rewards[c.right]]
        for group, rewards in zip(whole, score_groups(training.load_run(place / "run"), whole).rewards, strict=True)
    ]
    texts = lambda group, comparisons: [  # noqa: E731
        (c.kind, group.responses[c.left].text, group.responses[c.right].text) for c in comparisons
    ]
    assert [texts(group, group.comparisons) for group in kept] == list(map(texts, whole, wrong))
    causal, left = (
        sum(c.kind is Kind.CAUSAL for group in groups for c in group.comparisons) for groups in (whole, kept)
    )
    assert 0 < left < causal
    figures = json.loads((tmp_path / "kept.card.json").read_text())
    assert sum(row["count"] for row in figures["dropped"] if row["by"] == "baseline") == causal - left


def test_a_group_that_cannot_be_scored_is_one_bad_record(place, tmp_path, capsys):
    pair = {"prompt": "word " * 3000, "chosen": "yes", "rejected": "no"}
    data, out = tmp_path / "pairs.jsonl", tmp_path / "scored.jsonl"
    data.write_text("\n".join(map(json.dumps, [pair, pair | {"prompt": "a"}, {"prompt": "a", "chosen": "b"}])))
    flags = ["score", "--checkpoint", place / "run", "--data", data, "--out", out, "--chunk", 1]
    assert run(*flags) == 2
    assert f"record 1 of {data}: 'prompt' takes" in capsys.readouterr().err
    assert run(*flags, "--skip-bad") == 0
    assert [json.loads(line)["response"] for line in out.read_text().splitlines()] == ["yes", "no"]
    aside = [json.loads(line) for line in (tmp_path / "scored.jsonl.bad.jsonl").read_text().splitlines()]
    assert sorted(line["record"] for line in aside) == [1, 3]


def missing(run_folder):
    shutil.rmtree(run_folder)


def half_written(run_folder):
    # What Orbax calls a checkpoint that it had not finished.
    (run_folder / "checkpoints" / "2").rename(run_folder / "checkpoints" / "2.orbax-checkpoint-tmp")


def truncated(run_folder):
    for path in (run_folder / "checkpoints" / "2" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_card(run_folder):
    (run_folder / "model.json").write_text((run_folder / "model.json").read_text()[:-40])


def edit_card(run_folder, **changes):
    path = run_folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def other_decoder(run_folder):
    card = json.loads((run_folder / "model.json").read_text())
    edit_card(run_folder, decoder=card["decoder"] | {"width": 64})


def other_layers(run_folder):
    edit_card(run_folder, trainable=2)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (missing, "no model.json; give the folder (OUT) of a `crome train` run"),
        (half_written, "holds no whole checkpoint"),
        (truncated, "damaged ("),
        (damaged_card, "model.json: damaged"),
        (other_decoder, "whose decoder has changed since"),
        (other_layers, "the checkpoint is of another architecture"),
    ],
)
def test_a_run_that_cannot_be_used_is_named(own_run, place, capsys, damage, problem):
    damage(own_run)
    assert run("evaluate", "--checkpoint", own_run, "--data", place / "held_out.jsonl") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"crome: error: {own_run}")
    assert problem in error


def test_the_terms_of_a_backbone_are_said_before_it_is_loaded(place, own_run, capsys):
    edit_card(own_run, backbone="gemma3-270m")
    assert run("evaluate", "--checkpoint", own_run, "--data", place / "held_out.jsonl") == 2
    first, *_, last = capsys.readouterr().err.splitlines()
    assert "Gemma Terms of Use" in first
    assert last.startswith("crome: error: ")
