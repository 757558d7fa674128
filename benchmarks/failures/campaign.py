"""A run that is killed again and again: at its start, amid a save, between saves, while it is measured or evaluated."""

import collections
import dataclasses
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.failures.victim import (
    damage,
    evaluate,
    final_bytes,
    found_damaged,
    is_measured,
    kept,
    must_end,
    newest,
    skipped_steps,
    train,
    unfinished,
    write_data,
)

MOMENTS = ("start-up", "save", "validation", "evaluation", "step")
"""When a run is killed, by turns. What "step" leaves behind may be damaged, and the next start is the one after."""

PATIENCE = 600.0
"""Seconds that a life may take to get further than the one before it."""

_OF_TIME = ("goodput", "tokens/s", "pairs/s")


@dataclasses.dataclass
class Tally:
    """What was done to a run, and what came of it.

    Args:
        killed: moments, and how often the run was killed then.
        amid_save: kills that left a checkpoint unfinished which was not there before.
        amid_validation: kills that left a step that was due without what was to be measured of it.
        damaged: what was done to the newest checkpoint while the run was down, and how often.
        found: damaged checkpoints that the run named and moved away.
        steps: of the run.
        skipped: steps whose loss was not finite.
        differing: of "parameters", "steps skipped", "checkpoints kept" and "evaluation", what was not as in the
            undisturbed run.
        straight, disturbed: seconds the runs took, from the first start to the end.
    """

    killed: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    amid_save: int = 0
    amid_validation: int = 0
    damaged: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    found: int = 0
    steps: int = 0
    skipped: int = 0
    differing: list[str] = dataclasses.field(default_factory=list)
    straight: float = 0.0
    disturbed: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost, and all damage was seen."""
        return not self.differing and self.found == self.damaged.total()

    def facts(self) -> dict[str, str | int]:
        """Return the rows of the page."""
        return {
            "steps of the run": self.steps,
            **{f"kill -9 during {moment}": self.killed[moment] for moment in MOMENTS},
            "kills that left a checkpoint unfinished": self.amid_save,
            "kills that left a step unmeasured": self.amid_validation,
            **{f"newest checkpoint damaged while it was down: {how}": n for how, n in sorted(self.damaged.items())},
            "damaged checkpoints that it named and went round": f"{self.found} of {self.damaged.total()}",
            "steps skipped, their loss not finite": self.skipped,
            "not as in the undisturbed run, to the bit": ", ".join(self.differing) or "nothing",
            "seconds, undisturbed": round(self.straight),
            "seconds, disturbed": round(self.disturbed),
        }


def run_campaign(data: Path, steps: int, kills: int, seed: int) -> Tally:
    """Train once undisturbed and once killed `kills` times, and compare.

    Raises:
        SystemExit: where a process ends as it should not.
    """
    tally, draw = Tally(steps=steps), random.Random(seed)
    straight, run = data.parent / "straight", data.parent / "killed"
    held_out = data.with_name("held-out.jsonl")
    write_data(held_out)
    began = time.monotonic()
    must_end(train(data, straight, steps, validation=held_out), straight)
    tally.straight = time.monotonic() - began
    began = time.monotonic()
    must_end(evaluate(data, straight), straight)
    span = {"evaluation": time.monotonic() - began, "start-up": min(tally.straight, 20.0)}
    began = time.monotonic()
    while tally.killed.total() < kills:
        moment = MOMENTS[tally.killed.total() % len(MOMENTS)]
        started, left = time.monotonic(), unfinished(run)
        process = evaluate(data, run) if moment == "evaluation" else train(data, run, steps, validation=held_out)
        if moment in span:
            _wait(process, draw.uniform(0, span[moment]))
        else:
            _wait_for_progress(process, run)
            span["start-up"] = time.monotonic() - started
            if moment == "save":
                _wait_for_save(process, run, left)
                _wait(process, draw.uniform(0, 0.03))
            elif moment == "validation":
                _wait_for_validation(process, run)
                _wait(process, draw.uniform(0, 0.03))
            else:
                _wait(process, draw.uniform(0, 5.0))
        if process.poll() is not None:
            if moment == "evaluation" and process.returncode == 0:  # It was faster than the one that was timed.
                span["evaluation"] = time.monotonic() - started
                continue
            must_end(process, run, -9)
        process.kill()
        process.wait()
        tally.killed[moment] += 1
        tally.amid_save += bool(unfinished(run) - left)
        tally.amid_validation += moment == "validation" and is_measured(run)
        # Only here: the next life but one may need the checkpoint before it.
        if moment == "step" and draw.random() < 0.5 and (how := damage(run, draw)):
            tally.damaged[how] += 1
        print(f"{tally.killed.total()} kills, at step {newest(run)}", file=sys.stderr, flush=True)
    must_end(train(data, run, steps, validation=held_out), run)
    tally.disturbed = time.monotonic() - began
    must_end(evaluate(data, run), run)
    tally.found, tally.skipped = found_damaged(run), len(skipped_steps(run))
    tally.differing = differences(straight, run, steps)
    if kept(straight) != kept(run):
        tally.differing.append("checkpoints kept")
    if _figures(straight) != _figures(run):
        tally.differing.append("evaluation")
    return tally


def differences(a: Path, b: Path, steps: int) -> list[str]:
    """Return in what two runs' ends differ: "parameters" (optimizer and place in the data too), "steps skipped"."""
    same = {
        "parameters": final_bytes(a, steps) == final_bytes(b, steps),
        "steps skipped": skipped_steps(a) == skipped_steps(b),
    }
    return [name for name, equal in same.items() if not equal]


def _figures(run: Path) -> list[dict]:
    """Return what an evaluation's report says of a run but how fast it was, which no two runs share."""
    report = json.loads((run / "evaluation" / "report.json").read_text())
    methods = list(report["methods"].values())
    for curve in (method["training"] for method in methods):
        curve[:] = [{name: value for name, value in line.items() if not name.startswith(_OF_TIME)} for line in curve]
    return methods


def _wait(process: subprocess.Popen, seconds: float) -> None:
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def _wait_for_progress(process: subprocess.Popen, run: Path) -> None:
    """Wait for a checkpoint that was not there: every such life gets the run on."""
    before, until = newest(run), time.monotonic() + PATIENCE
    while process.poll() is None and newest(run) <= before:
        if time.monotonic() > until:
            must_end(process, run, patience=0.0)
        time.sleep(0.005)


def _wait_for_validation(process: subprocess.Popen, run: Path) -> None:
    while process.poll() is None and not is_measured(run):
        time.sleep(0.001)


def _wait_for_save(process: subprocess.Popen, run: Path, left: set[tuple[str, int]]) -> None:
    while process.poll() is None and not unfinished(run) - left:
        time.sleep(0.001)
