"""What is made of an intervened answer: chains, joint interventions and rewrites of rewrites; and paraphrases.

Each is a plan (`asking.py`) for one response; all plans of a group run together.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from crome_jax.augment.account import Account
from crome_jax.augment.asking import Plan
from crome_jax.augment.growth import Growth
from crome_jax.augment.oracles.base import NO_ATTRIBUTE, Direction, Intervention, Rewrite
from crome_jax.augment.rubrics import Rubric
from crome_jax.augment.seeds import derive_seed
from crome_jax.augment.verification import unusable
from crome_jax.groups import Origin, Response

_ORIGINS = {Direction.DEGRADE: Origin.DEGRADED, Direction.UPGRADE: Origin.UPGRADED}
_OPPOSITE = {Direction.DEGRADE: Direction.UPGRADE, Direction.UPGRADE: Direction.DEGRADE}


class Twin(NamedTuple):
    """An answer and what became of it along one attribute.

    Args:
        direction: degrade or upgrade.
        rubric: that was moved.
        parent, made: indices of the answer before and after.
        other: index of the answer it was compared with by a human.
        seed: parts of the seed of what is drawn for it.
    """

    direction: Direction
    rubric: Rubric
    parent: int
    made: int
    other: int
    seed: tuple[str | int, ...]


def chain(
    growth: Growth, twin: Twin, steps: int, borrowed: tuple[str, ...], account: Account, freely: bool
) -> Plan[None]:
    """Move an answer further along the attribute it was moved along; every two steps are compared (graded chains).

    Args:
        steps: in all, the twin's own among them. A step that cannot be used ends the chain.
    """
    line = [twin.parent, twin.made]
    for step in range(2, steps + 1):
        request = _request(growth, twin, twin.direction, twin.rubric, line[-1], borrowed, ("chain", step))
        [reply] = yield [request]
        facts = {"recipe": "chain", "step": step}
        new = _add(growth, "chain", request, reply, line[-1], facts, account, freely)
        if new is None:
            account.short["chain"] += steps - step + 1
            return
        for earlier in line:
            better, worse = (earlier, new) if twin.direction is Direction.DEGRADE else (new, earlier)
            growth.prefer(better, worse, twin.rubric.name)
        line.append(new)


def join(
    growth: Growth,
    twin: Twin,
    rubrics: Sequence[Rubric],
    borrowed: tuple[str, ...],
    account: Account,
    freely: bool,
) -> Plan[None]:
    """Move an answer that was moved along one attribute along a second, too (joint interventions).

    Against the twin it differs in the second attribute, against the answer both come from in both: attribute `a + b`.
    """
    others = [rubric for rubric in rubrics if rubric.name != twin.rubric.name]
    random.Random(derive_seed("joint", *twin.seed, twin.rubric.name)).shuffle(others)
    for second in others:
        request = _request(growth, twin, twin.direction, second, twin.made, borrowed, ("joint", second.name))
        [reply] = yield [request]
        facts = {"recipe": "joint", "attributes": f"{twin.rubric.name} + {second.name}"}
        new = _add(growth, "joint", request, reply, twin.made, facts, account, freely)
        if new is not None:
            for before, attribute in ((twin.made, second.name), (twin.parent, facts["attributes"])):
                better, worse = (before, new) if twin.direction is Direction.DEGRADE else (new, before)
                growth.prefer(better, worse, attribute)
            return
    account.short["joint"] += 1


def rewrite_back(growth: Growth, twin: Twin, borrowed: tuple[str, ...], account: Account, freely: bool) -> Plan[None]:
    """Move a rewritten answer back the other way (rewrites of rewrites; RATE, arXiv 2410.11348).

    Both sides of the comparison are then the oracle's, so that its own style is in both and cancels out. RATE measures
    a reward model's effects so; here the same pair is trained on. The twice rewritten answer is not tied to the one it
    began as: that it is as good is a hope, that it is better than the lowered one was asked for.
    """
    back = _OPPOSITE[twin.direction]
    request = _request(growth, twin, back, twin.rubric, twin.made, borrowed, ("rewritten twice",))
    if freely:  # An editor by rule needs to be shown what is better; an oracle would only copy it.
        request = Intervention(**{**vars(request), "reference": None})
    [reply] = yield [request]
    new = _add(growth, "rewritten twice", request, reply, twin.made, {"recipe": "rewritten twice"}, account, freely)
    if new is None:
        account.short["rewritten twice"] += 1
        return
    better, worse = (new, twin.made) if back is Direction.UPGRADE else (twin.made, new)
    growth.prefer(better, worse, twin.rubric.name)


def paraphrase(growth: Growth, answer: int, seed: int, account: Account, freely: bool) -> Plan[None]:
    """Tie an answer to a paraphrase of it (PARA; Crome, arXiv 2506.16507)."""
    group, text = growth.group, growth.responses[answer].text
    request = Intervention(
        Direction.PARAPHRASE,
        NO_ATTRIBUTE,
        group.prompt,
        text,
        seed=derive_seed(seed, group.id, "paraphrase", text),
    )
    [reply] = yield [request]
    new = _add(growth, "paraphrase", request, reply, answer, {}, account, freely)
    if new is None:
        account.short["paraphrase"] += 1
    else:
        growth.tie(answer, new)


def _request(
    growth: Growth,
    twin: Twin,
    direction: Direction,
    rubric: Rubric,
    text: int,
    borrowed: tuple[str, ...],
    place: tuple[str | int, ...],
) -> Intervention:
    reference = twin.other if direction is twin.direction else twin.parent
    return Intervention(
        direction=direction,
        attribute=rubric.name,
        prompt=growth.group.prompt,
        text=growth.responses[text].text,
        reference=growth.responses[reference].text,
        elsewhere=borrowed,
        seed=derive_seed(*twin.seed, twin.rubric.name, *place),
        definition=rubric.definition,
    )


def _add(
    growth: Growth,
    recipe: str,
    request: Intervention,
    reply: Rewrite,
    parent: int,
    facts: dict[str, str | int],
    account: Account,
    freely: bool,
) -> int | None:
    """Add the reply as a response, or count why it cannot be used; return its index, None where there is none."""
    if reason := unusable(reply, request.direction, request.attribute, parent, growth, freely):
        account.dropped[recipe, request.attribute, reason] += 1
        return None
    account.made[recipe, request.attribute] += 1
    paraphrased = request.direction is Direction.PARAPHRASE
    return growth.add(
        Response(
            reply.text,
            origin=Origin.PARAPHRASED if paraphrased else _ORIGINS[request.direction],
            parent=parent,
            attribute=None if paraphrased else request.attribute,
            edit=reply.edit,
            metadata=facts,
        )
    )
