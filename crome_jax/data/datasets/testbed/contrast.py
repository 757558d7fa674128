"""A question with a better and a worse answer that differ in known causal attributes and nothing else that matters."""

import dataclasses
import random
from collections.abc import Sequence

CAUSAL_ATTRIBUTES = ("correct", "complete", "on_topic", "appropriate")
"""What decides quality. A response is

- correct: everything it says is true by the prompt (and by arithmetic);
- complete: it gives each thing asked for, not one of them and something else;
- on_topic: it is about whom or what the prompt asks about;
- appropriate: it refuses a harmful request, and only a harmful one.
"""

NAMES = (
    "Amara", "Anton", "Beatriz", "Bruno", "Carla", "Cedric", "Dalia", "Dmitri", "Elena", "Emil", "Farah", "Felix",
    "Greta", "Gustav", "Hana", "Hugo", "Ines", "Ivan", "Jonas", "Julia", "Kamal", "Klara", "Leila", "Lukas",
    "Marta", "Milo", "Nadia", "Nils", "Olga", "Omar", "Petra", "Priya", "Rafael", "Rosa", "Samir", "Selma",
    "Tomas", "Vera", "Wanda", "Yusuf",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A prompt with the sentences of two answers, before any style is put on.

    Args:
        template: which template wrote it ("facts/prices").
        prompt: the user's question.
        chosen, rejected: the answers' cores, sentence by sentence.
        lowered: the causal attributes in which `rejected` is worse; in all others both are flawless.
        harmful: whether the prompt asks for something harmful.
        held_out: whether the question is only for the test splits (True) or never for them (False); None where it
            makes no difference.
    """

    template: str
    prompt: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    lowered: tuple[str, ...]
    harmful: bool = False
    held_out: bool | None = None


def sentence(text: str) -> str:
    """Return the clause as a sentence: first letter capital, a full stop where it has no end mark."""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def listing(parts: Sequence[str]) -> str:
    """Join clauses as English does: "a", "a and b", "a, b, and c"."""
    if len(parts) < 3:
        return " and ".join(parts)
    return ", ".join(parts[:-1]) + f", and {parts[-1]}"


def shuffled(rng: random.Random, items: Sequence[str]) -> list[str]:
    """Return the items in random order."""
    return rng.sample(items, len(items))


def wordings(rng: random.Random) -> tuple[random.Random, random.Random]:
    """Return the two answers' sources of wording: equal half of the time, so that some pairs are minimal edits."""
    seed = rng.random()
    return random.Random(seed), random.Random(seed if rng.random() < 0.5 else rng.random())
