"""The flags that configure by gin: --gin_file=FILE and --gin.NAME=VALUE."""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from crome_jax.verbs.gin_help import ShowGinArguments

_PREFIX = "--gin."


class Binding(NamedTuple):
    """A `--gin.NAME=VALUE` of the command line, in gin's own syntax."""

    name: str
    value: str


def add_gin_flags(parser: argparse.ArgumentParser) -> None:
    """Declare --gin_file and explain --gin.NAME=VALUE, which `split_bindings` takes out before argparse looks."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file; may be given several times, a later one overrides an earlier (default: none). Looked for in "
        "the current folder, then in the folder that holds crome_jax's own gin/",
    )
    parser.add_argument(
        "--allow-gin-imports",
        action="store_true",
        help="follow `import` lines of gin files, which run code (default: those from outside crome_jax are an error)",
    )
    parser.add_argument(
        "--gin.NAME",
        dest="_shown_in_help_only",
        metavar="VALUE",
        help="override one value of the gin files: a macro (--gin.STEPS=200) or an argument "
        "(--gin.adamw.learning_rate=5e-5); text in quotes of its own (--gin.OUT=\"'runs/x'\") (default: none)",
    )
    parser.add_argument(
        "--gin_help",
        action=ShowGinArguments,
        default=argparse.SUPPRESS,
        help="list every argument that --gin.NAME can set, with its own default, and end (default: go on)",
    )


def split_bindings(argv: Sequence[str]) -> tuple[list[str], list[Binding]]:
    """Take `--gin.NAME=VALUE` and `--gin.NAME VALUE` out of a command line.

    Returns:
        The other arguments, and the bindings, each in order. A last `--gin.NAME` without a value stays where it is,
        for argparse to complain of.
    """
    rest: list[str] = []
    bindings: list[Binding] = []
    remaining = iter(argv)
    for argument in remaining:
        if not argument.startswith(_PREFIX):
            rest.append(argument)
            continue
        name, equals, value = argument.removeprefix(_PREFIX).partition("=")
        if not equals:
            following = next(remaining, None)
            if following is None:
                rest.append(argument)
                continue
            value = following
        bindings.append(Binding(name, value))
    return rest, bindings
