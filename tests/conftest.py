"""Eight pretend devices on a CPU, strict JAX, checked shape annotations, and what several tests share."""

import gc
import os
from pathlib import Path

# These are read once, when JAX starts: they come before anything that imports it. Tiny models spend their time in the
# compiler, and a third of it in the newer of XLA's two ways to write fused loops.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Commands that tests start keep nothing in the user's cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 --xla_cpu_use_fusion_emitters=false"
).strip()

import hypothesis
import jax
import jaxtyping
import pytest

# Checks every annotated shape and dtype at call time. It rewrites modules as they are imported: it comes before them.
jaxtyping.install_import_hook(
    ["crome_jax.models", "crome_jax.objectives", "crome_jax.data.packing"], "beartype.beartype"
)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Unoptimised programs halve the compiler's time again.
jax.config.update("jax_disable_most_optimizations", True)

# The two cores of a CI machine make deadlines flaky; derandomized, a failure is one that anybody can repeat.
hypothesis.settings.register_profile("crome", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("crome")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a test after no bytes: gzip's hold the time, and two workers must collect the same names."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """Keep the million objects of the imported libraries from the garbage collector, a twentieth of the tests' time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow the cases that `slow_cases.txt` names.

    Raises:
        pytest.UsageError: where a file that was collected whole lacks a case that is named.
    """
    tests = Path(__file__).parent
    lines = (tests / "slow_cases.txt").read_text().splitlines()
    named = {line for line in lines if line and not line.startswith("#")}
    collected = {f"{item.path.relative_to(tests)}::{item.name}": item for item in items}
    for case in named & collected.keys():
        collected[case].add_marker(pytest.mark.slow)
    files = {case.partition("::")[0] for case in collected}
    missing = [case for case in sorted(named - collected.keys()) if case.partition("::")[0] in files]
    if missing and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"tests/slow_cases.txt names {missing[0]}, which is not there; correct it")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets beside the checkout; skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets in {folder}, which are not part of the repository")
    return folder
