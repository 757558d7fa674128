"""Rewritten answers: one attribute raised or lowered (causal comparisons), or all made equal (aligned neutrals)."""

import collections
import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence, Set

from crome_jax.augment.account import Account
from crome_jax.augment.oracles.base import EVERY_ATTRIBUTE, Declined, Direction, Intervention, Oracle, Rewrite
from crome_jax.augment.seeds import derive_seed
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response, build_group

MOST_RUBRICS = 8
"""Attributes asked of the oracle for one prompt: more than are used, since some will be declined."""

BORROWED_TEXTS = 6
"""Answers to other prompts that a request carries for edits that need foreign material."""

WINDOW = 256
"""Groups whose requests go to the oracle together, so that one behind a network has something to run concurrently."""


@dataclasses.dataclass
class _Task:
    """Interventions wanted on one side of one human comparison."""

    group: int
    direction: Direction
    parent: int
    other: int
    seed: tuple[str | int, ...]
    untried: collections.deque[str]
    wanted: int


def add_interventions(
    groups: Sequence[PreferenceGroup],
    *,
    oracle: Oracle,
    degrade_per_pair: int = 2,
    upgrade_per_pair: int = 2,
    align_per_pair: int = 1,
    implied: bool = True,
    max_pairs_per_group: int | None = 4,
    seed: int = 0,
    account: Account | None = None,
) -> Iterator[PreferenceGroup]:
    """Add to every group comparisons made from its human ones by rewriting (Crome, arXiv 2506.16507, stage 1).

    Causal: the preferred answer is degraded and the other upgraded, each along `*_per_pair` attributes drawn from those
    the oracle names; where a rewrite is declined the next attribute is tried. Neutral: the other answer is given the
    preferred one's content in its own style, which makes a tie of the two (CAN). Human ties get none. What a group
    becomes depends on the seed and on which groups there are, not on their order.

    A tie with the preferred answer implies more: the aligned answer beats the one that it was made from, and the
    degraded ones. These comparisons are not in the paper; they hold content against style in both directions, and cost
    nothing, as all their answers are encoded already.

    Args:
        groups: with unique ids.
        oracle: who names attributes and rewrites.
        degrade_per_pair, upgrade_per_pair: causal comparisons wanted for each human one.
        align_per_pair: causally-aligned neutrals wanted for each human comparison, 0 or 1.
        implied: whether to add the causal comparisons that a causally-aligned neutral implies.
        max_pairs_per_group: most human comparisons of a group that are used, drawn with the seed; None uses all.
        account: filled in with what was made and dropped.

    Yields:
        the groups, in order; their own responses and comparisons come first and are as they were.

    Raises:
        CromeError: where two groups have one id.
    """
    account = Account() if account is None else account
    lender = _Lender(groups, seed)
    for start in range(0, len(groups), WINDOW):
        window = groups[start : start + WINDOW]
        tasks = [
            task
            for g, group in enumerate(window)
            for task in _tasks(
                g, group, oracle, (degrade_per_pair, upgrade_per_pair, align_per_pair), max_pairs_per_group, seed
            )
        ]
        made = _run(window, tasks, oracle, lender, account)
        yield from (_extended(group, made[g], implied, account) for g, group in enumerate(window))


class _Lender:
    """Lends each group answers to other prompts, the same whatever the order of the groups."""

    def __init__(self, groups: Sequence[PreferenceGroup], seed: int):
        self._by_id = {group.id: group for group in groups}
        if len(self._by_id) < len(groups):
            twice = next(i for i, n in collections.Counter(group.id for group in groups).items() if n > 1)
            raise CromeError(f"two groups have the id {twice!r}; ids must be unique in a data set")
        self._ids = sorted(self._by_id)
        self._seed = seed

    def texts(self, borrower: PreferenceGroup) -> tuple[str, ...]:
        rng = random.Random(derive_seed(self._seed, "elsewhere", borrower.id))
        drawn = (self._by_id[i] for i in rng.sample(self._ids, min(len(self._ids), BORROWED_TEXTS + 1)))
        own = {response.text for response in borrower.responses}
        texts = (rng.choice(g.responses).text for g in drawn if g.prompt != borrower.prompt and g.responses)
        return tuple(text for text in texts if text not in own)[:BORROWED_TEXTS]


def _tasks(
    index: int,
    group: PreferenceGroup,
    oracle: Oracle,
    wanted_per_pair: tuple[int, int, int],
    max_pairs: int | None,
    seed: int,
) -> list[_Task]:
    pairs = [
        (c.left, c.right) if c.target > 0.5 else (c.right, c.left)
        for c in group.comparisons
        if c.kind is Kind.HUMAN and c.target != 0.5
    ]
    pairs = list(dict.fromkeys(pairs))
    if max_pairs is not None and len(pairs) > max_pairs:
        pairs = random.Random(derive_seed(seed, "pairs", group.id)).sample(pairs, max_pairs)
    if not pairs:
        return []
    involved = tuple(group.responses[r].text for r in sorted(set(itertools.chain(*pairs))))
    names = oracle.rubrics(group.prompt, involved, MOST_RUBRICS)
    tasks = []
    for chosen, rejected in pairs:
        sides = (
            (Direction.DEGRADE, chosen, rejected),
            (Direction.UPGRADE, rejected, chosen),
            (Direction.ALIGN, rejected, chosen),
        )
        for (direction, parent, other), wanted in zip(sides, wanted_per_pair, strict=True):
            place = (seed, group.id, direction, group.responses[parent].text, group.responses[other].text)
            order = [EVERY_ATTRIBUTE] if direction is Direction.ALIGN else list(names)
            random.Random(derive_seed("attributes", *place)).shuffle(order)
            tasks.append(_Task(index, direction, parent, other, place, collections.deque(order), wanted))
    return tasks


def _run(
    window: Sequence[PreferenceGroup], tasks: list[_Task], oracle: Oracle, lender: _Lender, account: Account
) -> dict[int, list[tuple[Response, Comparison]]]:
    """Ask the oracle until every task has what it wants or has tried every attribute.

    Returns:
        index of a group -> new responses, each with its comparison, whose index -1 stands for it.
    """
    made: dict[int, list[tuple[Response, Comparison]]] = collections.defaultdict(list)
    taken = [{response.text for response in group.responses} for group in window]
    borrowed = {task.group: lender.texts(window[task.group]) for task in tasks}
    while True:
        asked = [
            (task, attribute)
            for task in tasks
            for attribute in [task.untried.popleft() for _ in range(min(task.wanted, len(task.untried)))]
        ]
        if not asked:
            break
        requests = (_request(window[task.group], task, attribute, borrowed[task.group]) for task, attribute in asked)
        for (task, attribute), reply in zip(asked, oracle.rewrite(requests), strict=True):
            reason = _unusable(reply, taken[task.group] - _equals(task, made[task.group]))
            if reason:
                account.dropped[str(task.direction), attribute, reason] += 1
                continue
            task.wanted -= 1
            account.made[str(task.direction), attribute] += 1
            taken[task.group].add(reply.text)
            made[task.group].append(_judged(task, attribute, reply))
    for task in tasks:
        account.short[str(task.direction)] += task.wanted
    return made


def _judged(task: _Task, attribute: str, reply: Rewrite) -> tuple[Response, Comparison]:
    """Return the new response and the comparison it was made for, in which -1 stands for it."""
    origin = {
        Direction.DEGRADE: Origin.DEGRADED,
        Direction.UPGRADE: Origin.UPGRADED,
        Direction.ALIGN: Origin.ALIGNED,
    }[task.direction]
    response = Response(reply.text, origin=origin, parent=task.parent, attribute=attribute, edit=reply.edit)
    if task.direction is Direction.ALIGN:
        return response, Comparison(task.other, -1, target=0.5, kind=Kind.NEUTRAL)
    better, worse = (-1, task.parent) if task.direction is Direction.UPGRADE else (task.parent, -1)
    return response, Comparison(better, worse, kind=Kind.CAUSAL, attribute=attribute)


def _request(group: PreferenceGroup, task: _Task, attribute: str, borrowed: tuple[str, ...]) -> Intervention:
    return Intervention(
        direction=task.direction,
        attribute=attribute,
        prompt=group.prompt,
        text=group.responses[task.parent].text,
        reference=group.responses[task.other].text,
        elsewhere=borrowed,
        seed=derive_seed(*task.seed, attribute),
    )


def _equals(task: _Task, made: Sequence[tuple[Response, Comparison]]) -> set[str]:
    """Return the texts that an alignment may come to: raised in all that matters, an answer is aligned already."""
    if task.direction is not Direction.ALIGN:
        return set()
    return {r.text for r, _ in made if r.origin is Origin.UPGRADED and r.parent == task.parent}


def _unusable(reply: Rewrite | Declined, taken: Set[str]) -> str | None:
    if isinstance(reply, Declined):
        return reply.reason
    if not reply.text.strip():
        return "empty text"
    # Made equal to the preferred answer it would only say what the human said.
    return "equals another answer" if reply.text in taken else None


def _extended(
    group: PreferenceGroup, made: Sequence[tuple[Response, Comparison]], implied: bool, account: Account
) -> PreferenceGroup:
    responses = [*group.responses, *(response for response, _ in made)]
    comparisons = list(group.comparisons)
    for new, (_, judged) in enumerate(made, len(group.responses)):
        left, right = (new if side == -1 else side for side in (judged.left, judged.right))
        comparisons.append(dataclasses.replace(judged, left=left, right=right))
    if implied:
        following = list(_implied(responses, comparisons))
        account.implied += len(following)
        comparisons += following
    return build_group(
        id=group.id,
        prompt=group.prompt,
        responses=responses,
        comparisons=comparisons,
        metadata=group.metadata,
    )


def _implied(responses: Sequence[Response], comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """Yield, for every answer aligned with a preferred one, that it beats its parent and that one's degraded twins.

    What is there already is left out: equal texts become one response.
    """
    there = {(responses[c.left].text, responses[c.right].text) for c in comparisons}
    for tie in comparisons:
        chosen, aligned = tie.left, tie.right
        if responses[aligned].origin is not Origin.ALIGNED:
            continue
        following = [Comparison(aligned, responses[aligned].parent, kind=Kind.CAUSAL, attribute=EVERY_ATTRIBUTE)]
        following += [
            dataclasses.replace(other, left=aligned)
            for other in comparisons
            if other.left == chosen and responses[other.right].origin is Origin.DEGRADED
        ]
        yield from (c for c in following if (responses[c.left].text, responses[c.right].text) not in there)
