"""Several processes that train one model: how they find each other, and what becomes of the others when one dies."""

import contextlib
import dataclasses
import itertools
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from crome_jax.errors import CromeError, NotTogether, Preempted
from crome_jax.training.preemption import let_sigterm_end

PORT = 8476
"""Of the coordinator, where the environment names its host alone."""

WHERE = ("none", "tpu", "slurm", "jobset", "flags")
"""What says who takes part: nothing (one process), the TPU's metadata, SLURM, a Kubernetes JobSet, or flags."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Who takes part.

    Args:
        coordinator: host:port of process 0.
        processes: how many there are.
        process: which of them this one is, from 0.

    Raises:
        CromeError: where the numbers do not go together.
    """

    coordinator: str
    processes: int
    process: int

    def __post_init__(self):
        if not re.fullmatch(r"\S+:\d+", self.coordinator):
            raise CromeError(f"--coordinator is {self.coordinator!r}; give HOST:PORT of process 0")
        if not 0 <= self.process < self.processes:
            raise CromeError(f"--process is {self.process} of {self.processes}; give a number from 0 to one less")


def find_cluster(where: str, environ: Mapping[str, str]) -> Cluster:
    """Read from a job's environment who takes part.

    Args:
        where: "slurm" or "jobset". Of a JobSet the pods number themselves job by job: process = JOB_INDEX x pods of a
            job + JOB_COMPLETION_INDEX, with what `launch/jobset.sh` writes into the manifest as COORDINATOR, JOB_INDEX,
            PODS_PER_JOB and JOBS.

    Raises:
        CromeError: naming the variable that is not there, or is no number.
    """

    def number(name: str) -> int:
        try:
            return int(environ[name])
        except KeyError:
            problem = f"{name} is not set; is this a {where} job? Give --coordinator, --processes and --process"
            raise CromeError(problem) from None
        except ValueError:
            raise CromeError(f"{name} is {environ[name]!r}, no number") from None

    if where == "slurm":
        if "SLURM_STEP_NODELIST" not in environ:
            raise CromeError("SLURM_STEP_NODELIST is not set; start the processes with srun")
        # A port of the job's own, so that two jobs may share a host.
        port = 20_000 + number("SLURM_JOB_ID") % 40_000
        host = first_host(environ["SLURM_STEP_NODELIST"])
        return Cluster(f"{host}:{port}", number("SLURM_NTASKS"), number("SLURM_PROCID"))
    if "COORDINATOR" not in environ:
        raise CromeError("COORDINATOR is not set; use the manifest of launch/jobset.sh, which sets it")
    pods = number("PODS_PER_JOB")
    process = number("JOB_INDEX") * pods + number("JOB_COMPLETION_INDEX")
    return Cluster(f"{environ['COORDINATOR']}:{PORT}", number("JOBS") * pods, process)


def first_host(nodes: str) -> str:
    """Return the first host of a SLURM node list: `a[003-005,9]-[1-2],b` begins with `a003-1`."""
    first = re.match(r"(?:[^,\[\]]|\[[^\[\]]+\])+", nodes)
    if not first:
        raise CromeError(f"SLURM_STEP_NODELIST is {nodes!r}, no list of hosts")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0])


def join(where: str, *, cluster: Cluster | None = None, heartbeat: int = 60, patience: int = 300) -> None:
    """Join the other processes of a run; JAX then sees the devices of all. Before anything else asks for a device.

    Args:
        where: of WHERE; "tpu" lets JAX ask the TPU's metadata.
        cluster: of "flags".
        heartbeat: seconds of silence after which a process counts as dead. The others end within twice as many.
        patience: seconds to wait for all to come.

    SIGTERM ends the process at once from then on, but for while a `Preemption` listens. Where the others do not come in
    time, the process ends with a message and status 3: JAX would abort it instead of raising.

    Raises:
        CromeError: where the environment does not say who takes part.
        NotTogether: where they cannot come together.
    """
    if where == "none":
        return
    if where == "flags" and cluster is None:
        raise CromeError("--distributed=flags needs --coordinator, --processes and --process")
    if where in ("slurm", "jobset"):
        cluster = find_cluster(where, os.environ)
    _keep_stdout_for_results()
    # Two CPU processes talk by gloo; an accelerator's have collectives of their own, and this setting does not matter.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    named = {}
    if cluster is not None:
        named = {"coordinator_address": cluster.coordinator, "num_processes": cluster.processes}
        named["process_id"] = cluster.process
        named["cluster_detection_method"] = "deactivate"
    too_late = threading.Timer(patience, _end_alone, [patience])
    too_late.daemon = True
    too_late.start()
    try:
        jax.distributed.initialize(
            **named,
            heartbeat_timeout_seconds=heartbeat,
            initialization_timeout=2 * patience,  # Longer than ours.
            shutdown_timeout_seconds=heartbeat,
        )
    except (RuntimeError, ValueError) as e:
        raise _not_together(patience, f" ({str(e).splitlines()[0][:200]})") from None
    finally:
        too_late.cancel()
    let_sigterm_end()
    # The first collective connects every two hosts: now, while all of them are here.
    multihost_utils.sync_global_devices("joined")
    print(
        f"process {jax.process_index()} of {jax.process_count()}: {jax.local_device_count()} devices", file=sys.stderr
    )


def _end_alone(patience: float) -> None:
    print(f"crome: error: {_not_together(patience)}", file=sys.stderr, flush=True)
    os._exit(3)  # Another thread waits in JAX, and cannot be interrupted.


def _not_together(patience: float, what: str = "") -> NotTogether:
    return NotTogether(
        f"the processes did not come together within {patience} s{what}; check that all were started, that process 0 "
        "can be reached, and that no port is taken"
    )


def _keep_stdout_for_results() -> None:
    """Let what is no result go to stderr: of each of its connections gloo tells on standard output."""
    if sys.stdout is None:
        return
    sys.stdout.flush()
    results = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = os.fdopen(results, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def is_first() -> bool:
    """Tell whether this process is the one that writes what is written once, and talks to the user."""
    return jax.process_index() == 0


_barriers = itertools.count()

_PATIENCE = 7 * 24 * 3600  # Seconds; reading and packing large data takes hours.
_WORD = 500  # Bytes.


def wait_for_all(what: str) -> None:
    """Wait until every process is here, however unequal their work was; the heartbeat tells of those that died.

    By the coordination service: a collective between CPUs gives up after 30 seconds.

    Args:
        what: is waited for; errors name it.
    """
    if jax.process_count() > 1:
        multihost.get_barrier_sync_fn()(key=f"crome-{next(_barriers)}-{what}", timeout_ms=1000 * _PATIENCE)


def first_word(here: str | None) -> str | None:
    """Return what the first process that says something says, on every process; all of them ask.

    Args:
        here: what this process says, of which so many bytes travel; None says nothing.
    """
    if jax.process_count() == 1:
        return here
    wait_for_all("first-word")  # However long one had to look for what it says.
    mine = (here or "").encode()[:_WORD].ljust(_WORD, b"\0")
    said = multihost_utils.process_allgather(np.frombuffer(mine, np.uint8))
    words = (bytes(word).rstrip(b"\0").decode(errors="ignore") for word in np.asarray(said, np.uint8))
    return next((word for word in words if word), None)


@contextlib.contextmanager
def first_goes_ahead(what: str) -> Iterator[bool]:
    """Let process 0 run the block before the others do; yields whether this is it.

    What process 0 wrote in the block the others then find.
    """
    wait_for_all(f"before-{what}")
    if not is_first():
        wait_for_all(what)
    yield is_first()
    if is_first():
        wait_for_all(what)


def of_another(error: BaseException | None) -> Exception | None:
    """Return JAX's error at the root of an error where that tells of another process, else None: it is of this one.

    Libraries wrap it: Orbax says of every barrier at which somebody is missing that it took too long. And whoever could
    not write fails at the next barrier, too, where the others do not come: then the disk's error is the root.
    """
    found = None
    while jax.process_count() > 1 and error is not None:
        # A collective of gloo that fails while it is dispatched is no error of JAX's own.
        if isinstance(error, jax.errors.JaxRuntimeError) or re.match(r"[A-Z_]+: Gloo ", str(error)):
            found = error
        elif isinstance(error, OSError) and not isinstance(error, TimeoutError):
            found = None
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


@contextlib.contextmanager
def ends_with_the_others() -> Iterator[None]:
    """End this process at once, with a message, where another process of the run died or gave up.

    A collective over several hosts that one of them will never join fails (gloo on CPU notices the closed connection at
    once) or waits; JAX's own heartbeat ends those that wait. Neither may then wait for the dead at exit, as JAX
    would: the process leaves without its usual clean-up. Checkpoints are whole files, renamed into place: nothing is
    lost by that.
    """
    try:
        yield
    except BaseException as e:
        if jax.process_count() == 1 or isinstance(e, Preempted):  # All of them end so, together.
            raise
        me = f"process {jax.process_index()} of {jax.process_count()}"
        status = 2 if isinstance(e, CromeError) else 3
        if isinstance(e, CromeError):
            print(f"crome: error: {me}: {e}", file=sys.stderr)
        elif (lost := of_another(e)) is None:
            traceback.print_exc()
            status = 1
        elif "RESOURCE_EXHAUSTED" in (what := (str(lost).strip() or type(lost).__name__).splitlines()[0][:300]):
            print(f"crome: error: {me}: out of memory ({what}); see what fits with `crome plan`", file=sys.stderr)
            status = 2
        else:
            print(
                f"crome: error: {me}: stopped, since another process of the run died or cannot be reached ({what}); "
                "start all of them again with the same command: the run goes on from its newest checkpoint",
                file=sys.stderr,
            )
        sys.stderr.flush()
        os._exit(status)
