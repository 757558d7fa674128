"""Every response of some groups, rewritten along causal and spurious attributes, once and back again."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from crome_jax.augment.oracles.base import Declined, Direction, Intervention, Oracle, Rewrite
from crome_jax.augment.rubrics import RUBRICS
from crome_jax.augment.seeds import derive_seed
from crome_jax.errors import DataError
from crome_jax.evaluation.style_attributes import ATTRIBUTES, rewrite
from crome_jax.groups import Kind, PreferenceGroup, check_response_text

CAUSAL, SPURIOUS = "causal", "spurious"
_BORROWED = 4


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """A response and its rewrites.

    Args:
        group, response: indices.
        kind: causal or spurious.
        attribute: that was moved.
        treated: whether the response has the attribute: for a causal one, whether it was the preferred of its pair.
        once, twice: the texts; `twice` is None where there is no way back.
    """

    group: int
    response: int
    kind: str
    attribute: str
    treated: bool
    once: str
    twice: str | None


def style_rewrites(groups: Sequence[PreferenceGroup], names: Sequence[str]) -> Iterator[Rewritten]:
    """Rewrite every original response along every attribute of style that is named."""
    for g, group in enumerate(groups):
        for r in _compared(group):
            text = group.responses[r].text
            for attribute in ATTRIBUTES:
                if attribute.name in names and (found := rewrite(attribute, text)):
                    yield Rewritten(g, r, SPURIOUS, attribute.name, attribute.present(text), *found)


def causal_rewrites(
    groups: Sequence[PreferenceGroup], oracle: Oracle, attributes: Sequence[str], seed: int = 0
) -> Iterator[Rewritten]:
    """Have an oracle lower the preferred response of pairs_to_rewrite and raise the other, and each back again.

    The preferred response counts as having the attribute, the other as not having it. On the way back the response as
    it was is the reference that an upgrade moves toward: a model is not shown it, but the offline editor copies from
    it, so that its second rewrite is not independent of the response. What the oracle declines is left out.

    Args:
        attributes: names of causal attributes.
    """
    wanted = [
        (g, better, worse, attribute)
        for g, group in enumerate(groups)
        for better, worse in pairs_to_rewrite(group)
        for attribute in attributes
    ]
    first = []
    for g, better, worse, attribute in wanted:
        texts = [groups[g].responses[r].text for r in (better, worse)]
        first.append((g, better, attribute, True, texts[0], texts[1]))
        first.append((g, worse, attribute, False, texts[1], texts[0]))
    asked = (
        _request(groups, g, attribute, Direction.DEGRADE if treated else Direction.UPGRADE, text, other, seed)
        for g, _, attribute, treated, text, other in first
    )
    once = [
        (*case, reply.text) for case, reply in zip(first, oracle.rewrite(asked), strict=True) if _usable(reply, case[4])
    ]
    back = (
        _request(groups, g, attribute, Direction.UPGRADE if treated else Direction.DEGRADE, moved, text, seed + 1)
        for g, _, attribute, treated, text, _, moved in once
    )
    for case, reply in zip(once, oracle.rewrite(back), strict=True):
        g, r, attribute, treated, _, _, moved = case
        yield Rewritten(g, r, CAUSAL, attribute, treated, moved, reply.text if _usable(reply, moved) else None)


def _usable(reply: Rewrite | Declined, source: str) -> bool:
    """Tell whether a reply can be scored as a rewrite: it is a text that a response may have, and another one."""
    if isinstance(reply, Declined) or reply.text == source:
        return False
    try:
        check_response_text(reply.text, "text")
    except DataError:
        return False
    return True


def pairs_to_rewrite(group: PreferenceGroup) -> list[tuple[int, int]]:
    """Return the preferred and the other response of human comparisons, in their order, each response once.

    A comparison with a response of an earlier one is left out: its response would be rewritten and counted again.
    """
    taken: set[int] = set()
    kept = []
    for pair in _pairs(group):
        if taken.isdisjoint(pair):
            taken.update(pair)
            kept.append(pair)
    return kept


def count_pairs(groups: Sequence[PreferenceGroup]) -> dict[str, int]:
    """Return how many pairs of compared responses are `rewritten` along causal attributes, and how many `left_out`."""
    rewritten = sum(len(pairs_to_rewrite(group)) for group in groups)
    return {"rewritten": rewritten, "left_out": sum(len(_pairs(group)) for group in groups) - rewritten}


def _pairs(group: PreferenceGroup) -> list[tuple[int, int]]:
    pairs = [
        (c.left, c.right) if c.target > 0.5 else (c.right, c.left)
        for c in group.comparisons
        if c.kind is Kind.HUMAN and c.target != 0.5
    ]
    return list(dict.fromkeys(pairs))


def _compared(group: PreferenceGroup) -> list[int]:
    return sorted(set(itertools.chain(*_pairs(group))))


def _request(
    groups: Sequence[PreferenceGroup],
    g: int,
    attribute: str,
    direction: Direction,
    text: str,
    reference: str,
    seed: int,
) -> Intervention:
    others = [groups[(g + step) % len(groups)] for step in range(1, 1 + min(_BORROWED, len(groups) - 1))]
    elsewhere = tuple(o.responses[0].text for o in others if o.responses and o.prompt != groups[g].prompt)
    return Intervention(
        direction=direction,
        attribute=attribute,
        prompt=groups[g].prompt,
        text=text,
        reference=reference,
        elsewhere=elsewhere,
        definition=RUBRICS[attribute].definition if attribute in RUBRICS else "",
        seed=derive_seed("diagnose", seed, groups[g].id, str(direction), attribute, text),
    )
