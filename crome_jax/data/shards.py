"""Files whose names count them, as `part-00001-of-00003.jsonl` does: which of them are absent."""

import re
from collections.abc import Iterable

_COUNTED = re.compile(r"(.*?)(\d+)-of-(\d+)(?:-[0-9a-f]{16})?(.*)")
"""The sixteen digits are a hash that Hugging Face gave to each shard for a time."""


def missing_shards(names: Iterable[str]) -> list[str]:
    """Return the names that are absent beside these, in order; names that count nothing do not matter.

    Numbers begin at 0, or at 1 where the last is that of the count.
    """
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for name in names:
        if counted := _COUNTED.fullmatch(name):
            before, number, count, after = counted.groups()
            found.setdefault((before, count, after), {})[int(number)] = len(number)
    missing = []
    for (before, count, after), numbers in found.items():
        first = int(int(count) in numbers and 0 not in numbers)
        width = next(iter(numbers.values()))
        wanted = range(first, first + int(count))
        missing += [f"{before}{n:0{width}d}-of-{count}{after}" for n in wanted if n not in numbers]
    return sorted(missing)
