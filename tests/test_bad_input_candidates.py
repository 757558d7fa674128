"""Bad input of best_of_n and diagnose: the tables say what was given and what comes out, and nothing is written."""

import json
import os

import pytest
from test_bad_input import RECORDS, as_bytes, refused
from test_cli_models import run
from test_cli_scoring import commands, place  # noqa: F401 (a fixture)

CANDIDATES = {
    "not JSON": ("{nope", "is not JSON (Expecting property name"),
    "a list": ("[1]", "is list, not an object with fields"),
    "no candidates": ({"prompt": "a"}, "'candidates' is missing"),
    "candidates a text": ({"prompt": "a", "candidates": "b"}, "'candidates' is no list of answers"),
    "no candidate": ({"prompt": "a", "candidates": []}, "'candidates' is no list of answers"),
    "an empty candidate": ({"prompt": "a", "candidates": ["b", " "]}, "'candidates[1]' is empty"),
    "a candidate that is null": ({"prompt": "a", "candidates": [None]}, "'candidates[0]' is"),
    "NUL": ({"prompt": "a", "candidates": ["b\0"]}, "'candidates[0]' holds a NUL character"),
    "no prompt": ({"candidates": ["b"]}, "'prompt' is missing"),
    "an empty prompt": ({"prompt": " ", "candidates": ["b"]}, "'prompt"),
    "an id twice": ({"id": "train-00000", "prompt": "a", "candidates": ["b"]}, "'id' is 'train-00000', the id of an"),
    "no answer": ({"prompt": "a", "candidates": ["b"]}, "'answer' is missing or holds no number"),
    "an answer without number": (
        {"prompt": "a", "candidates": ["b"], "answer": "four"},
        "'answer' is missing or holds",
    ),
}
"""What a record of candidates may be: the record, and what is said of it."""


@pytest.mark.parametrize("fault", CANDIDATES)
def test_a_bad_record_of_candidates_is_named_by_file_and_number(place, tmp_path, capfd, fault):  # noqa: F811
    record, problem = CANDIDATES[fault]
    good = (place / "candidates.jsonl").read_text().splitlines()[:2]
    data = tmp_path / "c.jsonl"
    data.write_text("\n".join([*good, "", record if isinstance(record, str) else json.dumps(record)]))
    command = commands("best_of_n", place, tmp_path / "out")
    command[command.index("--candidates") + 1] = data
    line = refused(capfd, *command)
    assert line.startswith(f"record 4 of {data}: {problem}")
    assert os.listdir(tmp_path) == ["c.jsonl"]


def test_a_record_without_the_difficulty_that_others_have_is_named_before_scoring(place, tmp_path, capfd):  # noqa: F811
    record = {"prompt": "a", "candidates": ["b", "c"], "baseline": "d", "preferences": [0.5, 0.2]}
    data = tmp_path / "c.jsonl"
    data.write_text("\n".join(map(json.dumps, [record | {"instruction_difficulty": 1.5}, record])))
    command = commands("best_of_n", place, tmp_path / "out")
    command[command.index("--candidates") + 1] = data
    command[command.index("--judge") + 1] = "preference"
    line = refused(capfd, *command)
    assert line.startswith(f"record 2 of {data}: 'instruction_difficulty' is missing of 1 of 2 records")
    assert os.listdir(tmp_path) == ["c.jsonl"]


@pytest.mark.parametrize("verb", ["best_of_n", "diagnose"])
def test_a_file_in_the_place_of_the_report_s_folder_is_named_before_any_work(place, tmp_path, capfd, verb):  # noqa: F811
    out = tmp_path / "out"
    out.write_text("text")
    line = refused(capfd, *commands(verb, place, out))
    assert line == f"{out}: cannot be written (Not a directory); a part of the path is a file; write elsewhere"
    assert (os.listdir(tmp_path), out.read_text()) == (["out"], "text")


FILES = {
    "absent": (None, "does not exist; check the path"),
    "empty": (b"", "is empty; check how it was made"),
    "blank": (b"\n\n", "holds no usable prompt; write {prompt, candidates[]}"),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_file_without_candidates_is_named(place, tmp_path, capfd, fault):  # noqa: F811
    content, said = FILES[fault]
    if content is not None:
        (tmp_path / "c.jsonl").write_bytes(content)
    command = commands("best_of_n", place, tmp_path / "out")
    command[command.index("--candidates") + 1] = tmp_path / "c.jsonl"
    assert refused(capfd, *command) == f"{tmp_path / 'c.jsonl'}: {said}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", RECORDS)
def test_a_bad_record_is_named_before_it_is_diagnosed(place, tmp_path, capfd, fault):  # noqa: F811
    record, problem, fix = RECORDS[fault]
    data = tmp_path / "data.jsonl"
    good = (place / "prefs.jsonl").read_bytes().splitlines()[:2]
    data.write_bytes(b"\n".join([*good, as_bytes(record), b""]))
    command = commands("diagnose", place, tmp_path / "out")
    command[command.index("--data") + 1] = data
    line = refused(capfd, *command)
    assert line.startswith(f"record 3 of {data}: {problem}")
    assert f"; {fix}" in line
    assert os.listdir(tmp_path) == ["data.jsonl"]


@pytest.mark.parametrize("verb", ["best_of_n", "diagnose"])
def test_what_cannot_be_written_is_said(place, tmp_path, capfd, verb):  # noqa: F811
    (tmp_path / "file").write_text("text")
    line = refused(capfd, *commands(verb, place, tmp_path / "file" / "out"))
    assert line.startswith(f"{tmp_path / 'file' / 'out'}")
    assert "a part of the path is a file; write elsewhere" in line
    assert os.listdir(tmp_path) == ["file"]


def test_bad_pairs_are_set_aside_and_the_rest_diagnosed(place, tmp_path):  # noqa: F811
    long = {"prompt": "word " * 300, "chosen": "b", "rejected": "c"}
    good = (place / "prefs.jsonl").read_text().splitlines()[:3]
    (tmp_path / "data.jsonl").write_text("\n".join(["{", *good, json.dumps(long)]))
    flags = ["--data", tmp_path / "data.jsonl", "--oracle", "none", "--out", tmp_path / "out", "--skip-bad"]
    assert run("diagnose", "--model", place / "run", *flags) == 0
    assert json.loads((tmp_path / "out" / "diagnosis.json").read_text())["facts"]["prompts"] == 3
    assert len((tmp_path / "out.bad.jsonl").read_text().splitlines()) == 2
