"""Every argument that a gin file can set is listed with its default, and explained."""

import re

import pytest

from crome_jax.cli import main
from crome_jax.configuration import configurables
from crome_jax.verbs.gin_help import _bindable, explain, explained, meanings

VERBS = ("augment", "plan", "study", "sweep", "train")


@pytest.mark.parametrize("function", {f.__name__: f for verb in VERBS for f in configurables(verb)}.values())
def test_every_argument_is_explained(function):
    said = {name for name, text in meanings(function).items() if text}
    assert {name for name, _ in _bindable(function)} - said == set()


def test_arguments_explained_together_are_explained_each():
    doc = "What.\n\nArgs:\n    a: one.\n    b, c: two\n        and more.\n    **d: three.\n\nReturns:\n    e: no.\n"
    assert explained(doc) == {"a": "one.", "b": "two and more.", "c": "two and more.", "d": "three."}
    assert explained("Nothing of arguments.") == {}


def test_defaults_are_spelt_as_gin_does():
    def objective(scored, batch, margin=0.5):
        """Say something."""

    def function(steps, of=objective, *, quarantine=None, note="x"):
        """Do it.

        Args:
            steps: how many.
            of: what.
            note: text.
        """

    assert explain(objective) == "objective: Say something.\n  --gin.objective.margin (0.5)"
    assert explain(function).splitlines()[1:] == [
        "  --gin.function.steps (required): how many.",
        "  --gin.function.of (@objective): what.",
        "  --gin.function.note ('x'): text.",
    ]


def test_a_verb_lists_its_own_first(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--gin_help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert page.startswith("train: Train a reward model")
    assert "--gin.train.steps (500): optimizer steps." in page
    assert "--gin.crome.neutral_weight (1.0): lambda" in page
    assert "--gin.Method.pair_order" in page
    assert "--gin.Method.scopes" not in page  # Gin refuses to bind it.
    assert not re.search(r"0x[0-9a-f]{6}", page)
    assert max(map(len, page.splitlines())) <= 140
