"""Every gin file parses, and builds what it configures."""

import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from crome_jax.batch import Batch
from crome_jax.configuration import configure
from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.models.config import Lora
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.crome import crome
from crome_jax.objectives.pairwise import reads_whole_batch
from crome_jax.scored import Scored
from crome_jax.training.method import Method, check_method
from crome_jax.training.study import study
from crome_jax.training.train import train
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
    text = path.read_text()
    assert text.startswith("# ")
    given = {DATA[0]: DATA[1], "METHOD": "@crome/Method()", "OUT": "'x'"}
    given |= {name: "'x'" for name in re.findall(r"^(\w+) = %gin\.REQUIRED", text, re.MULTILINE) if name not in given}
    if re.search(r"^DATA = %(?!gin)", text, re.MULTILINE):  # It says which of its own it is.
        del given["DATA"]
    configure(train, [run_file("crome"), str(path)], list(given.items()))


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


METHODS = sorted(path.stem for path in (FOLDER / "methods").glob("*.gin"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_run_file_and_choices_that_go_together(name):
    method = configure(train, [run_file(name)], [DATA]).keywords["method"]
    assert method.name == name
    check_method(method, 500, 4)
    assert reads_whole_batch(method.objective) == name.startswith(("bsr", "mmd", "odin"))
    assert method.head == {"odin": "odin", "pair_pm": "pairwise", "crome_pair_pm": "pairwise"}.get(name, "scalar")
    assert ("permuted" in method.origins) == (name == "rrm")


def test_all_methods_side_by_side_keep_their_own_numbers(tmp_path):
    everything = tmp_path / "all.gin"
    includes = "".join(f"include 'gin/methods/{name}.gin'\n" for name in METHODS)
    listed = ", ".join(f"@{name}/Method()" for name in METHODS)
    everything.write_text(f"{includes}include 'gin/runs/quickstart.gin'\nstudy.methods = [{listed}]\n")
    together = configure(study, [str(everything)], []).keywords["methods"]
    scored = Scored(jnp.array([[1.0, -0.5]]), jnp.array([[[1.0], [0.0]]]), jnp.array([[3.0, 7.0]]))
    scored = scored.replace(length_rewards=scored.rewards, heads_cosine=jnp.array(0.5), step=jnp.array(50))
    tokens, two = jnp.zeros((1, 1), jnp.int32), jnp.arange(2, dtype=jnp.int32)[None]
    values = dict.fromkeys(("target", "weight"), jnp.ones((1, 3))) | {"margin": jnp.zeros((1, 3))}
    sides = {"left": jnp.zeros((1, 3), jnp.int32), "right": jnp.ones((1, 3), jnp.int32), "kind": jnp.arange(3)[None]}
    batch = Batch(tokens, tokens, tokens, tokens, two, **sides, **values)
    losses = [float(method.objective(scored, batch)[0]) for method in together]
    for name, loss in zip(METHODS, losses, strict=True):
        method = configure(train, [run_file(name)], [DATA]).keywords["method"]
        assert float(method.objective(scored, batch)[0]) == loss


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


def test_adapters_are_what_their_file_and_flags_say():
    files = [run_file("crome"), "gin/adapters/lora.gin"]
    assert configure(train, files[:1], [DATA]).keywords["lora"] is None
    bindings = [DATA, ("LORA_RANK", "4"), ("LORA_DROPOUT", "0.1"), ("Lora.targets", "('q', 'v')")]
    expected = Lora(rank=4, alpha=16.0, targets=("q", "v"), dropout=0.1)
    assert configure(train, files, bindings).keywords["lora"] == expected
    over = [run_file("crome"), "gin/adapters/qlora.gin"]
    assert configure(train, over, [DATA, ("LORA_BASE", "'int8'")]).keywords["lora"] == Lora(base="int8")
    for wrong, problem in ((("LORA_RANK", "0"), "rank is 0"), (("Lora.targets", "('w',)"), "give some of q, k, v, o")):
        with pytest.raises(CromeError, match=problem):
            configure(train, files, [DATA, wrong])
