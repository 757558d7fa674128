"""What the settings of a run, a study or a plan must be, whatever else they say."""

from crome_jax.errors import CromeError

DTYPES = ("float32", "bfloat16")
"""What activations may be."""


def check_settings(dtype: str, **counts: int) -> None:
    """Raise CromeError where a setting makes no sense, before any work."""
    if dtype not in DTYPES:
        raise CromeError(f"dtype is {dtype!r}; give 'float32' or 'bfloat16'")
    for name, count in counts.items():
        if count < 1:
            raise CromeError(f"{name} is {count}; give 1 or more")
