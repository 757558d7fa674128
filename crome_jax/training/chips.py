"""What a chip can do, as its maker states it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Args:
        flops: of bfloat16 matrix products, FLOP/s.
        memory: bytes of high-bandwidth memory.
        bandwidth: of that memory, bytes/s.
        links: bytes/s that one chip can send to the others of its slice or host.
        compiled: whether a step can be compiled for it on a machine without one; else it is estimated by formula.
    """

    flops: float
    memory: float
    bandwidth: float
    links: float
    compiled: bool = True


CHIPS = {
    # by the name that libtpu's topologies have
    # cloud.google.com/tpu/docs, "system architecture" of each kind: of the stated bits/s of all links of a chip, which
    # count both directions, half are taken.
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 1600e9 / 8 / 2),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 4800e9 / 8 / 2),
    "v6e": Chip(918e12, 32 * 2**30, 1638e9, 3584e9 / 8 / 2),
    # nvidia.com, data sheets of the SXM boards: products without sparsity, one of NVLink's two directions.
    "h100": Chip(989e12, 80e9, 3350e9, 450e9, compiled=False),
    "h200": Chip(989e12, 141e9, 4800e9, 450e9, compiled=False),
}
