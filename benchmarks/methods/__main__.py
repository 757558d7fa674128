"""Every method on the causal testbed, three seeds each: one table and one figure, with intervals.

  python -m benchmarks.methods

Writes the testbed and Crome's comparisons, trains the baseline, makes by it the data of RRM and of Crome by the paper's
recipe, runs gin/sweeps/methods.gin, a job for each method and seed, and writes benchmarks/methods.md and
benchmarks/methods.png, whatever they say. One seed of every method comes first, then the next. The same command again
does what is missing only; with --gather it runs no job and writes the page of what is done, which says what is missing.
What the frozen layers give for a text is kept in the work's folder, and computed once for all jobs. Any value of the
gin file can be overridden: --gin.study.steps=50. The questions are those of --seed, by default 1: steps, rates and
recipe were chosen while looking at the answers to those of seed 0.
"""

import argparse
import collections
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.methods.evidence import Evidence, compare_expected, measure_pulls, read_given
from benchmarks.methods.page import HARDEST, draw, render
from benchmarks.pages import make_parser
from crome_jax.augment.verification import UNSURE
from crome_jax.cli import main as crome_main
from crome_jax.configuration import configure
from crome_jax.data.loading import count_comparisons
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.plots import to_png
from crome_jax.files import whole_output
from crome_jax.groups import PreferenceGroup
from crome_jax.sweeps.jobs import Prepared, prepare_job
from crome_jax.sweeps.plan import sweep
from crome_jax.sweeps.results import contenders, read_measured
from crome_jax.training.study import study
from crome_jax.verbs.gin_flags import Binding, add_gin_flags, split_bindings
from crome_jax.verbs.numbers import at_least

FOLDER = Path(__file__).resolve().parent
GIN = "gin/sweeps/methods.gin"
FILTERED = {
    "RRM_GROUPS": ("--gin_file=gin/augment/rrm.gin",),
    "PAPER_GROUPS": ("--gin_file=gin/augment/crome.gin", "--oracle=offline"),
}
"""Data that a baseline filters: what the sweep calls them, and how they are made."""


def run(argv: Sequence[str]) -> None:
    """Write the data where they are not there yet, sweep, and write table and figure.

    Raises:
        SystemExit: where a verb has told what is wrong; of jobs that failed, after the page of the others was written.
        CromeError: where an output cannot be written, or with --gather nothing is there.
    """
    arguments, bindings = split_bindings(argv)
    args = _make_parser().parse_args(arguments)
    for name, value in bindings:
        if name in ("DATA", "CROME_GROUPS", "OUT", *FILTERED):
            raise CromeError(
                f"--gin.{name}={value}: the benchmark makes this itself, in the folder --work; leave it out"
            )
    # Named after what they hold: another size is another data set, and the old one is not taken for it.
    sizes = f"{args.train}_{args.validation}_{args.test}_seed_{args.seed}"
    testbed, groups = args.work / f"testbed_{sizes}", args.work / f"groups_{sizes}"
    # For the jobs, which are processes of their own: most of their programs are the same, and huge pages for large
    # arrays take a quarter off a training step on a CPU (glibc; ignored elsewhere).
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(args.work / "compiled"))
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    if not testbed.exists():
        _crome(
            *("testbed", "--out", testbed, "--train", args.train),
            *("--validation", args.validation, "--test", args.test, "--seed", args.seed),
        )
    if not groups.exists():
        _crome(
            *("augment", "--data", testbed, "--split", "train", "--out", groups, "--degrade-per-pair", 1),
            *("--upgrade-per-pair", 1, "--neutrals-per-group", 1, "--seed", args.seed),
        )
    out = args.work / "sweep"
    places = {"DATA": testbed, "CROME_GROUPS": groups, "OUT": out}
    files = [GIN, *args.gin_file]
    cache = Binding("study.hidden_cache", repr(str(args.work / "hidden")))
    bindings = [
        *([] if any(binding.name == cache.name for binding in bindings) else [cache]),
        *bindings,
        *(Binding(name, repr(str(place))) for name, place in places.items()),
    ]
    jobs = configure(sweep, files, bindings)()
    wanted = [name for name in FILTERED if any(f"%{name}" in job.values.values() for job in jobs)]
    if wanted:
        baseline = prepare_job(jobs[0], study, files, bindings)
        bindings += [
            Binding(name, repr(str(_filter(name, baseline, files, bindings, places, args)))) for name in wanted
        ]
    (out / "ranking.json").unlink(missing_ok=True)  # What is there is of this sweep, or nothing is.
    status = crome_main(
        [
            *_sweep(files, bindings),
            *("--jobs", str(args.jobs), "--ensemble", "mean", "worst"),
            *(("--gather",) if args.gather else ()),
        ]
    )
    if not (out / "ranking.json").exists():
        raise SystemExit(status)
    rankings = json.loads((out / "ranking.json").read_text())
    prepared = [prepare_job(job, study, files, bindings) for job in jobs]
    tests = {split: list(read_groups(testbed, split=split)) for split in rankings}
    done = [one for one in prepared if one.is_done(tests)]
    missing = [one.job.name for one in prepared if one not in done]
    code = collections.Counter(one.record()["code"][:12] for one in done)
    settings = configure(study, files, bindings, overriding=list(jobs[0].values.items()), shared=True).keywords
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.methods', *argv])}`",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": ", ".join(f"{package} {version(package)}" for package in ("crome_jax", "jax", "optax", "numpy")),
        "code": ", ".join(f"{digest} ({count} jobs)" for digest, count in code.items())
        + (" (sha256 of the modules that the jobs were run by)"),
        "pairs": f"{args.train} to train on, {args.validation} to measure a rate with, {args.test} a test split, of "
        f"`absent` half as many; questions of seed {args.seed}",
        "backbone": f"{settings['backbone']}, {settings['layers'] or 'all'} layers, of which {settings['trainable']} "
        "train",
        "steps": f"{settings['steps']} of {settings['rows_per_step']} rows of {settings['row_shape'].tokens} tokens; "
        + _search(settings)
        + "; no weight of a loss is searched; steps and rates were chosen with Bradley-Terry and Crome on questions of "
        "another seed",
        "MMD": "bins of length of the responses of a step, as many as mmd.bins says (gin/sweeps/methods.gin)",
        "data of Crome": "by the offline editor: of each human comparison one answer lowered and one raised, an "
        "aligned tie and what it implies (as in the quickstart, not in the paper), and of each group one tie under "
        "another prompt; not filtered",
        "data of Crome as in the paper": "gin/augment/crome.gin by the offline editor: up to five lowered and five "
        "raised, nothing aligned or implied, four ties under another prompt, filtered by the first Bradley-Terry run",
        "data of RRM": "gin/augment/rrm.gin, filtered by the same run",
        "jobs": f"{len(done)} of {len(prepared)} done" + (f"; missing: {'; '.join(missing)}" if missing else ""),
    }
    figure = args.table.with_suffix(".png")
    with whole_output(figure, overwrite=True) as partial:
        partial.write_bytes(to_png(draw(rankings)))
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(render(rankings, _gather(done, tests, groups, jobs[0].point), facts, figure.name))
    print(f"table: {args.table}\nfigure: {figure}")
    if status:
        raise SystemExit(status)


def _search(settings: Mapping[str, Any]) -> str:
    rates, steps = settings["learning_rates"], settings["search_steps"] or settings["steps"]
    said = ", ".join(f"{rate:g}" for rate in rates)
    return f"the learning rate {said} for all" if len(rates) == 1 else f"a search tries {said} for {steps} steps each"


def _gather(
    done: Sequence[Prepared], tests: Mapping[str, Sequence[PreferenceGroup]], training_groups: Path, baseline: str
) -> Evidence:
    """Bring together what the jobs that are done say."""
    runs = contenders(read_measured(done, tests))
    folders = {one.job.name: one.folder for one in done}
    counted = count_comparisons(read_groups(training_groups))
    humans = sum(int(row["comparisons"]) for row in counted if row["kind"] == "human")
    bootstrap = Bootstrap()
    return Evidence(
        compare_expected(runs, tests[HARDEST], HARDEST, bootstrap),
        measure_pulls(runs, tests, baseline, bootstrap),
        {
            name: read_given([folders[run.job.name] / "run" / "report.json" for run in seeds], humans)
            for name, seeds in runs.items()
        },
    )


def _filter(
    name: str,
    baseline: Prepared,
    files: Sequence[str],
    bindings: Sequence[Binding],
    places: Mapping[str, Path],
    args: argparse.Namespace,
) -> Path:
    """Return groups of FILTERED, made where they are not there, without what a baseline is sure of.

    The baseline is the first job of the sweep, which need not be run again for it.
    """
    recipe = FILTERED[name]
    groups = places["CROME_GROUPS"].with_name(
        f"{name.lower()}_{places['CROME_GROUPS'].name}_{args.unsure:g}_{baseline.fingerprint[:12]}"
    )
    if not groups.exists():
        if args.gather:
            lacks = f"{groups} is not made yet" if baseline.is_trained() else "not even the baseline is done"
            raise CromeError(f"--gather: {lacks}; leave --gather out to go on")
        if not baseline.is_trained():
            _apart([*_sweep(files, bindings), f"--job={baseline.job.name}"])
        (run,) = baseline.runs.values()
        by = (*recipe, f"--gin.BASELINE={str(run)!r}", f"--gin.augmentation.unsure={args.unsure}")
        of = ("--data", str(places["DATA"]), "--split", "train", "--out", str(groups), "--seed", str(args.seed))
        _apart(["augment", *by, *of])
    return groups


def _sweep(files: Sequence[str], bindings: Sequence[Binding]) -> list[str]:
    flags = (f"--gin.{name}={value}" for name, value in bindings)
    return ["sweep", *(f"--gin_file={file}" for file in files), *flags]


def _apart(argv: Sequence[str]) -> None:
    """Run a verb in a process of its own, whose memory is free again while jobs run."""
    print(f"+ crome {shlex.join(argv)}", file=sys.stderr)
    status = subprocess.run([sys.executable, "-m", "crome_jax", *argv], check=False).returncode
    if status:
        raise SystemExit(status)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("methods", __doc__)
    add = parser.add_argument
    work = FOLDER.parents[1] / "runs" / "methods"
    add("--work", type=Path, default=work, metavar="DIR", help="where data and jobs go (default: runs/methods)")
    add(
        "--table",
        type=Path,
        default=FOLDER.with_suffix(".md"),
        metavar="FILE",
        help="the page to write, and beside it the figure, .png (default: benchmarks/methods.md)",
    )
    add("--seed", type=int, default=1, metavar="N", help="of the questions and of what is added (default: %(default)s)")
    for name, default in (("train", 360), ("validation", 80), ("test", 200)):
        whom = "of each test split" if name == "test" else f"of the split {name}"
        add(f"--{name}", type=at_least(2), default=default, metavar="N", help=f"pairs {whom} (default: %(default)s)")
    add("--jobs", type=at_least(1), default=1, metavar="N", help="jobs side by side (default: %(default)s)")
    add(
        "--unsure",
        type=float,
        default=UNSURE,
        metavar="P",
        help="the filter of RRM's and the paper's data: how far a win probability must be from the label (default: "
        "%(default)s)",
    )
    add("--gather", action="store_true", help="write the page of the jobs that are done (default: run what is left)")
    add_gin_flags(parser)
    return parser


def _crome(*arguments: Any) -> None:
    """Run a verb as the command line does."""
    argv = [str(argument) for argument in arguments]
    print(f"+ crome {shlex.join(argv)}", file=sys.stderr)
    status = crome_main(argv)
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"methods: error: {error}", file=sys.stderr)
        sys.exit(2)
