"""The verbs that score for hours: what can fail before it does, and what was scored outlives every error."""

import functools
import json
import shutil
from pathlib import Path

import pytest
from fake_endpoint import Answer, FakeEndpoint
from test_cli_models import TINY, run

from crome_jax.augment.oracles.chat.budget import spent_by
from crome_jax.augment.oracles.chat.database import Database
from crome_jax.data.datasets.causal_testbed import CausalTestbedConfig, generate_groups
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.evaluation import best_of_n_page, diagnosis_page, report
from crome_jax.evaluation.outcome_files import read_outcomes
from crome_jax.evaluation.run_comparison import read_evaluated
from crome_jax.evaluation.score_journal import ScoreJournal
from crome_jax.groups import prompt_text, to_json
from crome_jax.training import train as training
from crome_jax.verbs import score as scoring_verb
from crome_jax.verbs.evaluate import manual_folder, manual_folders
from crome_jax.weights.runs import fingerprint_newest

SMALL = CausalTestbedConfig(name="small", train=8, in_distribution=6)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with preference data, pairs of a benchmark, candidates, a run, and a pairwise run."""
    folder = tmp_path_factory.mktemp("place")
    groups = list(generate_groups(SMALL, "train"))
    (folder / "prefs.jsonl").write_text("\n".join(map(to_json, groups)))
    texts = [
        f"{'so ' * words}it is {n}." for n, words in enumerate((0, 0, 150, 150), 3)
    ]  # A row has room for one long.
    candidates = [
        {"id": group.id, "prompt": prompt_text(group.prompt), "candidates": texts, "answer": 4} for group in groups
    ]
    (folder / "candidates.jsonl").write_text("\n".join(map(json.dumps, candidates)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_backbone", functools.cache(training.load_backbone))
        for name, method in (("run", "bradley_terry"), ("pairwise", "pair_pm")):
            data = [f"--gin.DATA='{folder / 'prefs.jsonl'}'", f"--gin.OUT='{folder / name}'"]
            assert run("train", f"--gin_file=gin/runs/{method}.gin", *TINY, *data) == 0
        yield folder


def commands(verb, place, out, model="run") -> list:
    """Return a verb's command, one row in a call of the model."""
    model = model if hasattr(model, "parent") else place / model
    data = place / "prefs.jsonl"
    command = {
        "evaluate": ["evaluate", "--checkpoint", model, "--data", f"x={data}", "--out", out],
        "best_of_n": ["best_of_n", "--model", model, "--candidates", place / "candidates.jsonl", "--judge", "exact"],
        "diagnose": ["diagnose", "--model", model, "--data", data, "--oracle", "none", "--prompts", 2],
    }[verb]
    return [*command, *([] if verb == "evaluate" else ["--out", out]), "--rows-at-once", 1]


FIGURES = {"evaluate": "report.json", "best_of_n": "best_of_n.json", "diagnose": "diagnosis.json"}
WRITERS = {
    "evaluate": (report, "plain_json"),
    "best_of_n": (best_of_n_page, "render_best_of_n"),
    "diagnose": (diagnosis_page, "render_diagnosis"),
}
"""Of each verb what it calls after it has scored."""


def figures(folder, verb) -> dict:
    """Return what a verb found, without what says how long it took."""
    found = json.loads((folder / FIGURES[verb]).read_text())
    if verb == "evaluate":
        found.pop("facts")
    return found


def count_scored(monkeypatch) -> list[str]:
    """Return a list that gets the key of every batch as it is scored."""
    scored: list[str] = []
    add = ScoreJournal.add
    monkeypatch.setattr(ScoreJournal, "add", lambda self, key, values: (scored.append(key), add(self, key, values))[1])
    return scored


def fail(*arguments, **options):
    raise CromeError("the disk went away")


@pytest.mark.parametrize("verb", FIGURES)
def test_an_error_after_scoring_leaves_what_was_scored_for_the_same_command(place, tmp_path, monkeypatch, capsys, verb):
    scored = count_scored(monkeypatch)

    with monkeypatch.context() as patch:
        patch.setattr(*WRITERS[verb], fail)
        assert run(*commands(verb, place, tmp_path / "out")) == 2
    assert "the disk went away" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    first = list(scored)
    assert first
    assert run(*commands(verb, place, tmp_path / "out")) == 0
    assert scored == first  # No batch was scored again.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert run(*commands(verb, place, tmp_path / "whole")) == 0
    assert figures(tmp_path / "out", verb) == figures(tmp_path / "whole", verb)


@pytest.mark.parametrize("verb", ["best_of_n", "diagnose"])
def test_a_killed_run_goes_on_where_it_was(place, tmp_path, monkeypatch, verb):
    scored = count_scored(monkeypatch)
    add = ScoreJournal.add

    def kill(journal, key, values):
        add(journal, key, values)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ScoreJournal, "add", kill)
        assert run(*commands(verb, place, tmp_path / "out")) == 130
    assert not (tmp_path / "out").exists()
    (journal,) = (tmp_path / ".out.scores").iterdir()
    with journal.open("ab") as file:
        file.write(b'{"batch": "256x')  # As a kill in the middle of a line leaves it.
    assert run(*commands(verb, place, tmp_path / "out")) == 0
    assert len(scored) == len(set(scored)) > 1
    assert run(*commands(verb, place, tmp_path / "whole")) == 0
    assert figures(tmp_path / "out", verb) == figures(tmp_path / "whole", verb)


def test_what_was_scored_is_found_when_another_data_set_is_taken_out(place, tmp_path, monkeypatch):
    scored = count_scored(monkeypatch)
    (tmp_path / "short.jsonl").write_text("\n".join((place / "prefs.jsonl").read_text().splitlines()[:3]))
    command = commands("evaluate", place, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(*WRITERS["evaluate"], fail)
        assert run(*command[:4], f"y={tmp_path / 'short.jsonl'}", *command[4:]) == 2
    first = list(scored)
    assert run(*command) == 0
    assert scored == first


def test_scored_records_outlive_an_error(place, tmp_path, monkeypatch, capsys):
    data = tmp_path / "in.jsonl"
    good = [json.dumps({"prompt": f"{n}?", "response": "yes"}) for n in range(6)]
    data.write_text("\n".join([*good, "{", *good[:1]]))
    flags = ["score", "--checkpoint", place / "run", "--data", data, "--out", tmp_path / "out.jsonl", "--chunk", 2]
    assert run(*flags) == 2
    assert "record 7" in capsys.readouterr().err
    chunks = []
    score_items = scoring_verb.score_items
    monkeypatch.setattr(
        scoring_verb, "score_items", lambda model, items, **o: (chunks.append(items), score_items(model, items, **o))[1]
    )
    assert run(*flags, "--skip-bad") == 0
    assert "resumed after 6 records" in capsys.readouterr().err
    assert [item.number for items in chunks for item in items] == [8]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 7
    assert not list(tmp_path.glob(".*"))


# --- what fails before anything is scored -----------------------------------------------------------------------------


def without_head(folder):
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]})
    )


def without_template(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "chat_template"}))


def without_weights(folder):
    for path in folder.glob("*.safetensors*"):
        path.unlink()


def without_checkpoint(folder):
    shutil.rmtree(folder / "checkpoints" / "2")


def with_a_damaged_curve(folder):
    (folder / "metrics.jsonl").write_text("null\n")


def without_backbone(folder):
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"backbone": "nowhere.gguf"}))


MODELS = {
    "no head": ("exported", without_head, "is no sequence classifier, so it has no reward head"),
    "no chat template": ("exported", without_template, "ships no chat template"),
    "no weights": ("exported", without_weights, "safetensors"),
    "no checkpoint": ("run", without_checkpoint, "holds no whole checkpoint"),
    "a damaged curve": ("run", with_a_damaged_curve, "metrics.jsonl: line 1 is damaged"),
    "no backbone": ("run", without_backbone, "its backbone cannot be loaded: nowhere.gguf"),
}


@pytest.fixture(scope="module")
def exported(place):
    """The run as a Hugging Face folder."""
    assert run("export", "--checkpoint", place / "run", "--out", place / "exported") == 0


@pytest.fixture
def scores_nothing(monkeypatch):
    """A model that must not be asked."""

    def asked(*arguments, **options):
        raise AssertionError("something was scored before the error was found")

    monkeypatch.setattr("crome_jax.evaluation.scoring.score_packed", asked)
    monkeypatch.setattr("crome_jax.evaluation.pair_scoring.score_packed", asked)


@pytest.mark.parametrize("fault", MODELS)
@pytest.mark.parametrize("verb", FIGURES)
def test_a_model_that_cannot_be_measured_is_named_first(place, exported, tmp_path, capsys, scores_nothing, verb, fault):
    of, harm, said = MODELS[fault]
    bad = shutil.copytree(place / of, tmp_path / "bad")
    harm(bad)
    command = commands(verb, place, tmp_path / "out", bad)
    if verb == "evaluate":
        command.insert(2, place / "run")  # The one before it is whole.
    assert run(*command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"crome: error: {bad}")
    assert said in error
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_pairwise_model_among_several_is_named_first(place, tmp_path, capsys, scores_nothing):
    command = commands("evaluate", place, tmp_path / "out")
    command.insert(3, place / "pairwise")
    assert run(*command, "--ensemble", "mean") == 2
    assert f"{place / 'pairwise'}: --ensemble is of rewards" in capsys.readouterr().err
    assert run(*command, "--benchmark", "rewardbench2", "--manual_dir", tmp_path) == 2
    assert f"{place / 'pairwise'}: RewardBench 2 takes the highest of several rewards" in capsys.readouterr().err


def test_halves_of_benchmarks_and_absent_files_are_said_first(place, tmp_path, capsys, scores_nothing):
    tied = {"id": "tied:7", "subset": "Ties", "prompt": "A colour?", "chosen": ["red", "blue"], "rejected": ["one"]}
    (tmp_path / "test.jsonl").write_text(json.dumps(tied))
    command = [*commands("evaluate", place, tmp_path / "out"), "--manual_dir", tmp_path, "--benchmark"]
    assert run(*command, "rewardbench2") == 2
    assert "there is tied:7 but not its other version" in capsys.readouterr().err
    assert run(*command, "rewardbench2", "rm_bench") == 2
    assert not (tmp_path / "out").exists()


def test_a_stratum_that_is_no_stratum_is_said_first(place, tmp_path, capsys, scores_nothing):
    group = json.loads(to_json(next(iter(read_groups(place / "prefs.jsonl")))))
    group["metadata"]["spurious_attributes"] = "loud"
    for response in group["responses"]:
        response["metadata"] = {"loud": "very"}
    (tmp_path / "data.jsonl").write_text(json.dumps(group))
    for verb in ("evaluate", "diagnose"):
        command = commands(verb, place, tmp_path / "out")
        command[command.index("--data") + 1] = tmp_path / "data.jsonl"
        assert run(*command) == 2
        assert "'loud'" in capsys.readouterr().err


def test_data_without_a_preference_is_said_before_it_is_diagnosed(place, tmp_path, capsys, scores_nothing):
    tie = {"prompt": "a", "responses": ["b", "c"], "comparisons": [{"left": 0, "right": 1, "target": 0.5}]}
    (tmp_path / "data.jsonl").write_text(json.dumps(tie))
    command = commands("diagnose", place, tmp_path / "out")
    command[command.index("--data") + 1] = tmp_path / "data.jsonl"
    assert run(*command) == 2
    assert "no comparison of the data prefers one side" in capsys.readouterr().err


def test_more_candidates_than_there_are_are_refused_first(place, tmp_path, capsys, scores_nothing):
    command = commands("best_of_n", place, tmp_path / "out")
    assert run(*command, "--most", 5) == 2
    assert "--most 5 needs 5 candidates of every prompt, and record 'train-00000' has 4" in capsys.readouterr().err
    asked = ["--endpoint", "http://127.0.0.1:9/v1", "--samples", 2, "--most", 3]
    assert run(*command, *asked) == 2
    assert "--most 3 needs as many candidates; give --samples 3" in capsys.readouterr().err


# --- what is asked for is done ----------------------------------------------------------------------------------------


def test_row_tokens_are_those_of_a_run_as_well(place, tmp_path, capsys):
    data, long = tmp_path / "in.jsonl", "word " * 300  # A row of the run's has 256 tokens.
    data.write_text(json.dumps({"prompt": "Why?", "response": long}))
    flags = ["score", "--checkpoint", place / "run", "--data", data, "--out"]
    rewards = {}
    for name, more, cut in (("own", [], 1), ("wide", ["--row-tokens", 512], 0), ("narrow", ["--row-tokens", 64], 1)):
        assert run(*flags, tmp_path / name, *more) == 0
        assert f"1 responses scored, {cut} of them cut" in capsys.readouterr().err
        rewards[name] = json.loads((tmp_path / name).read_text())["reward"]
    assert len(set(rewards.values())) == 3
    data.write_text(json.dumps({"prompt": "Why?", "response": "word " * 20}))
    for name, more in (("short", []), ("short and wide", ["--row-tokens", 512])):
        assert run(*flags, tmp_path / name, *more) == 0
        rewards[name] = json.loads((tmp_path / name).read_text())["reward"]
    assert rewards["short"] == pytest.approx(rewards["short and wide"], abs=1e-5)  # fp32 in rows of another length.


def test_a_chat_template_for_runs_alone_is_refused(place, tmp_path, capsys):
    assert run(*commands("evaluate", place, tmp_path / "out"), "--chat-template", "plain") == 2
    assert "a run is measured with the chat template it was trained with" in capsys.readouterr().err


def test_what_a_judge_needs_is_looked_for_before_candidates_are_paid_for(place, tmp_path, capsys, scores_nothing):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "a"}))
    with FakeEndpoint(lambda number, body: Answer("4")) as endpoint:
        asked = ["best_of_n", "--model", place / "run", "--candidates", tmp_path / "p.jsonl", "--out", tmp_path / "out"]
        asked += ["--endpoint", endpoint.url, "--judge"]
        for judge, said in (
            ("exact", f"record 1 of {tmp_path / 'p.jsonl'}: 'answer' is missing or holds no number"),
            ("refusal", "'harmful' is not true or false"),
            ("preference", "reads 'preferences' of candidates, and these are yet to be written"),
        ):
            assert run(*asked, judge) == 2
            assert said in capsys.readouterr().err
        assert endpoint.requests == []


def test_what_the_lives_of_a_command_send_for_candidates_is_counted_together(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "answer": 4}')
    sent = lambda: spent_by(Database(".cache/oracle"), str(tmp_path / "out" / "candidates.jsonl")).sent  # noqa: E731
    with FakeEndpoint(lambda number, body: Answer("4", status=401 if number < 2 else 200)) as endpoint:
        asked = ["best_of_n", "--model", place / "run", "--candidates", "p.jsonl", "--judge", "exact", "--out", "out"]
        asked += ["--endpoint", endpoint.url, "--samples", 1]
        assert [run(*asked), sent()] == [2, 1]
        assert [run(*asked), sent()] == [2, 2]
        assert [run(*asked), sent()] == [0, 0]  # It is over: another run of the name counts from nothing.
    assert len(endpoint.requests) == 3


def test_bad_candidates_are_set_aside_and_a_judge_of_one_s_own_is_asked(place, tmp_path, capsys):
    good = [json.loads(line) for line in (place / "candidates.jsonl").read_text().splitlines()[:3]]
    long = good[0] | {"id": "long", "prompt": "word " * 300}
    lines = ["{", *good, {"prompt": "a"}, long, good[1] | {"id": "no answer", "answer": None}]
    data = tmp_path / "c.jsonl"
    data.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    (tmp_path / "mine.py").write_text("def prefer(record, texts): return ['4' in text for text in texts]")
    flags = ["best_of_n", "--model", place / "run", "--candidates", data, "--judge", "exact", "--out", tmp_path / "out"]
    flags += ["--judge-by", f"{tmp_path / 'mine.py'}:prefer"]
    assert run(*flags) == 2
    assert f"record 1 of {data}: is not JSON" in capsys.readouterr().err
    assert run(*flags, "--skip-bad") == 0
    aside = [json.loads(line) for line in (tmp_path / "out.bad.jsonl").read_text().splitlines()]
    assert sorted(line["record"] for line in aside) == [1, 5, 6, 7]
    found = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    assert found["prompts"] == 3
    assert found["curve"][0]["value"] == 0.25
    assert found["facts"]["judged by"].endswith("mine.py:prefer")
    assert len(found["facts"]["verdicts sha256"]) == 64
    assert found["facts"]["scored token"] == '"<|im_end|>"'


def test_each_benchmark_has_the_folder_that_is_its_own(tmp_path):
    (tmp_path / "rewardbench").mkdir()
    given = [manual_folder(text) for text in (str(tmp_path), f"llmbar={tmp_path / 'x=y'}")]
    assert manual_folders(["rewardbench", "rm_bench", "llmbar"], given) == {
        "rewardbench": tmp_path / "rewardbench",  # A folder of its name lies there.
        "rm_bench": tmp_path,
        "llmbar": tmp_path / "x=y",
    }
    assert manual_folders(["pairs", "llmbar"], given[1:])["pairs"] is None  # It is downloaded.
    assert manual_folder("a=b") == (None, Path("a=b"))


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (["llmbar=x"], "--manual_dir llmbar=...: llmbar is not measured; add --benchmark llmbar"),
        (["x", "y"], "--manual_dir names 2 folders for all benchmarks; give one"),
        (["pairs=x", "pairs=y"], "--manual_dir names 2 folders for pairs; give one"),
    ],
)
def test_folders_of_benchmarks_that_contradict_are_refused(place, tmp_path, capsys, folders, problem):
    command = commands("evaluate", place, tmp_path / "out")
    assert run(*command, "--benchmark", "pairs", "--manual_dir", *folders) == 2
    assert problem in capsys.readouterr().err


def test_several_benchmarks_are_read_from_folders_of_their_names(place, tmp_path):
    pair = {"prompt": "a", "chosen": "b c d", "rejected": "e"}
    for name, record in (("pairs", pair | {"id": 1}), ("rewardbench", pair | {"id": 2, "subset": "hep-go"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.jsonl").write_text(json.dumps(record))
    flags = ["--benchmark", "pairs", "rewardbench", "--manual_dir", tmp_path]
    assert run("evaluate", "--checkpoint", place / "run", *flags, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {row["data"]: row["path"] for row in found["facts"]["data"]} == {
        name: str(tmp_path / name) for name in ("pairs", "rewardbench")
    }
    assert [b["methods"]["bradley_terry"]["examples"] for b in found["benchmarks"].values()] == [1, 1]


def test_what_was_cut_can_be_found_and_of_which_model_it_is(place, tmp_path):
    long = [f"{'word ' * 300}{n}" for n in range(2)]  # A row has 256 tokens.
    pairs = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "d", "chosen": long[0], "rejected": "e"}]
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, pairs)))
    for model in ("run", "pairwise"):
        assert run("evaluate", "--checkpoint", place / model, "--data", data, "--out", tmp_path / model) == 0
        assert [line["cut"] for line in read_outcomes(tmp_path / model)] == [False, True]
        (facts,) = read_evaluated(tmp_path / model).figures["facts"]["runs"]  # Its outcomes give its figures.
        assert facts["model sha256"] == fingerprint_newest(place / model)
        assert run("score", "--checkpoint", place / model, "--data", data, "--out", tmp_path / f"{model}.jsonl") == 0
        scored = [json.loads(line) for line in (tmp_path / f"{model}.jsonl").read_text().splitlines()]
        assert [line.get("cut", False) for line in scored] == [False, False, True, False]
    again = ["score", "--checkpoint", place / "run", "--out", tmp_path / "again.jsonl", "--row-tokens", 512, "--data"]
    (tmp_path / "scored.jsonl").write_text(json.dumps({"prompt": "d", "response": long[0], "cut": True}))
    assert run(*again, tmp_path / "scored.jsonl") == 0
    assert json.loads((tmp_path / "again.jsonl").read_text())["cut"] is False  # In a longer row it is whole.
    command = commands("diagnose", place, tmp_path / "diagnosed")
    command[command.index("--data") + 1] = data
    assert run(*command) == 0
    diagnosed = json.loads((tmp_path / "diagnosed" / "diagnosis.json").read_text())
    (cut,) = diagnosed["cut"]
    assert cut["id"].endswith("2")
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "x", "prompt": "a", "candidates": ["4", *long], "answer": 4}))
    command = commands("best_of_n", place, tmp_path / "picked")
    command[command.index("--candidates") + 1] = tmp_path / "c.jsonl"
    assert run(*command) == 0
    found = json.loads((tmp_path / "picked" / "best_of_n.json").read_text())
    assert found["cut"] == [{"id": "x", "candidates": [1, 2]}]
    assert found["facts"]["responses cut"] == 2
    for figures in (diagnosed, found):
        assert figures["facts"]["model sha256"] == fingerprint_newest(place / "run")


def test_a_model_can_be_the_oracle_of_a_diagnosis_and_is_not_paid_twice(place, tmp_path, capsys):
    command = [*commands("diagnose", place, tmp_path / "out"), "--attributes", "wit", "bold"]
    command[command.index("none")] = "chat"
    with FakeEndpoint(lambda number, body: Answer(status=503) if number == 5 else None) as endpoint:
        settings = {"base_url": endpoint.url, "cache": str(tmp_path / "cache"), "attempts": 1, "concurrency": 1}
        gin = ["--gin.MODEL='model-x'", *(f"--gin.ChatSettings.{name}={value!r}" for name, value in settings.items())]
        assert run(*command, *gin) == 2
        assert run(*command, *gin) == 0
        sent = len(endpoint.requests)
        printed = capsys.readouterr().out
        of_both_lives = json.loads((tmp_path / "out" / "diagnosis.json").read_text())["facts"]["requests sent"]
        assert run(*command, *gin) == 0
        assert len(endpoint.requests) == sent == of_both_lives == 8 + 1  # Two pairs, either side, once and back.
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert {kind: list(by_name) for kind, by_name in found["effects"].items()} == {
        "causal": ["wit"],
        "spurious": ["bold"],
    }
    assert found["facts"]["oracle"] == "model-x"
    assert found["facts"]["requests sent"] == 0  # By the run after.
    for said in ("effect of wit (causal)", "sensitivity along causal attributes", "leakage along spurious attributes"):
        assert said in printed


def test_a_pairwise_model_is_diagnosed(place, tmp_path, capsys):
    assert run(*commands("diagnose", place, tmp_path / "out", "pairwise")) == 0
    assert "effect of bullets (spurious)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ["--oracle", "offline", "--attributes", "wit"],
            "--attributes wit: --oracle offline cannot move it; known are",
        ),
        (["--oracle", "none", "--attributes", "factuality"], "--oracle none cannot move it"),
        (["--oracle", "chat"], "the oracle 'chat' wants to know which model"),
    ],
)
def test_an_oracle_that_cannot_do_what_is_asked_is_named(place, tmp_path, capsys, scores_nothing, flags, problem):
    assert run(*commands("diagnose", place, tmp_path / "out"), *flags) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
