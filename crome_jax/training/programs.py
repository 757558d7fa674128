"""What a compiled program does: FLOP, traffic and what collectives move, each loop counted as often as it turns.

XLA's own cost analysis counts the body of a loop once, so that a scan over layers seems to have one.
"""

import collections
import dataclasses
import functools
import math
import re

import numpy as np

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
_BYTES |= {"f64": 8, "s64": 8, "u64": 8, "s4": 0.5, "u4": 0.5, "f8e4m3fn": 1, "f8e5m2": 1}
_ARRAY = re.compile(r"\b(" + "|".join(_BYTES) + r")\[([\d,]*)\](?:\{[^}]*?(S\(\d+\))?\})?")
"""Of a type its arrays: kind of number, dimensions, and the memory where it is not the chip's main one."""
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional", "call"}
_FREE |= {"after-all", "partition-id", "opt-barrier", "custom-call-start", "custom-call-done"}


@dataclasses.dataclass
class Work:
    """What one chip does in one run of a program.

    Args:
        flops: of matrix products; of kernels what they said at most.
        traffic: bytes read from and written to memory by what is not fused.
        moved: kind of collective -> bytes that one chip sends, as a ring does it.
        calls: kind of collective -> how often.
        unbounded: loops whose number of turns is not in the text; they are counted as one turn.
    """

    flops: float = 0.0
    traffic: float = 0.0
    moved: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    calls: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    unbounded: int = 0

    def add(self, other: "Work", times: float = 1) -> None:
        """Add another's work, done so many times."""
        self.flops += times * other.flops
        self.traffic += times * other.traffic
        self.unbounded += other.unbounded
        for mine, theirs in ((self.moved, other.moved), (self.calls, other.calls)):
            for kind, n in theirs.items():
                mine[kind] += times * n


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    type: str
    op: str
    operands: tuple[str, ...]
    text: str


def read_work(program: str) -> Work:
    """Count what an optimised HLO program does.

    Args:
        program: the text of a compiled function, after partitioning: of one chip.
    """
    computations, entry = _parse(program)
    return _Counter(computations).count(entry, fused=False)


def _parse(program: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    computations: dict[str, dict[str, _Instruction]] = {}
    entry = current = ""
    for line in program.splitlines():
        if line and not line[0].isspace() and (header := _HEADER.match(line)):
            current = header[2]
            computations[current] = {}
            entry = current if header[1] else entry
        elif current and (found := _LINE.match(line)):
            name, type_, op, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest[: _closing(rest)]))
            computations[current][name] = _Instruction(name, type_, op, operands, rest)
    return computations, entry


def _closing(text: str) -> int:
    depth = 1
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return at
    return len(text)


def _sizes(type_: str) -> list[float]:
    """Return the bytes of a type's arrays, wherever they are."""
    return [_BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims, _ in _ARRAY.findall(type_)]


def _size(type_: str) -> float:
    """Return the bytes that a type has in a chip's main memory."""
    return sum(
        size for size, (*_, elsewhere) in zip(_sizes(type_), _ARRAY.findall(type_), strict=True) if not elsewhere
    )


def _dims(type_: str) -> list[int]:
    found = _ARRAY.search(type_)
    return [int(n) for n in found[2].split(",") if n] if found else []


def _as_one(inside: Work, name: str, computation: str) -> Work:
    """Return a fusion's work as the TPU does it.

    A collective that runs beside products is written down three times: where it starts, with the products, and where
    it ends; it counts where it starts. One that reduces everywhere what is then cut into shares is done as a
    reduce-scatter, which sends half as much.
    """
    if computation.startswith("async_collective_fusion") or name.startswith("async-collective-done"):
        return dataclasses.replace(inside, moved=collections.Counter(), calls=collections.Counter())
    if computation.startswith("all-reduce-scatter"):
        halved = collections.Counter({"reduce-scatter": inside.moved["all-reduce"] / 2})
        return dataclasses.replace(inside, moved=halved, calls=collections.Counter({"reduce-scatter": 1}))
    return inside


def _constant(it: _Instruction | None) -> int | None:
    found = re.match(r"(\d+)\)", it.text) if it is not None and it.op == "constant" else None
    return int(found[1]) if found else None


class _Counter:
    def __init__(self, computations: dict[str, dict[str, _Instruction]]):
        self._computations = computations
        self._done: dict[tuple[str, bool], Work] = {}

    def count(self, name: str, fused: bool) -> Work:
        """Add up a computation; what is within a fusion reads and writes no memory."""
        if (name, fused) not in self._done:
            work = Work()
            for instruction in self._computations[name].values():
                work.add(self._one(instruction, self._computations[name], fused))
            self._done[name, fused] = work
        return self._done[name, fused]

    def _one(self, it: _Instruction, near: dict[str, _Instruction], fused: bool) -> Work:
        work = Work()
        kind = it.op.removesuffix("-start")
        if it.op in ("dot", "convolution"):
            work.flops = _dot(it, near) if it.op == "dot" else _convolution(it, near)
        elif it.op == "custom-call" and (flops := re.search(r'"flops":"?(\d+)', it.text)):
            work.flops = float(flops[1])
        elif kind in _COLLECTIVES:
            work.moved[kind] = _moved(kind, it)
            work.calls[kind] = 1
        if it.op == "while":
            turns = self._turns(it)
            work.add(self.count(re.search(r"body=%([\w.\-]+)", it.text)[1], fused), turns or 1)
            work.unbounded += turns is None
        elif it.op == "conditional":
            branches = re.search(r"branch_computations=\{([^}]*)\}", it.text)
            names = re.findall(r"%([\w.\-]+)", branches[1] if branches else "")
            names += re.findall(r"(?:true|false)_computation=%([\w.\-]+)", it.text)
            work.add(max((self.count(name, fused) for name in names), key=lambda w: w.flops, default=Work()))
        elif called := re.search(r"calls=%([\w.\-]+)", it.text):
            inside = self.count(called[1], fused or it.op == "fusion")
            work.add(_as_one(inside, it.name, called[1]))
        elif it.op == "call" and (called := re.search(r"to_apply=%([\w.\-]+)", it.text)):
            work.add(self.count(called[1], fused))
        if not fused and it.op not in _FREE and not it.op.endswith("-done"):
            work.traffic += self._traffic(it, near)
        return work

    def _turns(self, it: _Instruction) -> int | None:
        """Return how often a loop turns: the compiler's note, or how often its count goes from 0 into its bound."""
        if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', it.text):
            return int(noted[1])
        condition = self._computations[re.search(r"condition=%([\w.\-]+)", it.text)[1]]
        for test in condition.values():
            if test.op == "compare" and "direction=LT" in test.text:
                bound = condition.get(test.operands[1])
                if (last := _constant(bound)) is not None:
                    return -(-last // self._stride(it, condition.get(test.operands[0])))
        return None

    def _stride(self, loop: _Instruction, count: _Instruction | None) -> int:
        """Return what a loop's body adds to its count: 1, or more where the compiler does several turns in one."""
        body = self._computations[re.search(r"body=%([\w.\-]+)", loop.text)[1]]
        place = re.search(r"index=(\d+)", count.text) if count is not None else None
        root = list(body.values())[-1]
        if place is None or root.op != "tuple":
            return 1
        following = body.get(root.operands[int(place[1])])
        while following is not None and following.op in ("copy", "bitcast"):
            following = body.get(following.operands[0])
        if following is None or following.op != "add":
            return 1
        added = [n for n in (_constant(body.get(name)) for name in following.operands) if n is not None]
        return added[0] if len(added) == 1 else 1

    def _traffic(self, it: _Instruction, near: dict[str, _Instruction]) -> float:
        sizes = [_size(near[name].type) if name in near else 0.0 for name in it.operands]
        written = _size(it.type)
        if it.op == "dynamic-slice":
            return 2 * written
        if it.op == "dynamic-update-slice":
            return 2 * (sizes[1] if len(sizes) > 1 else 0.0)
        if it.op == "fusion" and (called := re.search(r"calls=%([\w.\-]+)", it.text)):
            inside = self._computations[called[1]]
            read, replaced = _read_by_fusion(inside, sizes)
            return read + max(written - replaced, 0.0)
        return sum(sizes) + written


def _read_by_fusion(inside: dict[str, _Instruction], sizes: list[float]) -> tuple[float, float]:
    """Return the bytes a fusion reads, where of some operands it takes a slice, and of its output what it leaves."""
    read, replaced = sum(sizes), 0.0
    for it in inside.values():
        if it.op != "parameter":
            continue
        number = int(re.match(r"(\d+)", it.text)[1])
        whole = sizes[number] if number < len(sizes) else 0.0
        users = [user for user in inside.values() if it.name in user.operands]
        if users and all(user.op == "dynamic-slice" and user.operands[0] == it.name for user in users):
            read += sum(_size(user.type) for user in users) - whole
        elif users and all(user.op == "dynamic-update-slice" and user.operands[0] == it.name for user in users):
            # Written in place: but for the new slice the array is neither read nor written.
            new = sum(_size(inside[user.operands[1]].type) for user in users if user.operands[1] in inside)
            read -= whole
            replaced += whole - new
    return max(read, 0.0), replaced


def _dot(it: _Instruction, near: dict[str, _Instruction]) -> float:
    left = _dims(near[it.operands[0]].type)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", it.text)
    over = [int(n) for n in contracted[1].split(",") if n] if contracted else []
    return 2.0 * math.prod(_dims(it.type)) * math.prod(left[n] for n in over)


def _convolution(it: _Instruction, near: dict[str, _Instruction]) -> float:
    """Count the products of a convolution, which is what TPUs make of every matrix product.

    Its spatial axes hold what a matrix product batches or contracts; how many places of the window meet a number and
    no padding is counted for each of them.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", it.text)
    left, right, out = (dict(zip(names, dims, strict=True)) for names, dims in zip(
        labels.groups(),
        (_dims(near[it.operands[0]].type), _dims(near[it.operands[1]].type), _dims(it.type)),
        strict=True,
    ))  # fmt: skip
    window = re.search(r"window=\{([^}]*)\}", it.text)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    spatial = sorted(name for name in out if name.isdigit())
    values = lambda name, default: fields[name].split("x") if name in fields else [default] * len(spatial)  # noqa: E731
    met = 1.0
    for axis, stride, pad, stretch, apart in zip(
        spatial, values("stride", "1"), values("pad", "0_0"), values("lhs_dilate", "1"), values("rhs_dilate", "1"),
        strict=True,
    ):  # fmt: skip
        met *= _met(out[axis], left[axis], right[axis], int(stride), int(pad.split("_")[0]), int(stretch), int(apart))
    return 2.0 * out["b"] * out["f"] * right["i"] * met


@functools.cache
def _met(out: int, left: int, right: int, stride: int, pad: int, stretch: int, apart: int) -> int:
    at = np.arange(out)[:, None] * stride + np.arange(right)[None] * apart - pad
    return int(((at >= 0) & (at <= (left - 1) * stretch) & (at % stretch == 0)).sum())


def _moved(kind: str, it: _Instruction) -> float:
    """Return the bytes that one chip of a ring sends for a collective."""
    group = re.search(r"replica_groups=\{\{([\d,]*)\}", it.text)
    listed = re.search(r"replica_groups=\[(\d+),(\d+)\]", it.text)
    n = len(group[1].split(",")) if group else int(listed[2]) if listed else _mesh_group(it.text)
    arrays = _sizes(it.type)
    if it.op.endswith("-start") and kind in ("all-gather", "collective-permute") and len(arrays) > 1:
        arrays = [arrays[1]]  # The first is what is sent from, what follows are signals.
    size = sum(arrays)
    if kind == "collective-permute":
        return size
    share = (n - 1) / n if n else 0.0
    return {"all-reduce": 2 * share, "reduce-scatter": n - 1, "all-gather": share, "all-to-all": share}[kind] * size


def _mesh_group(text: str) -> int:
    """Return how many chips take part where the groups are axes of a mesh: mesh['a'=2,'b'=4] ... {'b'} is 4."""
    found = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", text)
    if not found:
        return 1
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", found[2]))
