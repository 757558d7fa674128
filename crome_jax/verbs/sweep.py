"""Train over a grid or a list of gin bindings and several seeds, and rank what came out; the same command resumes.

  crome sweep --gin_file=gin/sweeps/weights.gin --gin.DATA="'groups/'" --data test.jsonl
  crome sweep --gin_file=gin/runs/crome.gin --gin.DATA="'groups/'" --data test.jsonl \\
      --gin.sweep.grid="{'crome.neutral_weight': [0.0, 1.0]}" --gin.sweep.seeds="(0, 1, 2)"

The gin files are those of a run or a study; sweep.grid and sweep.points say what changes from job to job, and OUT where
the sweep goes. Every job is a process of its own, in OUT/jobs/<job>. One whose operative configuration and data are
those of a job that is done is not done again; one that was cut off goes on from its checkpoint (a study starts over).
OUT/results.parquet and .csv hold a row for each job, data set, stratum and metric; OUT/sweep.html the ranking with
paired bootstrap tests against the first point (none where that has no result), and heat maps over the first two numbers
that are swept; OUT/ranking.json the rankings, by category as well.
Exit status 2, after all that, where a job failed.
"""

import argparse
import functools
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crome_jax.errors import CromeError
from crome_jax.files import is_remote
from crome_jax.verbs.evaluate import DataSet, check_distinct, data_set
from crome_jax.verbs.gin_flags import Binding, add_gin_flags
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.terms import say_terms

if TYPE_CHECKING:
    from crome_jax.groups import PreferenceGroup
    from crome_jax.sweeps.jobs import Prepared
    from crome_jax.sweeps.plan import Job

Tests = dict[str, "list[PreferenceGroup]"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_gin_flags(parser)
    parser.add_argument(
        "--data",
        type=data_set,
        nargs="+",
        default=[],
        metavar="[NAME=]PATH[@SPLIT]",
        help="preference data to measure on; a sweep over a run needs some (default: over a study, its test splits)",
    )
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, metavar="N", help="jobs side by side (default: %(default)s)"
    )
    parser.add_argument(
        "--print",
        action="store_true",
        help="print one command for each job that is not done, for a scheduler or several machines, and run nothing; "
        "the same command without --print then gathers the results (default: run them here)",
    )
    parser.add_argument(
        "--submit",
        metavar="COMMAND",
        help="give each job that is not done to a launch script, as in --submit='launch/slurm.sh --gpus 1'; {job} in "
        "it becomes a name of the job's own, 12 letters and digits; with --print, print that (default: run them here)",
    )
    parser.add_argument(
        "--gather",
        action="store_true",
        help="run nothing, and gather the results of the jobs that are done (default: run what is left)",
    )
    parser.add_argument(
        "--job", metavar="JOB", help="run this one job only, in this process, and gather nothing (default: all)"
    )
    parser.add_argument(
        "--ensemble",
        choices=("mean", "worst"),
        nargs="+",
        default=[],
        help="rank the seeds of each point taken together, too, by the mean or the lowest of their rewards (default: "
        "no ensemble)",
    )
    add_rows_at_once(parser)


def run(args: argparse.Namespace) -> None:
    """Plan, run what is left, and gather what there is."""
    from crome_jax.configuration import choose_entry, configure
    from crome_jax.sweeps.jobs import prepare_job, run_job
    from crome_jax.sweeps.plan import sweep
    from crome_jax.training.study import study

    configure = functools.partial(configure, allow_imports=args.allow_gin_imports)
    verb = choose_entry(args.gin_file, args.bindings, allow_imports=args.allow_gin_imports)
    jobs = configure(sweep, args.gin_file, args.bindings)()
    _check_bindings(jobs, args.bindings, verb)
    if args.job is not None:
        jobs = [_choose(jobs, args.job)]
    prepared = [prepare_job(job, verb, args.gin_file, args.bindings, args.allow_gin_imports) for job in jobs]
    if args.job is None:
        _check_read(prepared, args.bindings)
        _check_apart(prepared)
    own = list(jobs[0].values.items())
    arguments = configure(verb, args.gin_file, args.bindings, overriding=own, shared=True).keywords
    if is_remote(arguments["out"]):
        raise CromeError(
            f"{verb.__name__}.out is {arguments['out']}: a sweep keeps logs and locks of its jobs on a file system; "
            "set OUT to a folder, such as one of a disk that is mounted"
        )
    data = args.data
    if not data and verb is study:
        data = [DataSet(split, Path(arguments["data"]), split) for split in arguments["test_splits"]]
        data += [DataSet(name, Path(path), None) for name, path in (arguments["further_tests"] or {}).items()]
    if not data:
        raise CromeError("nothing to measure on; give preference data with --data")
    check_distinct([one.name for one in data], "data sets are called", "--data NAME=PATH")
    say_terms(arguments["backbone"])
    tests = _read(data)
    if args.job is not None:
        run_job(prepared[0], tests, rows_at_once=args.rows_at_once)
        return
    # One seed of every point, then the next: what is cut off is whole, with fewer seeds.
    seeds = list(dict.fromkeys(job.seed for job in jobs))
    left = sorted((one for one in prepared if not one.is_done(tests)), key=lambda one: seeds.index(one.job.seed))
    commands = {one.job.name: _command(args, one.job) for one in left}
    if args.print or args.submit is not None:
        for one in left:
            _hand_on(args, one, commands[one.job.name])
        return
    print(f"{len(prepared)} jobs, {len(prepared) - len(left)} of them done already", file=sys.stderr)
    if args.gather and len(left) == len(prepared):
        raise CromeError(f"none of the {len(prepared)} jobs is done; leave --gather out to run them")
    failed = {} if args.gather else _run(left, commands, args.jobs)
    _gather(Path(arguments["out"]), prepared, failed, tests, args.ensemble)
    if failed:
        said = "; ".join(f"{job}: {problem}" for job, problem in failed.items())
        raise CromeError(f"{len(failed)} of {len(prepared)} jobs failed: {said}")


def _check_bindings(jobs: Sequence["Job"], bindings: Sequence[Binding], verb: Callable) -> None:
    """Refuse what is said twice: by the command line and by the sweep."""
    swept = dict.fromkeys(name for job in jobs for name in job.values)
    for name, value in bindings:
        if name in swept:
            raise CromeError(f"--gin.{name}={value}: the sweep binds {name} itself; take one of them out")
    for name in ("SEED", f"{verb.__name__}.seed"):
        if name in swept or name in (binding.name for binding in bindings):
            raise CromeError(f"{name}: the seeds of a sweep are sweep.seeds; bind that instead")
    for name in ("OUT", f"{verb.__name__}.out"):
        if name in swept:
            raise CromeError(f"{name}: the sweep gives each job a folder of its own; take it out of sweep")


def _check_read(prepared: Sequence["Prepared"], bindings: Sequence[Binding]) -> None:
    """Refuse what no job reads: a binding of one method's objective has no effect on the others."""
    for name, value in bindings:
        if not name.startswith("sweep.") and all(name in one.unread for one in prepared):
            first = prepared[0]
            raise CromeError(f"--gin.{name}={value}: no job reads it; job {first.job.name}: {first.unread[name]}")


def _check_apart(prepared: Sequence["Prepared"]) -> None:
    """Refuse two jobs that would train the same: what the sweep says sets them apart does not."""
    first: dict[str, Prepared] = {}
    for one in prepared:
        same = first.setdefault(one.fingerprint, one)
        if same is not one:
            raise CromeError(
                f"jobs {same.job.name} and {one.job.name} are the same: nothing that decides what is learned differs "
                "between them; leave one of them out, or bind what the run reads (crome train --gin_help lists it)"
            )


def _choose(jobs: Sequence["Job"], name: str) -> "Job":
    for job in jobs:
        if job.name == name:
            return job
    raise CromeError(f"--job {name!r}: the sweep has no such job; its jobs are {', '.join(job.name for job in jobs)}")


def _read(data: Sequence[DataSet]) -> Tests:
    from crome_jax.data.readers import read_groups

    return {one.name: list(read_groups(one.path, split=one.split)) for one in data}


def _command(args: argparse.Namespace, job: "Job") -> list[str]:
    """Return the arguments that run one job."""
    command = ["sweep", *(f"--gin_file={file}" for file in args.gin_file)]
    command += [f"--gin.{name}={value}" for name, value in args.bindings]
    if args.allow_gin_imports:
        command.append("--allow-gin-imports")
    if args.data:
        named = (f"{one.name}={one.path}" + (f"@{one.split}" if one.split else "") for one in args.data)
        command += ["--data", *named]
    return [*command, f"--rows-at-once={args.rows_at_once}", f"--job={job.name}"]


def _hand_on(args: argparse.Namespace, one: "Prepared", command: Sequence[str]) -> None:
    """Print what runs a job, or give it to the launch script."""
    words = ["crome", *command]
    if args.submit is not None:
        script = [word.replace("{job}", one.fingerprint[:12]) for word in shlex.split(args.submit)]
        words = [*script, "--", *command]
    if args.print:
        print(shlex.join(words))
        return
    print(f"{one.job.name}: submitted by {shlex.join(script)}", file=sys.stderr, flush=True)
    try:
        status = subprocess.run(words, check=False).returncode
    except OSError as e:
        raise CromeError(f"--submit: {script[0]} cannot be run ({e.strerror}); give a script of launch/") from None
    if status:
        raise CromeError(f"--submit: {script[0]} ended with status {status} at job {one.job.name}; see what it said")


def _run(left: Sequence["Prepared"], commands: dict[str, list[str]], at_once: int) -> dict[str, str]:
    from crome_jax.sweeps.launch import run_side_by_side

    folders = {one.job.name: one.folder for one in left}
    python = [sys.executable, "-m", "crome_jax"]
    return run_side_by_side(
        {job: ([*python, *command], folders[job]) for job, command in commands.items()}, at_once=at_once
    )


def _gather(
    out: Path, prepared: Sequence["Prepared"], failed: dict[str, str], tests: Tests, ensembles: Sequence[str]
) -> None:
    """Write the table, the rankings and the page of the jobs that are done, and print the ranking."""
    from crome_jax.evaluation.bootstrap import Bootstrap
    from crome_jax.files import whole_output
    from crome_jax.sweeps.page import render_sweep
    from crome_jax.sweeps.results import (
        contenders,
        rank,
        read_measured,
        tidy_rows,
        untested,
        with_ensembles,
        write_rankings,
        write_table,
    )

    bootstrap = Bootstrap()
    done = [one for one in prepared if one.is_done(tests)]
    measured = read_measured(done, tests)
    missing = [one.job.name for one in prepared if one not in done and one.job.name not in failed]
    if not measured:
        return
    runs = contenders(measured)
    planned = prepared[0].job.point
    tested = measured[0].job.point == planned
    baseline = next(iter(runs)) if tested else planned
    rankings, by_category = {}, {}
    for name, groups in tests.items():
        rewards = with_ensembles(runs, name, ensembles)
        ensembled = rewards.keys() - runs.keys()
        rankings[name] = rank(groups, rewards, bootstrap, ensembles=ensembled)
        categories = sorted({str(group.metadata["category"]) for group in groups if "category" in group.metadata})
        by_category[name] = {
            one: rank(groups, rewards, bootstrap, category=one, ensembles=ensembled) for one in categories
        }
    if not tested:
        rankings = {name: untested(ranked) for name, ranked in rankings.items()}
        by_category = {
            name: {one: untested(ranked) for one, ranked in some.items()} for name, some in by_category.items()
        }
    write_rankings(rankings, by_category, out)
    parquet, table = write_table(tidy_rows(measured, tests, bootstrap), out)
    page = out / "sweep.html"
    with whole_output(page, overwrite=True) as partial:
        partial.write_text(
            render_sweep(f"Sweep {out.name}", rankings, runs, baseline, failed, missing, len(prepared), bootstrap),
            encoding="utf-8",
        )
    tests_said = f"against {baseline}" if tested else f"without tests: {baseline}, the baseline, has no result"
    for name, ranked in rankings.items():
        print(f"{name}, {tests_said}:")
        for place in ranked:
            low, high = place.interval
            p = "" if place.adjusted is None else f"  {place.difference:+.1%} to the baseline, p {place.adjusted:.3f}"
            print(f"  {place.accuracy:.1%} ({low:.1%} to {high:.1%}), {place.seeds} seeds  {place.name}{p}")
    print(f"table: {table}, {parquet}\npage: {page}")
