"""Rewritten answers: one attribute raised or lowered (causal comparisons), or all made equal (neutral ones)."""

import collections
import dataclasses
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence, Set

from crome_jax.augment.account import Account
from crome_jax.augment.asking import Plan, run_plans, together
from crome_jax.augment.elaborations import Twin, chain, join, paraphrase, rewrite_back
from crome_jax.augment.growth import Growth
from crome_jax.augment.oracles.base import (
    EVERY_ATTRIBUTE,
    Declined,
    Direction,
    Intervention,
    Oracle,
    Question,
    Rewrite,
    SubmittingOracle,
)
from crome_jax.augment.recipe import Recipe
from crome_jax.augment.rubrics import Rubric
from crome_jax.augment.seeds import derive_seed
from crome_jax.augment.verification import judge_made, unusable
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response

BORROWED_TEXTS = 6
"""Answers to other prompts that a request carries for edits that need foreign material."""


@dataclasses.dataclass
class _Task:
    """Interventions wanted on one side of one human comparison."""

    direction: Direction
    parent: int
    other: int
    seed: tuple[str | int, ...]
    untried: collections.deque[Rubric]
    wanted: int
    twins: list[Twin] = dataclasses.field(default_factory=list)


def add_interventions(
    groups: Sequence[PreferenceGroup],
    *,
    oracle: Oracle | SubmittingOracle,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    seed: int = 0,
    account: Account | None = None,
) -> Iterator[PreferenceGroup]:
    """Add to every group comparisons made from its human ones by rewriting (Crome, arXiv 2506.16507, stage 1).

    Causal: the preferred answer is degraded and the other upgraded, each along attributes drawn from those the oracle
    names; where a rewrite is declined the next attribute is tried. Neutral: the other answer is given the preferred
    one's content in its own style, which makes a tie of the two (CAN). Human ties get none. What a group becomes
    depends on the seed and on which groups there are, not on their order.

    A tie with the preferred answer implies more: the aligned answer beats the one that it was made from, and the
    degraded ones. These comparisons are not in the paper; they hold content against style in both directions, and cost
    nothing, as all their answers are encoded already.

    Chains, joint interventions, rewrites of rewrites and paraphrases follow where the recipe has them: see
    `elaborations.py`. Where it says so the oracle judges what was made.

    Args:
        groups: with unique ids.
        oracle: who names attributes and rewrites.
        recipe: how much is made.
        account: filled in with what was made and dropped.

    Yields:
        the groups, in order; their own responses and comparisons come first and are as they were.

    Raises:
        CromeError: where two groups have one id, or the recipe wants the judgement of an oracle that does not judge.
    """
    account = Account() if account is None else account
    if recipe.judge and not isinstance(oracle, SubmittingOracle):
        raise CromeError(f"the oracle {oracle.name!r} does not judge; set Recipe.judge to False or take another")
    lender = _Lender(groups, seed)
    # Who writes freely needs no foreign material, and is named with what it made.
    provenance = oracle.provenance if isinstance(oracle, SubmittingOracle) else None
    plans = (_grow(group, recipe, provenance, lender, seed, account) for group in groups)
    yield from run_plans(plans, oracle)


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


def _grow(
    group: PreferenceGroup,
    recipe: Recipe,
    provenance: Mapping[str, str] | None,
    lender: _Lender,
    seed: int,
    account: Account,
) -> Plan[PreferenceGroup]:
    """Plan all that is made of one group.

    Args:
        provenance: of an oracle that writes free text; None of one that edits by rule.
    """
    growth = Growth(group)
    pairs = _pairs(group, recipe.max_pairs_per_group, seed)
    if not pairs:
        return growth.build(provenance)
    freely = provenance is not None
    involved = tuple(group.responses[r].text for r in sorted(set(itertools.chain(*pairs))))
    [named] = yield [Question(group.prompt, involved, recipe.rubrics_per_prompt)]
    if isinstance(named, Declined):
        account.dropped["rubrics", EVERY_ATTRIBUTE, named.reason] += 1
        named = ()
    tasks = _tasks(group, pairs, named, recipe, seed)
    borrowed = () if freely else lender.texts(group)
    yield from _intervene(growth, tasks, borrowed, freely, account)
    yield from together(
        [further for task in tasks for further in _further(growth, task, named, recipe, borrowed, freely, account)]
        + [paraphrase(growth, r, seed, account, freely) for r in _paraphrased(pairs, recipe.paraphrase_per_pair)]
    )
    if recipe.judge:
        yield from judge_made(growth, named, account)
    if recipe.implied:
        following = list(_implied(growth.responses, growth.comparisons))
        account.implied += len(following)
        growth.comparisons += following
    return growth.build(provenance)


def _pairs(group: PreferenceGroup, most: int | None, seed: int) -> list[tuple[int, int]]:
    """Return the (preferred, other) of the human comparisons that are intervened on."""
    pairs = [
        (c.left, c.right) if c.target > 0.5 else (c.right, c.left)
        for c in group.comparisons
        if c.kind is Kind.HUMAN and c.target != 0.5
    ]
    pairs = list(dict.fromkeys(pairs))
    if most is not None and len(pairs) > most:
        pairs = random.Random(derive_seed(seed, "pairs", group.id)).sample(pairs, most)
    return pairs


def _tasks(
    group: PreferenceGroup,
    pairs: Sequence[tuple[int, int]],
    rubrics: Sequence[Rubric],
    recipe: Recipe,
    seed: int,
) -> list[_Task]:
    tasks = []
    for chosen, rejected in pairs:
        sides = (
            (Direction.DEGRADE, chosen, rejected, recipe.degrade_per_pair),
            (Direction.UPGRADE, rejected, chosen, recipe.upgrade_per_pair),
            (Direction.ALIGN, rejected, chosen, recipe.align_per_pair),
        )
        for direction, parent, other, wanted in sides:
            if not wanted:
                continue
            place = (seed, group.id, direction, group.responses[parent].text, group.responses[other].text)
            order = [Rubric(EVERY_ATTRIBUTE, "")] if direction is Direction.ALIGN else list(rubrics)
            random.Random(derive_seed("attributes", *place)).shuffle(order)
            tasks.append(_Task(direction, parent, other, place, collections.deque(order), wanted))
    return tasks


def _paraphrased(pairs: Sequence[tuple[int, int]], sides: int) -> list[int]:
    return list(dict.fromkeys(side for pair in pairs for side in pair[:sides]))


def _intervene(
    growth: Growth, tasks: Sequence[_Task], borrowed: tuple[str, ...], freely: bool, account: Account
) -> Plan[None]:
    """Ask until every task has what it wants or has tried every attribute."""
    while True:
        asked = [
            (task, rubric)
            for task in tasks
            for rubric in [task.untried.popleft() for _ in range(min(task.wanted, len(task.untried)))]
        ]
        if not asked:
            break
        replies = yield [_request(growth.group, task, rubric, borrowed) for task, rubric in asked]
        for (task, rubric), reply in zip(asked, replies, strict=True):
            reason = unusable(reply, task.direction, rubric.name, task.parent, growth, freely, _equals(task, growth))
            if reason:
                account.dropped[str(task.direction), rubric.name, reason] += 1
                continue
            task.wanted -= 1
            account.made[str(task.direction), rubric.name] += 1
            new = growth.add(_response(task, rubric, reply))
            if task.direction is Direction.ALIGN:
                growth.tie(task.other, new)
                continue
            better, worse = (new, task.parent) if task.direction is Direction.UPGRADE else (task.parent, new)
            growth.prefer(better, worse, rubric.name)
            task.twins.append(Twin(task.direction, rubric, task.parent, new, task.other, task.seed))
    for task in tasks:
        account.short[str(task.direction)] += task.wanted


def _further(
    growth: Growth,
    task: _Task,
    rubrics: Sequence[Rubric],
    recipe: Recipe,
    borrowed: tuple[str, ...],
    freely: bool,
    account: Account,
) -> Iterator[Plan[None]]:
    """Yield what is made of the twins of a task."""
    if recipe.chain_steps > 1:
        for twin in task.twins[:1]:
            yield chain(growth, twin, recipe.chain_steps, borrowed, account, freely)
    for twin in task.twins[: recipe.joint_per_pair]:
        yield join(growth, twin, rubrics, borrowed, account, freely)
    for twin in task.twins[: recipe.rewritten_twice_per_pair]:
        yield rewrite_back(growth, twin, borrowed, account, freely)


def _response(task: _Task, rubric: Rubric, reply: Rewrite) -> Response:
    origin = {
        Direction.DEGRADE: Origin.DEGRADED,
        Direction.UPGRADE: Origin.UPGRADED,
        Direction.ALIGN: Origin.ALIGNED,
    }[task.direction]
    return Response(reply.text, origin=origin, parent=task.parent, attribute=rubric.name, edit=reply.edit)


def _request(group: PreferenceGroup, task: _Task, rubric: Rubric, borrowed: tuple[str, ...]) -> Intervention:
    return Intervention(
        direction=task.direction,
        attribute=rubric.name,
        prompt=group.prompt,
        text=group.responses[task.parent].text,
        reference=group.responses[task.other].text,
        elsewhere=borrowed,
        seed=derive_seed(*task.seed, rubric.name),
        definition=rubric.definition,
    )


def _equals(task: _Task, growth: Growth) -> Set[str]:
    """Return the texts that an alignment may come to: raised in all that matters, an answer is aligned already."""
    if task.direction is not Direction.ALIGN:
        return frozenset()
    made = growth.responses[len(growth.group.responses) :]
    return {r.text for r in made if r.origin is Origin.UPGRADED and r.parent == task.parent}


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
