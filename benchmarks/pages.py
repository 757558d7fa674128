"""What the benchmarks' pages and command lines have in common."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for `python -m benchmarks.NAME`; the first paragraph of a module's description is its summary."""
    summary, _, rest = description.partition("\n\n")
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
