"""A run that meets a fault every minute, for as long as it is told, beside one that is left alone."""

import collections
import dataclasses
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.failures.campaign import PATIENCE, differences
from benchmarks.failures.victim import (
    damage,
    found_damaged,
    log_of,
    memory,
    must_end,
    newest,
    skipped_steps,
    train,
)

FAULTS = ("kill -9", "SIGTERM", "kill -9, newest checkpoint damaged", "full disk")
"""What happens to the run, by turns. A batch that is not finite comes by itself, in the undisturbed run as well."""

STEPS = 1_000_000
"""More than any soak takes: it ends by the clock."""

AHEAD = 2
"""Checkpoints by which the undisturbed run may be ahead before it is made to wait."""

NAN_EVERY = 97
"""Steps between two whose loss is not finite."""

SAVE_EVERY = 500
"""Steps between two checkpoints: of 25 ms each on an idle core, so a life of a minute saves a few times."""


@dataclasses.dataclass
class Tally:
    """What was done to a run, and what came of it.

    Args:
        faults: and how often each came.
        found: damaged checkpoints that the run named and moved away.
        damaged: how many there were.
        lives: that got the run on, of all.
        steps: of both runs.
        skipped: steps whose loss was not finite.
        undisturbed: resident memory of the undisturbed run in kB, second by second since its first checkpoint.
        peaks: resident memory in kB that each life of the disturbed run came to.
        differing: what was not as in the undisturbed run.
        seconds: both runs took.
    """

    faults: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    found: int = 0
    damaged: int = 0
    lives: list[bool] = dataclasses.field(default_factory=list)
    steps: int = 0
    skipped: int = 0
    undisturbed: list[int] = dataclasses.field(default_factory=list)
    peaks: list[int] = dataclasses.field(default_factory=list)
    differing: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost, all damage was seen, and memory was flat."""
        flat = growth(self.undisturbed) < 0.02 and growth(self.peaks) < 0.02
        return flat and not self.differing and self.found == self.damaged and all(self.lives)

    def facts(self) -> dict[str, str | int]:
        """Return the rows of the page."""
        of_run, of_lives = (f"{growth(sizes):+.2%}" for sizes in (self.undisturbed, self.peaks))
        return {
            "minutes": round(self.seconds / 60),
            "steps of the run": self.steps,
            **{fault: self.faults[fault] for fault in FAULTS},
            "steps skipped, their loss not finite": self.skipped,
            "damaged checkpoints that it named and went round": f"{self.found} of {self.damaged}",
            "lives that got the run on": f"{sum(self.lives)} of {len(self.lives)}",
            "not as in the undisturbed run, to the bit": ", ".join(self.differing) or "nothing",
            "memory of the undisturbed run, MB": round(statistics.median(self.undisturbed or [0]) / 1000),
            "its growth, the last quarter against the second": of_run,
            "growth of what a life comes to, likewise": of_lives,
        }


def growth(sizes: Sequence[int]) -> float:
    """Return by what fraction the median size grew from the second quarter to the last; the first is warm-up."""
    quarter = len(sizes) // 4
    if not quarter:
        return 0.0
    return statistics.median(sizes[-quarter:]) / statistics.median(sizes[quarter : 2 * quarter]) - 1


def run_soak(
    data: Path, minutes: float, seed: int, every: float = 60.0, least: int = 0, save_every: int = SAVE_EVERY
) -> Tally:
    """Let a run live `minutes` with a fault every `every` seconds; then bring both runs to the same step, and compare.

    The undisturbed run is one process, made to wait (SIGSTOP) where it is far ahead, so that both end together.

    Args:
        least: faults, should the minutes be too few for them.
        save_every: steps between two checkpoints.

    Raises:
        SystemExit: where a process ends as it should not.
    """
    tally, draw, began = Tally(), random.Random(seed), time.monotonic()
    straight, run = data.parent / "straight", data.parent / "soaked"
    how = {"save_every": save_every, "nan_every": NAN_EVERY}
    alone = train(data, straight, STEPS, **how)
    process = None
    try:
        while time.monotonic() < began + 60 * minutes or tally.faults.total() < least:
            fault, before = FAULTS[tally.faults.total() % len(FAULTS)], newest(run)
            process = train(data, run, STEPS, **how)
            tally.peaks.append(_live(process, run, alone, straight, every, AHEAD * save_every, tally.undisturbed))
            tally.lives.append(newest(run) > before)
            _strike(fault, process, run, draw, tally)
            tally.faults[fault] += 1
            print(
                f"{fault}: at step {newest(run)}, undisturbed {newest(straight)}, {tally.peaks[-1]} kB",
                file=sys.stderr,
                flush=True,
            )
        while newest(straight) < newest(run):
            _keep_pace(alone, straight, newest(run))
            time.sleep(0.25)
        alone.send_signal(signal.SIGCONT)
        alone.terminate()  # It saves, and that is the step to which the other goes on.
        must_end(alone, straight, 143, PATIENCE)
        tally.steps = newest(straight)
        must_end(train(data, run, tally.steps, **how), run)
    finally:
        for one in (alone, process):
            if one is not None and one.poll() is None:
                one.kill()
                one.wait()
    tally.seconds = time.monotonic() - began
    tally.found, tally.skipped = found_damaged(run), len(skipped_steps(run))
    tally.differing = differences(straight, run, tally.steps)
    return tally


def _live(
    process: subprocess.Popen,
    run: Path,
    alone: subprocess.Popen,
    straight: Path,
    seconds: float,
    ahead: int,
    sizes: list[int],
) -> int:
    """Let a process live for so many seconds, and until it has got the run on; return its largest memory in kB."""
    began, before, peak = time.monotonic(), newest(run), 0
    while time.monotonic() < began + seconds or newest(run) <= before:
        if process.poll() is not None or time.monotonic() > began + PATIENCE:
            must_end(process, run, -9, 0.0)
        if alone.poll() is not None:
            must_end(alone, straight, -9)
        _keep_pace(alone, straight, newest(run) + ahead)
        peak = max(peak, memory(process))
        if newest(straight):
            sizes.append(memory(alone))
        time.sleep(1.0)
    return peak


def _keep_pace(process: subprocess.Popen, run: Path, most: int) -> None:
    """Stop a process where its run is past step `most`, and let it go on where it is not."""
    process.send_signal(signal.SIGSTOP if newest(run) > most else signal.SIGCONT)


def _strike(fault: str, process: subprocess.Popen, run: Path, draw: random.Random, tally: Tally) -> None:
    """Let a fault come over a process, which then ends as is right."""
    if fault == "SIGTERM":
        process.terminate()
        must_end(process, run, 143, PATIENCE)
    elif fault == "full disk":
        # What stands in for it: no file may grow past this, which ends a write halfway as a full disk does.
        room = log_of(run).stat().st_size + 2048  # For the error, which goes into a file, too.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        must_end(process, run, 2, PATIENCE)
        if "cannot be written" not in log_of(run).read_text():
            raise SystemExit("a full disk was not named")
    else:
        process.kill()
        process.wait()
        if fault != "kill -9":
            tally.damaged += bool(damage(run, draw))
