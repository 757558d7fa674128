"""Numbers as flags take them."""

import argparse
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse type: whole numbers from `least` on."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return whole_number


def add_rows_at_once(parser: argparse.ArgumentParser) -> None:
    """Declare --rows-at-once, the same for every verb that scores."""
    parser.add_argument(
        "--rows-at-once",
        type=at_least(1),
        default=8,
        metavar="N",
        help="packed rows in one call of the model, over all devices; on a CPU, 2048 tokens at most "
        "(default: %(default)s)",
    )
