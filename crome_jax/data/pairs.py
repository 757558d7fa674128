"""Two answers in one response slot: how comparisons are laid out for a pairwise preference model (PairPM).

A comparison in one order is one slot, which stands where a response stands: it sees its prompt, which is encoded once,
and itself, so that packing, attention, frozen layers and resuming are what they are for responses. What it holds is a
conversation in the backbone's own chat template:

    first answer, end of turn | the user asks for another (REQUEST) | second answer, end of turn

Each answer is encoded as it is for a reward model, so no text in it can spell what stands between or ends a turn. The
end of the second answer's turn, which sees both, is scored: the log-odds that the first is the better.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from crome_jax.augment.seeds import derive_seed
from crome_jax.data.cutting import are_equal_once_cut, check_room, cut_to, share_room
from crome_jax.data.packing import TokenizedGroup
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError
from crome_jax.groups import PreferenceGroup

REQUEST = "Give another answer to the same request. Which of the two answers is better?"
"""What the user says between the answers. A trained model knows this text: another one would be another model's."""

Order = Literal["random", "both"]
"""In which order a comparison's answers stand: one that is drawn, or each at half the weight."""


@dataclasses.dataclass(frozen=True)
class PairForm:
    """How comparisons become pairs.

    Args:
        order: "random" draws an order for every two answers, so that which comes first says nothing; "both" lays out
            both, which takes twice the tokens.
        seed: of the draws, which depend on it, the group's id and the two answers' places alone.

    Raises:
        CromeError: where the order is unknown.
    """

    order: Order = "random"
    seed: int = 0

    def __post_init__(self):
        if self.order not in get_args(Order):
            raise CromeError(f"pair order is {self.order!r}; give one of {', '.join(get_args(Order))}")

    def orders(self, group: str, left: int, right: int) -> list[tuple[int, int]]:
        """Return the (first, second) in which a comparison of a group is laid out."""
        if self.order == "both":
            return [(left, right), (right, left)]
        low, high = sorted((left, right))
        return [(low, high) if derive_seed(self.seed, "order of a pair", group, low, high) % 2 else (high, low)]


def tokenize_pairs(
    group: PreferenceGroup, index: int, tokenizer: Tokenizer, tokens: int, between: Sequence[int], form: PairForm
) -> TokenizedGroup:
    """Encode the comparisons of a group as pairs.

    Comparisons of the same two answers share a slot. Of two answers that do not fit a row both are cut, as
    `cutting.share_room` says, to the same lengths in either order, and each keeps the end of its turn. Where that makes
    them equal, what compares them has no weight.

    Args:
        index: the group's place in the data set.
        tokens: T, of the row that each pair must fit.
        between: what stands between two answers, REQUEST encoded.
        form: the orders.

    Returns:
        A response for each distinct (first, second), in the order of the comparisons; of each comparison left is its
        slot, right -1, and target the probability that the first answer is preferred.

    Raises:
        DataError: where the prompt leaves no room, or the chat template refuses it.
    """
    prompt = tokenizer.encode_prompt(group.prompt)
    check_room(len(prompt) + len(between), tokens)
    used = sorted({r for c in group.comparisons for r in (c.left, c.right)})
    answers = {r: tokenizer.encode_response(group.responses[r].text) for r in used}
    room = tokens - len(prompt) - len(between)
    slots: dict[tuple[int, int], int] = {}
    encoded: list[list[int]] = []
    cut: dict[tuple[int, int], list[int]] = {}
    equal = 0
    rows: list[tuple[int, float, float, float, int, str]] = []
    for c in group.comparisons:
        sides = min(c.left, c.right), max(c.left, c.right)
        wanted = {r: len(answers[r]) for r in sides}
        kept = wanted if sum(wanted.values()) <= room else share_room(wanted, room)
        cut[sides] = [r for r in sides if kept[r] < wanted[r]]
        low, high = sides
        same = are_equal_once_cut(answers[low], answers[high], (kept[low], kept[high]))
        weight = 0.0 if same else c.weight
        equal += same
        orders = form.orders(group.id, c.left, c.right)
        for order in orders:
            if order not in slots:
                slots[order] = len(encoded)
                first, second = (cut_to(answers[r], kept[r]) for r in order)
                encoded.append([*first, *between, *second])
            target = c.target if order[0] == c.left else 1.0 - c.target
            rows.append((slots[order], target, weight / len(orders), c.margin, c.kind, c.moved))
    left, target, weight, margin, kind, attributes = zip(*rows, strict=True) if rows else ((),) * 6
    return TokenizedGroup(
        index=index,
        prompt=prompt,
        responses=encoded,
        left=np.array(left, np.int32),
        right=np.full(len(rows), -1, np.int32),
        kind=np.array(kind, np.int32),
        target=np.array(target, np.float32),
        weight=np.array(weight, np.float32),
        margin=np.array(margin, np.float32),
        attributes=attributes,
        cut=sum(map(len, cut.values())),
        cut_at=sorted(set(itertools.chain(*cut.values()))),
        equal=equal,
    )
