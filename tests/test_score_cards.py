"""What `crome score` writes beside its output says what was scored by what, and is there with it or not at all."""

import gzip
import hashlib
import io
import json
import sys
from types import SimpleNamespace

import pytest
from test_cli_models import TINY, run

from crome_jax.evaluation.reward_models import open_reward_model
from crome_jax.verbs import score as scoring_verb

PAIRS = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "d", "chosen": "word " * 300, "rejected": "e"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "prefs.jsonl").write_text("\n".join(json.dumps(PAIRS[0] | {"prompt": f"{n}?"}) for n in range(8)))
    data = [f"--gin.DATA='{folder / 'prefs.jsonl'}'", f"--gin.OUT='{folder / 'run'}'"]
    assert run("train", "--gin_file=gin/runs/bradley_terry.gin", *TINY, *data) == 0
    return folder


@pytest.fixture
def command(place, tmp_path):
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    flags = ["--data", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", "--chunk", 2]
    return ["score", "--checkpoint", place / "run", *flags]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def read_card(folder):
    return json.loads((folder / "out.jsonl.card.json").read_text())


def test_it_tells_model_template_input_and_how_many_were_cut(place, tmp_path, command):
    assert run(*command) == 0
    assert names(tmp_path) == ["in.jsonl", "out.jsonl", "out.jsonl.card.json"]
    card = read_card(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (card["responses"], card["responses cut"]) == (4, 1) == (len(lines), sum("cut" in line for line in lines))
    data = tmp_path / "in.jsonl"
    assert card["input sha256"] == {str(data): hashlib.sha256(data.read_bytes()).hexdigest()}
    model = open_reward_model(place / "run")
    (told,) = card["models"]
    assert (told["name"], told["run"], told["key"]) == ("bradley_terry", str(place / "run"), model.key)
    assert told["chat template"] == model.model.tokenizer.chat_template
    assert told["tokenizer and chat template"] == model.model.tokenizer.fingerprint
    assert told["row tokens"] == 256
    assert (card["ensemble"], card["split"], card["bad records set aside"]) == (None, None, 0)


def test_every_file_of_a_folder_has_its_sum_and_every_model_is_told(place, tmp_path, command):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(PAIRS[0]) + "\n{")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(PAIRS[1]).encode()))
    command[command.index("--data") + 1] = folder
    command.insert(3, place / "run")
    assert run(*command, "--ensemble", "worst", "--skip-bad") == 0
    card = read_card(tmp_path)
    sums = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert card["input sha256"] == sums
    assert (len(card["models"]), card["ensemble"]) == (2, "worst")
    assert (card["responses"], card["bad records set aside"]) == (4, 1)


def test_standard_input_is_summed_as_it_is_read(place, tmp_path, monkeypatch):
    given = "".join(json.dumps({"prompt": "a", "response": f"b {n}"}) + "\n" for n in range(3)).encode()
    command = ["score", "--checkpoint", place / "run", "--chunk", 2]
    monkeypatch.chdir(tmp_path)
    for flags in (["--out", tmp_path / "out.jsonl"], []):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(given)))
        assert run(*command, *flags) == 0
    assert read_card(tmp_path)["input sha256"] == {"<stdin>": hashlib.sha256(given).hexdigest()}
    assert names(tmp_path) == ["out.jsonl", "out.jsonl.card.json"]  # Beside standard output there is nothing.


def test_it_appears_with_the_output_or_not_at_all(tmp_path, command, capsys):
    good = (tmp_path / "in.jsonl").read_text()
    (tmp_path / "in.jsonl").write_text(good + "\n{")
    assert run(*command) == 2
    assert not list(tmp_path.glob("*.card.json"))
    (tmp_path / "in.jsonl").write_text(good)
    (tmp_path / "out.jsonl.card.json").write_text("mine")
    assert run(*command) == 2
    assert "out.jsonl.card.json: exists already; choose another name or pass --overwrite" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert run(*command, "--overwrite") == 0
    first = read_card(tmp_path)
    assert run(*command) == 2
    assert f"{tmp_path / 'out.jsonl'}: exists already" in capsys.readouterr().err
    (tmp_path / "in.jsonl").write_text(good + "\n{")
    assert run(*command, "--overwrite") == 2
    assert read_card(tmp_path) == first
    assert run(*command, "--overwrite", "--skip-bad") == 0
    assert read_card(tmp_path)["bad records set aside"] == 1


@pytest.mark.parametrize("taken", ["out.jsonl", "out.jsonl.card.json"])
def test_a_folder_in_its_place_is_kept_and_nothing_is_scored(tmp_path, command, capsys, monkeypatch, taken):
    monkeypatch.setattr(scoring_verb, "score_items", lambda *_, **__: pytest.fail("nothing is to be scored"))
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "chapter").write_text("years of work")
    for flags in ([], ["--overwrite"]):
        assert run(*command, *flags) == 2
        assert f"{tmp_path / taken}: is a folder, and a file is to be written there" in capsys.readouterr().err
    assert (tmp_path / taken / "chapter").read_text() == "years of work"
    assert names(tmp_path) == sorted(["in.jsonl", taken])


def test_a_folder_of_scored_files_is_read_without_their_cards(place, tmp_path, command):
    command[command.index("--out") + 1] = tmp_path / "folder" / "out.jsonl"
    assert run(*command) == 0
    again = ["score", "--checkpoint", place / "run", "--data", tmp_path / "folder", "--out", tmp_path / "out.jsonl"]
    assert run(*again) == 0
    assert read_card(tmp_path)["responses"] == 4


def test_where_every_prompt_is_too_long_the_input_is_named(tmp_path, command, capsys):
    data = tmp_path / "in.jsonl"
    data.write_text(json.dumps({"prompt": "word " * 3000, "response": "yes"}))
    assert run(*command, "--skip-bad") == 2
    assert f"crome: error: {data}: holds no record that can be scored; all 1 are bad" in capsys.readouterr().err
    assert not list(tmp_path.glob("out.jsonl*"))
