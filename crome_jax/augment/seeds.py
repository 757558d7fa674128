"""Seeds that depend on what is drawn for, never on when."""

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Return 64 bits that are the same for equal parts on every machine and in every process.

    Python's own hash() is salted per process and a shared generator depends on the order of its calls; a seed derived
    from a group's id, a pair and an attribute makes every draw independent of the order in which groups are processed.
    """
    encoded = [f"{type(part).__name__}:{part}".encode("utf-8", "surrogatepass") for part in parts]
    whole = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big")
