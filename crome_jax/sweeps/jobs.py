"""One job of a sweep: what tells it from every other, where it lies, whether it is done, and how it is done."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import pprint
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crome_jax import files
from crome_jax.configuration import configure, find_unread
from crome_jax.errors import CromeError
from crome_jax.evaluation.rewards_files import rewards_path, write_rewards
from crome_jax.files import sha256_of, whole_output
from crome_jax.groups import PreferenceGroup
from crome_jax.sweeps.plan import Job
from crome_jax.training.method import Method, check_method
from crome_jax.training.study import study
from crome_jax.weights.backbones import TINY, backbone_path
from crome_jax.weights.packages import BACKBONES
from crome_jax.weights.runs import fingerprint_newest, is_run

DONE = "done.json"
"""Written into a job's folder once its runs are trained."""

PACKAGE = Path(__file__).resolve().parents[1]

_ELSEWHERE = re.compile(
    r"OUT|DATA|GROUPS|(train|study)\.(out|data|groups|log_every|checkpoint_every|keep_checkpoints|skip_bad|mesh"
    r"|cache_frozen|rows_at_once|hidden_cache|hidden_cache_bytes|test_splits|further_tests)|make_mesh\..*|sweep\..*"
)
"""Settings that do not decide what is learned: where things are, which machine; the data have a checksum instead."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A job that is known to be sound.

    Args:
        job: what the sweep planned.
        folder: its own.
        fingerprint: sha256 of everything that decides what is learned.
        runs: method -> folder of its run.
        unread: name -> why, of the sweep's bindings that have no effect on this job.
        work: trains them when called; goes on where it was cut off.
    """

    job: Job
    folder: Path
    fingerprint: str
    runs: Mapping[str, Path]
    unread: Mapping[str, str]
    work: Callable[[], Any]

    def is_trained(self) -> bool:
        """Tell whether its runs were trained to their end."""
        return _is_trained(self.folder, self.fingerprint)

    def record(self) -> dict[str, Any]:
        """Return what was written once its runs were trained: `job`, `fingerprint`, `code`, `values`."""
        return json.loads((self.folder / DONE).read_text())

    def unscored(self, tests: Mapping[str, Sequence[PreferenceGroup]]) -> list[tuple[str, str]]:
        """Return (method, data set) of what has not been scored yet."""
        return [
            (method, name)
            for method, run in self.runs.items()
            for name, groups in tests.items()
            if not rewards_path(run, groups).exists()
        ]

    def is_done(self, tests: Mapping[str, Sequence[PreferenceGroup]]) -> bool:
        """Tell whether nothing is left to do."""
        return self.is_trained() and not self.unscored(tests)


def prepare_job(
    job: Job,
    verb: Callable,
    files: Sequence[str],
    bindings: Sequence[tuple[str, str]],
    allow_imports: bool = False,
) -> Prepared:
    """Configure a job, try its methods, and find its folder: nothing is loaded or compiled for it.

    What tells jobs apart is the operative configuration, which names every argument that is used with its value, the
    contents of the data and of a backbone that is no package's, and the version of this program. The folder is named
    after both the job and that, so a sweep of other settings into the same place finds nothing done, and spoils
    nothing; one of the same settings under another name is found.

    Args:
        verb: `train` or `study`.
        files, bindings, allow_imports: of the sweep, as `configure` takes them.

    Raises:
        CromeError: naming the job and what is wrong with its configuration.
    """
    own = [*job.values.items(), (f"{verb.__name__}.seed", str(job.seed))]
    with _of(job):
        configured = configure(verb, files, bindings, overriding=own, shared=True, allow_imports=allow_imports)
        unread = find_unread(configured, [name for name, _ in bindings])
        arguments = configured.keywords
        methods = arguments["methods"] if verb is study else [arguments["method"]]
        _try_out(methods, arguments, verb)
        digests = _digest_inputs(arguments)
        decides = _what_decides(configured, [*digests, "out"])
    text = json.dumps([verb.__name__, version("crome_jax"), decides, digests], sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    folder = _find_folder(Path(arguments["out"]) / "jobs", job.name, fingerprint)
    run = folder / "run"
    runs = {method.name: run / method.name if verb is study else run for method in methods}

    def work() -> None:
        out = (f"{verb.__name__}.out", repr(str(run)))
        configure(verb, files, bindings, overriding=[*own, out], shared=True, allow_imports=allow_imports)()

    return Prepared(job, folder, fingerprint, runs, unread, work)


def run_job(prepared: Prepared, tests: Mapping[str, Sequence[PreferenceGroup]], *, rows_at_once: int = 8) -> None:
    """Do what is left of a job: train, score the data sets, and write what was done beside it.

    Another process at work on the same job is waited for.

    Args:
        tests: data set -> its groups.
        rows_at_once: rows in one call of the model, while scoring.

    Raises:
        CromeError: where a run cannot be trained or a data set not scored; what was done stays.
    """
    from crome_jax.evaluation.pair_scoring import judge_groups
    from crome_jax.training.train import load_run

    with _alone(prepared.folder):
        if not prepared.is_trained():
            prepared.work()
            with whole_output(prepared.folder / DONE, overwrite=True) as partial:
                facts = {"job": prepared.job.name, "fingerprint": prepared.fingerprint, "code": digest_code()}
                partial.write_text(json.dumps(facts | {"values": dict(prepared.job.values)}, indent=1))
        model = functools.lru_cache(maxsize=1)(load_run)
        for method, name in prepared.unscored(tests):
            run = prepared.runs[method]
            scores = judge_groups(model(run), tests[name], rows_at_once=rows_at_once)
            write_rewards(run, tests[name], scores.rewards)


digest_files = functools.cache(files.digest_files)
"""Read once: the jobs of a sweep have the same data, which do not change while it is planned."""


@functools.cache
def digest_code() -> str:
    """Return the sha256 of this program's modules, of names and contents: a job's record says what it was run by.

    It does not tell jobs apart, as the version does: most changes change no result.
    """
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(PACKAGE)} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


@functools.cache
def _digest_backbone(name: str) -> str | None:
    """Return the sha256 of what a backbone is read from, of a run its newest checkpoint; None of a package's."""
    if name in BACKBONES or name == TINY:
        return None
    path = backbone_path(name)
    if is_run(path):
        return fingerprint_newest(path)
    return digest_files(str(path), hidden=False)  # Downloads leave time stamps in hidden folders.


def _digest_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digest of each argument that names files whose contents decide what is learned."""
    given = {name: arguments[name] for name in ("data", "groups", "validation") if arguments.get(name) is not None}
    digests = {name: _digest(data) for name, data in given.items()}
    if (backbone := _digest_backbone(arguments["backbone"])) is not None:
        digests["backbone"] = backbone
    return digests


def _digest(data: str | Mapping[str, float]) -> str | list[tuple[str, float]]:
    """Return the digest of data; of a mixture those of its parts, each with its weight."""
    if isinstance(data, str):
        return digest_files(data)
    return [(digest_files(path), float(weight)) for path, weight in data.items()]


def _is_trained(folder: Path, fingerprint: str) -> bool:
    try:
        return json.loads((folder / DONE).read_text())["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _find_folder(jobs: Path, name: str, fingerprint: str) -> Path:
    """Return the folder in which what a job does was done, or else begun; where it was not, one of its name."""
    slug, short = re.sub(r"[^\w.=,+-]+", "_", name).strip("_")[:80], fingerprint[:12]
    folders = [jobs / f"{slug}-{short}", *sorted(jobs.glob(f"*-{short}"))]
    return max(folders, key=lambda folder: (_is_trained(folder, fingerprint), folder.exists()))  # Of equals the first.


def _try_out(methods: Sequence[Method], arguments: Mapping[str, Any], verb: Callable) -> None:
    """Call what the run will call: its choices are checked, and gin knows which arguments are operative."""
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise CromeError(f"two methods are called {max(names, key=names.count)!r}; give each its own Method.name")
    for method in methods:
        check_method(method, arguments["steps"], arguments["trainable"])
    arguments["optimizer"](steps=arguments["steps"], **({"learning_rate": 1e-4} if verb is study else {}))


def _what_decides(configured: functools.partial, elsewhere: Sequence[str]) -> dict[str, str]:
    """Return the operative settings that decide what is learned: but for those that say where an argument is."""
    arguments = configured.keywords
    places = {pprint.pformat(arguments[name], width=100_000) for name in elsewhere}
    lines = arguments["operative_config"](max_line_length=100_000).splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
    return {name: value for name, value in settings.items() if not _ELSEWHERE.fullmatch(name) and value not in places}


@contextlib.contextmanager
def _of(job: Job) -> Iterator[None]:
    try:
        yield
    except CromeError as e:
        message = str(e).partition("\n  In call to configurable")[0]
        raise CromeError(f"job {job.name}: {message}") from None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from the same job; the system lets go of it when this one ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process works on it; waiting", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
