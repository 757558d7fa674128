"""Every sweep of gin/sweeps/ loads, and each of its jobs is sound and apart from the others."""

from pathlib import Path

import pytest
from toy import text_groups

from crome_jax.configuration import choose_entry, configure
from crome_jax.groups import to_json
from crome_jax.sweeps.jobs import prepare_job
from crome_jax.sweeps.plan import sweep
from crome_jax.training.study import study

FILES = sorted((Path(__file__).parents[2] / "gin" / "sweeps").glob("*.gin"))
NEEDS = {
    "verification": ("UNVERIFIED", "VERIFIED"),
    "amount": ("ONE", "TWO", "FOUR"),
    "oracles": ("OFFLINE", "OTHER"),
    "methods": ("DATA", "CROME_GROUPS", "RRM_GROUPS", "PAPER_GROUPS"),
}
"""Macros that a file requires where it is not DATA alone."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_plans_jobs_that_are_sound(path, tmp_path):
    bindings = []
    for number, name in enumerate(NEEDS.get(path.stem, ("DATA",))):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(to_json(group) + "\n" for group in text_groups(1 + number)))
        bindings.append((name, repr(str(data))))
    files = [f"gin/sweeps/{path.name}"]
    verb = choose_entry(files, bindings)
    jobs = configure(sweep, files, bindings)()
    assert len({job.seed for job in jobs}) == 3
    one_seed = [job for job in jobs if job.seed == 0]
    assert len(one_seed) * 3 == len(jobs)
    prepared = [prepare_job(job, verb, files, bindings) for job in one_seed]
    assert len({one.fingerprint for one in prepared}) == len(prepared)
    assert {str(one.folder.parents[1]) for one in prepared} == {f"runs/sweeps/{path.stem}"}
    assert f"{len(jobs)} jobs" in path.read_text()


@pytest.mark.parametrize("name", ["weights", "lambda"])
def test_what_weights_are_compared_with_is_the_papers(name):
    first = configure(sweep, [f"gin/sweeps/{name}.gin"], [("DATA", "'groups/'")])()[0]
    assert set(first.values.values()) == {"1.0"}


def test_a_number_of_one_method_is_set_for_the_jobs_that_have_it(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(to_json(group) + "\n" for group in text_groups(1)))
    files = ["gin/sweeps/methods.gin"]
    places = [(name, repr(str(data))) for name in NEEDS["methods"]]
    named = [("odin.length_weight", "0.1"), ("crome.neutral_weight", "0.5"), ("Method.kinds", "('human',)")]
    jobs = [job for job in configure(sweep, files, places)() if job.seed == 0]
    chosen = {job.point: job for job in jobs if job.point in ("bradley_terry", "odin", "crome", "crome_scheduled")}
    with_, without = (
        {point: prepare_job(job, study, files, [*places, *bindings]) for point, job in chosen.items()}
        for bindings in (named, [])
    )
    assert {point: set(one.unread) for point, one in with_.items()} == {
        "bradley_terry": {"odin.length_weight", "crome.neutral_weight", "Method.kinds"},
        "odin": {"crome.neutral_weight", "Method.kinds"},
        "crome": {"odin.length_weight", "Method.kinds"},
        "crome_scheduled": {"odin.length_weight", "crome.neutral_weight", "Method.kinds"},
    }
    different = {point for point in chosen if with_[point].fingerprint != without[point].fingerprint}
    assert different == {"odin", "crome"}
