"""What a verb says on standard output, which may be full, closed, or a pipe whose reader went away."""

from typing import Any

from crome_jax.files import unwritable


def say(what: Any) -> None:
    """Print at once.

    Raises:
        CromeError: where standard output cannot be written; where it is closed, nothing is.
    """
    try:
        print(what, flush=True)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise unwritable("<stdout>", e) from None
