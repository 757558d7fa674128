"""TPU devices that are not there: what to compile for."""

import importlib.util
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from crome_jax.errors import CromeError


def tpu_devices(topology: str) -> Sequence[jax.Device]:
    """Return the devices of a TPU slice, to make a mesh of and compile for; nothing can be run on them.

    Args:
        topology: as "v5e:8x8": a kind of chip, and how its chips lie.

    Raises:
        CromeError: where libtpu is missing or does not know the topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise CromeError("compiling for TPU needs libtpu; run ./launch/setup.sh plan")
    # Nothing is run: several processes may compile at once, and there are no workers to ask for.
    for name, value in (("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"), ("TPU_SKIP_MDS_QUERY", "1"), ("TPU_MIN_LOG_LEVEL", "3")):
        os.environ.setdefault(name, value)
    try:
        return topologies.get_topology_desc(topology, platform="tpu").devices
    except (ValueError, RuntimeError) as e:
        raise CromeError(f"{topology}: no topology that libtpu knows ({str(e).splitlines()[0]})") from None
