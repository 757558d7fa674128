"""How much memory this process holds, and the most that it held, by Linux's own account."""

from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Return the bytes that are held now."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most bytes that were held since the start, or since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Forget what was held before."""
    _RESET.write_text("5")


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
