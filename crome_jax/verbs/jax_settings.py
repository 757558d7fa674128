"""What JAX and libtpu are told before they start in the process of a command, by the variables that they read."""

import importlib.util
import os
from collections.abc import MutableMapping
from pathlib import Path

from crome_jax.weights.packages import cache_folder

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Names the folder in which compiled programs are kept for the next process; given empty, none are kept."""

QUIET = {"TPU_ACCELERATOR_TYPE": "v5litepod-1", "TPU_WORKER_HOSTNAMES": "localhost"}
"""What libtpu complains of not finding out where there is no TPU; it compiles for any other just the same."""

_GOOGLE = "0x1ae0"
_NO_ACCELERATORS = ("0x01", "0x02")
"""Classes of PCI devices that virtual machines of Google have without a TPU: storage and networks."""


def set_up_jax(verb: str, environment: MutableMapping[str, str], root: Path = Path("/")) -> None:
    """Have JAX keep compiled programs in the user's cache, and libtpu be quiet where it is there only to plan with.

    Of both nothing is done where the environment says something of it. Programs are not kept where nothing can be
    written; libtpu is left alone where anything speaks for a TPU.

    Args:
        verb: that runs.
        environment: of this process; changed.
        root: of the files that say what devices there are.
    """
    if verb == "plan":  # What is compiled for chips that are not there JAX can write, and then not read.
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    elif CACHE not in environment and (folder := _place_for_programs()):
        environment[CACHE] = str(folder)
    if importlib.util.find_spec("libtpu") and not _may_have_tpu(environment, root):
        environment.update(QUIET)


def _place_for_programs() -> Path | None:
    """Return a folder that can be made and written to, without making it: JAX does, with the first program."""
    try:
        folder = cache_folder() / "compiled"
    except RuntimeError:  # Whoever runs in a container may have no home.
        return None
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return folder if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def _may_have_tpu(environment: MutableMapping[str, str], root: Path) -> bool:
    """Return whether anything speaks for a TPU: a variable, a device file, or an accelerator of Google's on the bus."""
    if any(name.startswith("TPU_") or name == "JAX_FORCE_TPU_INIT" for name in environment):
        return True
    if any(root.glob("dev/accel*")) or any(root.glob("dev/vfio/[0-9]*")):
        return True
    return any(
        vendor.read_text().strip() == _GOOGLE and not vendor.with_name("class").read_text().startswith(_NO_ACCELERATORS)
        for vendor in root.glob("sys/bus/pci/devices/*/vendor")
    )
