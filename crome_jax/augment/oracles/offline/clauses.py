"""Parts of a sentence: the members of an enumeration and the clauses that can stand alone."""

import random
import re

LONGEST = 400
"""Characters of a sentence that are searched: what is longer is a dump, and takes long to search."""

_ENUMERATION = re.compile(
    r"(?P<head>(?:[^,;:]{2,60}, )+)(?P<last>[^,;:]{2,60}?)(?P<comma>,?) (?P<and>and|or) (?P<end>[^,;:.]{2,60})"
)


def drop_member(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    """Drop one member of 'A, B and C' that is neither the first nor the last.

    Returns:
        the shorter sentence and the member, or None where there is no enumeration of three.
    """
    found = _ENUMERATION.search(sentence, 0, LONGEST)
    if not found:
        return None
    members = [*found["head"].rstrip(", ").split(", "), found["last"]]
    if len(members) < 2:
        return None
    # The first runs into what stands before the enumeration and the last into what follows it.
    gone = members.pop(rng.randrange(1, len(members)))
    comma = found["comma"] if len(members) > 1 else ""
    enumeration = ", ".join(members) + f"{comma} {found['and']} {found['end']}"
    return sentence[: found.start()] + enumeration + sentence[found.end() :], gone


def beginnings(sentence: str) -> list[str]:
    """Return the sentence and its shorter beginnings that end where a clause does."""
    cuts = [
        m.start()
        for m in re.finditer(r"(?<=\w\w)(?:[,;:] |, (?:and|but|so|which) | (?:because|so that|while) )", sentence)
    ]
    return [sentence] + [sentence[:cut] + "." for cut in reversed(cuts) if cut >= 12]
