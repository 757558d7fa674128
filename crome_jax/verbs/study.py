"""Train several methods from the same backbone with the same steps and the same search, and report them together.

  crome study --gin_file=gin/runs/quickstart.gin

The report is OUT/report.html, with every figure of it in OUT/report.json; each method's run is in OUT/<method>.
Macros of gin/runs/quickstart.gin, with defaults:
  DATA             data set with validation and test splits ('runs/quickstart/testbed')
  GROUPS           augmented training groups ('runs/quickstart/groups')
  OUT              folder of the report and the runs ('runs/quickstart')
  SEED             of the data order (0)
On a narrow terminal H, C and N of the live line stand for human, causal and neutral comparisons, as in train.
Any other argument of study, adamw, Method, RowShape, make_mesh or an objective: --gin.study.steps=200.
"""

import argparse

from crome_jax.files import place
from crome_jax.verbs.gin_flags import add_gin_flags
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside
from crome_jax.verbs.stdout import say
from crome_jax.verbs.terms import say_terms


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_gin_flags(parser)
    add_skip_bad(parser)


def run(args: argparse.Namespace) -> None:
    """Run the study as configured, and print where its report is."""
    from crome_jax.configuration import configure
    from crome_jax.training.study import study

    configured = configure(study, args.gin_file, args.bindings, allow_imports=args.allow_gin_imports)
    say_terms(configured.keywords["backbone"])
    given = configured.keywords
    inputs = [place(path) for path in (given["data"], given["groups"], *(given["further_tests"] or {}).values())]
    with set_aside(place(given["out"]), args.skip_bad, inputs=inputs, overwrite=True) as quarantine:
        page = configured(quarantine=quarantine)
    say(f"report: {page}")
