"""Every sweep of gin/sweeps/ loads, and each of its jobs is sound and apart from the others."""

from pathlib import Path

import pytest
from toy import text_groups

from crome_jax.augment.augmentation import augment_groups
from crome_jax.augment.oracles.offline import OfflineEditor
from crome_jax.augment.recipe import Recipe
from crome_jax.configuration import choose_entry, configure
from crome_jax.data.datasets.causal_testbed import CausalTestbedConfig, generate_groups
from crome_jax.data.loading import select_kinds
from crome_jax.groups import to_json
from crome_jax.sweeps.jobs import prepare_job
from crome_jax.sweeps.plan import sweep
from crome_jax.training.method import EVERY_ORIGIN_OF_CROME
from crome_jax.training.study import study
from crome_jax.training.train import train

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


def origins_of(name) -> dict[str, tuple[str, ...]]:
    """Return the origins of each point of a sweep, in order."""
    files, given = [f"gin/sweeps/{name}.gin"], [("DATA", "'groups/'")]
    jobs = [job for job in configure(sweep, files, given)() if job.seed == 0]
    configured = [configure(train, files, given, overriding=[*job.values.items()]).keywords["method"] for job in jobs]
    return {job.point: method.origins for job, method in zip(jobs, configured, strict=True)}


def test_an_ablation_of_a_part_leaves_out_that_part_alone():
    left_out = {point: set(EVERY_ORIGIN_OF_CROME) - set(origins) for point, origins in origins_of("parts").items()}
    assert {point: gone for point, gone in left_out.items() if gone} == {
        "upgrade only": {"degraded"},
        "degrade only": {"upgraded"},
    }


@pytest.mark.parametrize("implied", [False, True])
def test_an_ablation_of_neutrals_keeps_the_causal_comparisons_of_data_without_implied_ones(implied):
    groups = list(generate_groups(CausalTestbedConfig(name="small", train=16), "train"))
    recipe = Recipe(implied=implied)
    grown = list(augment_groups(groups, oracle=OfflineEditor.of(groups), recipe=recipe))
    causal = {
        point: sum(len(group.comparisons) for group in select_kinds(grown, ("causal",), origins))
        for point, origins in origins_of("neutrals").items()
    }
    assert set(causal) == {"IQN and CAN", "IQN", "CAN", "none"}
    assert (len(set(causal.values())) == 1) == (not implied)
    for name in ("neutrals", "parts"):
        (path,) = (path for path in FILES if path.stem == name)
        assert "`crome augment --no-implied`" in path.read_text()


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
