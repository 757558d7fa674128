"""Every gin file parses, and builds what it configures."""

import re
from pathlib import Path

import pytest

from crome_jax.configuration import configure
from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.crome import crome
from crome_jax.training.study import study
from crome_jax.training.train import Method, train
from crome_jax.verbs import study as study_verb
from crome_jax.verbs import train as train_verb
from crome_jax.weights.backbones import TINY
from crome_jax.weights.packages import BACKBONES

FOLDER = Path(__file__).parents[1] / "gin"
FILES = sorted(FOLDER.rglob("*.gin"))
RUNS = {
    path.stem: study if "study." in path.read_text() else train
    for path in (FOLDER / "runs").glob("*.gin")
    if path.stem != "train"  # The base of the others.
}
DATA = ("DATA", "'prefs.jsonl'")


def run_file(name: str) -> str:
    return f"gin/runs/{name}.gin"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_says_what_it_is_and_parses_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert path.read_text().startswith("# ")
    configure(train, [run_file("crome"), str(path)], [DATA, ("METHOD", "@crome/Method()"), ("OUT", "'x'")])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_file_builds_what_it_configures(name):
    arguments = configure(RUNS[name], [run_file(name)], [DATA]).keywords
    assert arguments["data"] == "prefs.jsonl"
    assert arguments["backbone"] in BACKBONES
    assert isinstance(arguments["row_shape"], RowShape)
    arguments["optimizer"](steps=arguments["steps"])
    assert arguments["mesh"]().size >= 1
    assert arguments["out"].startswith("runs/")


def test_each_method_is_what_the_paper_says():
    arguments = configure(study, [run_file("quickstart")], []).keywords
    plain, causal = arguments["methods"]
    for name, method in (("bradley_terry", plain), ("crome", causal)):
        assert configure(train, [run_file(name)], [DATA]).keywords["method"] == method
    assert (plain.name, plain.kinds) == ("bradley_terry", ("human",))
    assert (causal.name, causal.kinds) == ("crome", ("human", "causal", "neutral"))
    assert isinstance(plain, Method)
    assert plain.objective.__wrapped__.__wrapped__ is bradley_terry
    assert causal.objective.__wrapped__.__wrapped__ is crome


def test_a_model_file_overrides_the_backbone_of_a_run_file():
    files = [run_file("crome"), "gin/models/tiny.gin"]
    assert configure(train, files, [DATA]).keywords["backbone"] == TINY


def test_data_is_required():
    with pytest.raises(CromeError, match=r"DATA is required; pass --gin\.DATA=VALUE"):
        configure(train, [run_file("crome")], [])


@pytest.mark.parametrize(
    ("verb", "function", "names"),
    [(train_verb, train, ("crome", "bradley_terry")), (study_verb, study, ("quickstart",))],
)
def test_help_lists_the_macros_with_the_defaults_of_the_files(verb, function, names):
    for name in names:
        configured = configure(function, [run_file(name)], [("DATA", "'given'")])
        values = dict(re.findall(r"^([A-Z_]+) = (.+)$", configured.keywords["operative_config"](), re.MULTILINE))
        listed = re.findall(r"^  ([A-Z_]+) .*\((.+)\)$", verb.__doc__, re.MULTILINE)
        assert listed
        for macro, default in listed:
            if default == "required" or macro in ("DATA", "LEARNING_RATE"):
                continue
            assert values[macro] in default.split(", "), macro
