"""The benchmarks by name: how each is read and what its scores are."""

import contextlib
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crome_jax.data.datasets.benchmarks.builder import (
    SPLIT,
    BenchmarkBuilder,
    BenchmarkConfig,
    Source,
    generate_groups,
    manual_files,
)
from crome_jax.data.datasets.benchmarks.judgebench import JudgeBench
from crome_jax.data.datasets.benchmarks.llmbar import LLMBar
from crome_jax.data.datasets.benchmarks.pairs import Pairs
from crome_jax.data.datasets.benchmarks.rewardbench import RewardBench
from crome_jax.data.datasets.benchmarks.rewardbench2 import RewardBench2
from crome_jax.data.datasets.benchmarks.rewordbench import RewordBench, generate_reworded
from crome_jax.data.datasets.benchmarks.rm_bench import RMBench
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.evaluation.benchmarks.examples import Measure
from crome_jax.evaluation.benchmarks.judgebench import measure_judgebench
from crome_jax.evaluation.benchmarks.llmbar import measure_llmbar
from crome_jax.evaluation.benchmarks.pairs import measure_pairs
from crome_jax.evaluation.benchmarks.rewardbench import measure_rewardbench
from crome_jax.evaluation.benchmarks.rewardbench2 import NO_PAIRWISE, check_ties, measure_rewardbench2
from crome_jax.evaluation.benchmarks.rewordbench import measure_rewordbench
from crome_jax.evaluation.benchmarks.rm_bench import measure_rm_bench
from crome_jax.groups import PreferenceGroup

Check = Callable[[Sequence[PreferenceGroup]], None]
Generate = Callable[[Mapping[str, Path], Quarantine | None], Iterator[PreferenceGroup]]


class Benchmark(NamedTuple):
    """A benchmark.

    Args:
        builder: its TFDS builder.
        measure: from its scored examples to its table.
        chance: the score that a random scorer gets in every part, None where parts differ in that.
        check: raises CromeError where groups are not the whole of what its formula needs.
        no_pairwise: why pairwise models cannot be measured, None where they can.
    """

    builder: type[BenchmarkBuilder]
    measure: Measure
    chance: float | None = 0.5
    check: Check = lambda groups: None
    no_pairwise: str | None = None

    @property
    def source(self) -> Source:
        """Where it comes from and how it is read."""
        return self.builder.source


BENCHMARKS = {
    benchmark.source.name: benchmark
    for benchmark in (
        Benchmark(RewardBench, measure_rewardbench),
        Benchmark(RewardBench2, measure_rewardbench2, chance=None, check=check_ties, no_pairwise=NO_PAIRWISE),
        Benchmark(RMBench, measure_rm_bench),
        Benchmark(RewordBench, measure_rewordbench),
        Benchmark(JudgeBench, measure_judgebench),
        Benchmark(LLMBar, measure_llmbar),
        Benchmark(Pairs, measure_pairs),
    )
}
"""Name to benchmark."""


RETRIES = 4
"""Of a download that fails, after 0.4 to 3.2 s. TFDS's ten let who has no network wait for 204 s in silence."""


def read_benchmark(
    name: str,
    manual_dir: Path | None,
    data_dir: Path,
    quarantine: Quarantine | None = None,
    config: str = "hub",
    accepted: Collection[str] = (),
) -> list[PreferenceGroup]:
    """Read a benchmark's groups, from files of the user's or from the public hub.

    Args:
        manual_dir: folder that holds the files; None downloads them, through TFDS, into `data_dir`.
        data_dir: where TFDS keeps what was downloaded; a second run reads it there.
        quarantine: where bad records of `manual_dir` go; None lets the first one stop the reading.
        config: of the builder, which says what is downloaded and which files of `manual_dir` count.
        accepted: sha256 sums of downloads that the user vouches for, where none is known.

    Raises:
        CromeError: where nothing is to be downloaded, or it cannot be.
        DataError: where the files are not there, are others than expected, or a record is bad.
    """
    configs = {known.name: known for known in BENCHMARKS[name].builder.BUILDER_CONFIGS}
    source = configs[config].source or BENCHMARKS[name].source
    if manual_dir is not None:
        read = generate_reworded if name == "rewordbench" else _generate(source)
        return list(read(manual_files(source, manual_dir), quarantine))
    if not source.downloads:
        raise CromeError(f"{source.title}: there is nothing to download; name a folder with --manual_dir")
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = RETRIES  # It has no setting for it.
    tfds.disable_progress_bar()
    builder = BENCHMARKS[name].builder(config=config, data_dir=str(data_dir), file_format="array_record")
    builder.accepted = accepted
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS says where it builds.
            builder.download_and_prepare()
    except CromeError:
        raise
    except Exception as e:  # Whatever the network and TFDS raise.
        reason = next(iter(str(e).splitlines()), type(e).__name__)[:200]
        raise CromeError(
            f"{source.title}: cannot be downloaded ({reason}); get {source.layout} by other means and name their "
            "folder with --manual_dir"
        ) from None
    return list(read_groups(builder.data_dir, split=SPLIT))


def manual_builder(name: str, manual_dir: Path, data_dir: Path) -> BenchmarkBuilder:
    """Return the TFDS builder of a benchmark whose files are in a folder of the user's."""
    config = BenchmarkConfig(name="manual", description=f"The files of {manual_dir}.", manual_dir=str(manual_dir))
    return BENCHMARKS[name].builder(config=config, data_dir=str(data_dir), file_format="array_record")


def _generate(source: Source) -> Generate:
    return lambda files, quarantine: generate_groups(source, files, quarantine)
