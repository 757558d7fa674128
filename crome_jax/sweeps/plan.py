"""What a sweep runs: one job for each point and seed, as the bindings that set it apart from the others."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from crome_jax.errors import CromeError

SEED = "seed"
"""What a job's seed is called, beside the names of the bindings that are swept."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Args:
        name: unique in the sweep: its point and its seed.
        point: what it is compared as; the jobs of a point differ in their seeds only.
        values: name -> value of each binding that sets the point apart, in gin's syntax.
        seed: of the data order.
    """

    name: str
    point: str
    values: Mapping[str, str]
    seed: int


def sweep(
    *,
    grid: Mapping[str, Sequence[Any]] = {},
    points: Mapping[str, Mapping[str, Any]] = {},
    seeds: Sequence[int] = (0,),
) -> list[Job]:
    """Lay out the jobs of a sweep: every point, with every cell of the grid, with every seed.

    A value that is no text is taken as it is. Text is in gin's own syntax, as on the command line: `'%DATA'`,
    `'@crome/Method()'`, and text that is to be text has quotes of its own, `"'bfloat16'"`.

    Args:
        grid: name of a binding -> the values it takes. The first two whose values are numbers span the heat maps.
        points: name of a point -> its bindings; the first is the baseline that the others are compared with.
        seeds: of the data order; the same for every point.

    Returns:
        The jobs, those of a point one after the other.

    Raises:
        CromeError: where it is none of this, two jobs would be called the same, or two bindings contradict each other.
    """
    _check(grid, points, seeds)
    short = _short_names([*grid, *(name for bindings in points.values() for name in bindings)])
    jobs = []
    for point, bindings in (points or {"": {}}).items():
        own = {name: _as_gin(value) for name, value in bindings.items()}
        for cell in itertools.product(*grid.values()):
            chosen = {name: _as_gin(value) for name, value in zip(grid, cell, strict=True)}
            label = ",".join([*([point] if point else []), *(f"{short[name]}={chosen[name]}" for name in chosen)])
            for seed in seeds:
                name = f"{label},{SEED}={seed}" if label else f"{SEED}={seed}"
                jobs.append(Job(name, label or "as configured", {**own, **chosen}, seed))
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise CromeError(f"sweep: {names.count(name)} jobs would be called {name!r}; leave one of them out")
    return jobs


def numeric_axes(jobs: Sequence[Job]) -> list[str]:
    """Return the bindings that are a number in every job, and not the same one in all."""
    names = [name for name in jobs[0].values if all(name in job.values for job in jobs)] if jobs else []
    return [
        name
        for name in names
        if all(as_number(job.values[name]) is not None for job in jobs) and len({job.values[name] for job in jobs}) > 1
    ]


def as_number(text: str) -> float | None:
    """Return a value in gin's syntax as a number, None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _as_gin(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _check(grid: Any, points: Any, seeds: Any) -> None:
    if not isinstance(grid, Mapping) or not all(isinstance(name, str) for name in grid):
        raise CromeError(f"sweep.grid is {grid!r}; give names of bindings and the values of each, {{'NAME': [1, 2]}}")
    for name, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise CromeError(f"sweep.grid[{name!r}] is {values!r}; give a list of values")
    if not isinstance(points, Mapping):
        raise CromeError(f"sweep.points is {points!r}; give names of points and their bindings, {{'x': {{'NAME': 1}}}}")
    for point, bindings in points.items():
        if not isinstance(point, str) or not point:
            raise CromeError(f"sweep.points has a point called {point!r}; give it a name in words")
        if not isinstance(bindings, Mapping) or not all(isinstance(name, str) for name in bindings):
            raise CromeError(f"sweep.points[{point!r}] is {bindings!r}; give names of bindings and a value of each")
        if both := sorted(set(bindings) & set(grid)):
            raise CromeError(f"sweep.points[{point!r}] and sweep.grid both bind {both[0]}; take it out of one of them")
    whole = isinstance(seeds, list | tuple) and all(isinstance(s, int) and not isinstance(s, bool) for s in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise CromeError(f"sweep.seeds is {seeds!r}; give a list of different whole numbers")


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the last part of each name, where that tells it from the others, or else all of it."""
    last = {name: name.rpartition(".")[2] for name in names}
    return {name: part if list(last.values()).count(part) == 1 else name for name, part in last.items()}
