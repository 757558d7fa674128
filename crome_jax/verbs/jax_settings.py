"""What JAX is told before it starts in the process of a command, by the variables that it reads when it is imported."""

import importlib.metadata
import importlib.util
import os
from collections.abc import MutableMapping
from pathlib import Path

from crome_jax.weights.packages import cache_folder

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Names the folder in which compiled programs are kept for the next process; given empty, none are kept."""

PLATFORMS = "JAX_PLATFORMS"
"""Names the kinds of devices that JAX looks for; without it, every kind that is installed."""

_GOOGLE = "0x1ae0"
_NO_ACCELERATORS = ("0x01", "0x02")
"""Classes of PCI devices that virtual machines of Google have without a TPU: storage and networks."""


def set_up_jax(environment: MutableMapping[str, str], root: Path = Path("/")) -> None:
    """Have JAX keep compiled programs in the user's cache, and look for no TPU where it would only complain of that.

    Of both nothing is done where the environment says something of it. Programs are not kept where nothing can be
    written. No TPU is looked for where libtpu is installed, to plan with, there is no sign of a TPU, and JAX has no
    plugin for other accelerators.

    Args:
        environment: of this process; changed.
        root: of the files that say what devices there are.
    """
    if CACHE not in environment and (folder := _place_for_programs()):
        environment[CACHE] = str(folder)
    if PLATFORMS not in environment and _libtpu_alone(environment) and not _may_have_tpu(environment, root):
        environment[PLATFORMS] = "cpu"


def _place_for_programs() -> Path | None:
    """Return a folder that can be made and written to, without making it: JAX does, with the first program."""
    try:
        folder = cache_folder() / "compiled"
    except RuntimeError:  # Whoever runs in a container may have no home.
        return None
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return folder if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def _libtpu_alone(environment: MutableMapping[str, str]) -> bool:
    found = importlib.util.find_spec
    if not found("libtpu") or found("jax_plugins") or "PJRT_NAMES_AND_LIBRARY_PATHS" in environment:
        return False
    return not importlib.metadata.entry_points(group="jax_plugins")


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
