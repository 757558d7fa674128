"""How a training step is laid out on its chips, and the smallest change of that with which it fits."""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crome_jax.errors import CromeError
from crome_jax.models.execution import REMATS, Remat
from crome_jax.training.mesh import AXES, divisors, make_mesh, weight_shardings


@dataclasses.dataclass(frozen=True)
class Layout:
    """What may be changed so that a step fits, its result the same.

    Args:
        mesh: sizes of data, fsdp and tensor.
        micro_batches: parts that the step's rows are computed in.
        remat: what is kept for the gradient.
    """

    mesh: tuple[int, int, int]
    micro_batches: int
    remat: Remat

    def __str__(self) -> str:
        sizes = " x ".join(f"{name} {n}" for name, n in zip(AXES[1:], self.mesh, strict=True))
        return f"mesh {sizes}, micro_batches {self.micro_batches}, remat {self.remat!r}"


def smallest_change(layout: Layout, rows: int, declared: Any, fits: Callable[[Layout], bool]) -> Layout | None:
    """Find the smallest change with which a step fits that does not fit as it is.

    Three things change: remat, micro-batches, and the mesh from data to fsdp. One of them is less than two, two are
    less than three, and none changes further than it must: remat, which costs FLOP, is kept nearest, then the number of
    micro-batches, each of which gathers the weights. Only where nothing of that helps do heads and feed-forward spread
    over more of the tensor axis, which adds all-reduces to every layer: over as few chips as will do.

    Further is less memory: of a combination the furthest is asked of first, and what lies between is halved. Only
    micro-batches need more at first, the sum of their gradients.

    Args:
        rows: of the whole step.
        declared: the weights; they must divide over the mesh.
        fits: asked once of a layout; it may cost a compilation.

    Returns:
        The layout; None where no such change helps.
    """
    fits = functools.cache(fits)
    for start in (layout, *_with_more_tensor(layout, declared)):
        further = _further(start, rows, declared)
        for n in range(1 if start == layout else 0, len(further) + 1):
            for kinds in itertools.combinations(further, n):
                furthest = {kind: further[kind][-1] for kind in further if kind in kinds or kind != "micro_batches"}
                chosen = dataclasses.replace(start, **{kind: further[kind][-1] for kind in kinds})
                if fits(dataclasses.replace(start, **furthest)) and fits(chosen):
                    for kind in kinds:
                        chosen = _least(chosen, kind, further[kind], fits)
                    return chosen
    return None


def _least(layout: Layout, kind: str, values: Sequence[Any], fits: Callable[[Layout], bool]) -> Layout:
    """Go as little far in one kind of change as still fits; the last value does."""
    changed = [dataclasses.replace(layout, **{kind: value}) for value in values]
    return changed[bisect.bisect_left(changed[:-1], True, key=fits)]


def _further(layout: Layout, rows: int, declared: Any) -> dict[str, Sequence[Any]]:
    """Return what each kind of change could change to, the next first; a kind that cannot change is absent."""
    data, fsdp, tensor = layout.mesh
    meshes = [(data // part, fsdp * part, tensor) for part in divisors(data)[1:]]
    further = {
        "remat": REMATS[REMATS.index(layout.remat) + 1 :],
        "micro_batches": [parts for parts in divisors(rows // (data * fsdp)) if parts > layout.micro_batches],
        "mesh": [mesh for mesh in meshes if _lie_on(declared, mesh)],
    }
    return {kind: values for kind, values in further.items() if values}


def _with_more_tensor(layout: Layout, declared: Any) -> Iterator[Layout]:
    """Yield the layout with ever more of the chips on the tensor axis: those of data first, then of fsdp."""
    data, fsdp, tensor = layout.mesh
    for part in divisors(data * fsdp)[1:]:
        of_data = math.gcd(part, data)
        of_fsdp = part // of_data
        mesh = (data // of_data, fsdp // of_fsdp, tensor * part)
        if fsdp % of_fsdp == 0 and _lie_on(declared, mesh):
            yield dataclasses.replace(layout, mesh=mesh)


def _lie_on(declared: Any, mesh: tuple[int, int, int]) -> bool:
    try:
        weight_shardings(declared, make_mesh(*mesh, devices=math.prod(mesh)))
    except CromeError:
        return False
    return True
