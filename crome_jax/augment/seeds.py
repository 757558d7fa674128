"""Seeds that depend on what is drawn for, never on when."""

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Return 64 bits that are the same for equal parts on every machine and in every process.

    Python's own hash() is salted per process and a shared generator depends on the order of its calls; a seed derived
    from a group's id, a pair and an attribute makes every draw independent of the order in which groups are processed.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = f"{type(part).__name__}:{part}".encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return int.from_bytes(digest.digest(), "big")
