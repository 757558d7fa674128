"""The flags that choose who rewrites answers, the same for every verb that asks an oracle."""

import argparse

from crome_jax.augment.oracles.choice import OFFLINE, ORACLES, Augmentation

BASE, LOCAL = "gin/augment/base.gin", "gin/augment/local.gin"
"""Read where no other gin file is given; the second for the oracle of that name, which 64 requests would be too much
for."""


def add_oracle(parser: argparse.ArgumentParser, what: str, *more: str) -> None:
    """Declare --oracle; the verb has the gin flags besides.

    Args:
        what: the oracle does, for the help.
        more: values that are no oracle's.
    """
    parser.add_argument(
        "--oracle",
        choices=[*sorted(ORACLES), *more],
        help=f"{what}: rules (offline), a model behind an OpenAI-compatible endpoint (chat), a small one that this "
        "machine serves (local), or recorded replies (replay) (default: what the gin file says, else offline)",
    )


def configured(args: argparse.Namespace) -> Augmentation:
    """Return what --oracle and the gin flags say.

    Raises:
        CromeError: where they do not fit each other, or the oracle lacks its settings.
    """
    if not (args.gin_file or args.bindings or args.oracle not in (None, OFFLINE)):
        return Augmentation()
    from crome_jax.augment.oracles.choice import augmentation
    from crome_jax.configuration import configure

    bindings = list(args.bindings)
    if args.oracle is not None:
        bindings.append(("augmentation.oracle", repr(args.oracle)))
    files = args.gin_file or [LOCAL if args.oracle == "local" else BASE]
    return configure(augmentation, files, bindings, allow_imports=args.allow_gin_imports)()
