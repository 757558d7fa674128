"""Jobs as processes of their own: one that fails, or is killed, takes no other with it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOG = "log.txt"
"""What a job printed, in its folder; each attempt is added to it."""


def run_side_by_side(
    commands: Mapping[str, tuple[Sequence[str], Path]],
    *,
    at_once: int,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> dict[str, str]:
    """Run commands, so many at a time, each to its end.

    Args:
        commands: job -> its command line, and its folder, which gets a log of what it prints.
        at_once: processes at a time.
        say: called with a line for a reader when a job begins and when it ends.

    Returns:
        Job -> what was wrong, for those that failed.
    """
    total, ended = len(commands), 0
    processes: list[subprocess.Popen] = []

    def run(job: str) -> str | None:
        nonlocal ended
        command, folder = commands[job]
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{job}: begins; its log is {folder / LOG}")
        started = time.monotonic()
        with (folder / LOG).open("ab") as log:
            begins = log.tell()
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            processes.append(process)
            status = process.wait()
        ended += 1
        problem = _problem(status, folder / LOG, begins)
        took = f"{time.monotonic() - started:.0f} s"
        say(f"{job}: {'done' if problem is None else f'failed ({problem})'} after {took}; {ended} of {total} ended")
        return problem

    with ThreadPoolExecutor(at_once) as pool:
        running = {job: pool.submit(run, job) for job in commands}
        try:
            problems = {job: future.result() for job, future in running.items()}
        except BaseException:  # Ctrl-C: nothing goes on behind the user's back.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise
    return {job: problem for job, problem in problems.items() if problem is not None}


def _problem(status: int, log: Path, begins: int) -> str | None:
    """Return what a process that did not succeed said last, None where it succeeded."""
    if status == 0:
        return None
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    with log.open("rb") as file:
        file.seek(begins)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("crome: error: ")), lines[-1] if lines else "")
    return said.removeprefix("crome: error: ") or f"exit status {status}"
