"""What distinguishes one method from another, and whether its three choices go together."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from crome_jax.batch import Batch
from crome_jax.data.pairs import Order, PairForm
from crome_jax.errors import CromeError
from crome_jax.groups import Kind, Origin
from crome_jax.models.weights import Head, Trainable
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.pairwise import Objective, reads_whole_batch
from crome_jax.scored import Scored

EVERY_ORIGIN_OF_CROME = tuple(origin.value for origin in Origin if origin is not Origin.PERMUTED)
"""Where the responses of the human, causal and neutral comparisons of Crome come from."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A data recipe, a head and an objective.

    Args:
        name: as reports call it.
        kinds: the comparisons it trains on, of "human", "causal", "neutral".
        origins: where both responses of such a comparison come from (see `groups.Origin`): all but RRM's permutations
            unless said otherwise. Without "degraded", say, no lowered answer is trained on.
        head: "scalar"; "odin": one head for quality, which scores, and one for length; or "pairwise": the model reads
            both answers in one slot and says which is the better (PairPM).
        objective: what the model says of a batch, and the batch, to a summed loss.
        pair_order: of a pairwise head, which answer stands first in training: "random", or "both", each comparison
            once in either order, with half its weight.
        scopes: of the gin bindings of these choices, and of the objective's arguments: errors name them in full.
    """

    name: str = "bradley_terry"
    kinds: tuple[str, ...] = ("human",)
    origins: tuple[str, ...] = EVERY_ORIGIN_OF_CROME
    head: Head = "scalar"
    objective: Objective = bradley_terry
    pair_order: Order = "random"
    scopes: tuple[str, str] = dataclasses.field(default=("", ""), compare=False)

    @property
    def binding(self) -> str:
        """Return what gin calls the method: `binding.kinds` is that of its kinds."""
        return f"{self.scopes[0]}/Method".removeprefix("/")

    @property
    def objective_binding(self) -> str:
        """Return what gin calls its objective."""
        return f"{self.scopes[1]}/{_name_of(self.objective)}".removeprefix("/")

    def pair_form(self, seed: int) -> PairForm | None:
        """Return how the comparisons of a pairwise head are laid out, None where each response has a slot."""
        return PairForm(self.pair_order, seed) if self.head == "pairwise" else None


def check_method(method: Method, steps: int, trainable: Trainable) -> None:
    """Try a method's objective on a few responses, before anything is loaded or compiled.

    Args:
        steps: optimizer steps of the run, at whose ends schedules are looked at.
        trainable: how much of the backbone trains.

    Raises:
        CromeError: where a kind or an origin is unknown, a number of the objective is out of range, its head is missing
            or would never be read, the objective is about responses that a pairwise head does not score, or centres
            them, a kind of comparison has a weight of its own that the recipe leaves out, or the recipe takes one that
            the objective does not read, or what it regularises does not train; naming the binding to change.
    """
    own = method.binding
    for choice, known in (("kinds", [kind.name.lower() for kind in Kind]), ("origins", [*Origin])):
        chosen = getattr(method, choice)
        if not chosen or not set(chosen) <= set(known):
            raise CromeError(f"method {method.name}: {own}.{choice} is {chosen!r}; give some of {', '.join(known)}")
    if method.head not in get_args(Head):
        raise CromeError(f"method {method.name}: head is {method.head!r}; give one of {', '.join(get_args(Head))}")
    if method.pair_order not in get_args(Order):
        orders = ", ".join(get_args(Order))
        raise CromeError(f"method {method.name}: pair_order is {method.pair_order!r}; give one of {orders}")
    if method.pair_order != "random" and method.head != "pairwise":
        raise CromeError(
            f"method {method.name}: pair_order is {method.pair_order!r}, but the head {method.head!r} reads one answer "
            f"at a time; set {own}.head to 'pairwise', or leave {own}.pair_order out"
        )
    slopes = _slopes(method, steps)
    if method.head == "pairwise" and not _reads_pairs(method, slopes):
        raise CromeError(
            f"method {method.name}: head is 'pairwise', but the objective {_name_of(method.objective)} is about the "
            f"rewards of single responses; set {own}.objective to @bradley_terry, @crome, @rao_kupper or @davidson, or "
            f"{own}.head to 'scalar'"
        )
    if method.head == "pairwise" and _centres_log_odds(method):
        name = method.objective_binding
        raise CromeError(
            f"method {method.name}: {name}.centring draws the rewards of single responses to zero; of a pairwise head "
            f"it would draw the log-odds to undecided; set {name}.centring to 0, or {own}.head to 'scalar'"
        )
    if method.head == "odin" and not any(found["length_rewards"].any() for found in slopes):
        raise CromeError(
            f"method {method.name}: head is 'odin', but its objective reads no head for length; set {own}.head to "
            f"'scalar', or {own}.objective to @odin"
        )
    objective, arguments = _name_of(method.objective), method.objective_binding
    if trainable == "head" and any(found["features"].any() for found in slopes):
        raise CromeError(
            f"method {method.name}: {objective} acts on hidden states, which stay as they are where only the head "
            "trains; set trainable to 'all' or a number of layers"
        )
    parameters = inspect.signature(method.objective).parameters
    for kind in Kind:
        name = kind.name.lower()
        weighted = f"{name}_weight" in parameters
        # Of each row responses 2 k and 2 k + 1 are compared as kind k; of pairs, slot 2 k holds both.
        read = any(found["rewards"][:, 2 * kind : 2 * kind + 2].any() for found in slopes)
        if weighted and read and name not in method.kinds:
            raise CromeError(
                f"method {method.name}: {arguments}.{name}_weight is not 0, but {own}.kinds takes no {name} "
                f"comparison; set {arguments}.{name}_weight to 0, or add {name!r} to {own}.kinds"
            )
        if not weighted and not read and name in method.kinds:
            raise CromeError(
                f"method {method.name}: {own}.kinds takes {name} comparisons, of which {objective} reads none; take "
                f"{name!r} out of {own}.kinds, or set {own}.objective to one that does, such as @crome"
            )


def check_comparisons(method: Method, batch: Batch, steps: int, name: str) -> None:
    """Try a method's objective on comparisons as the data have them, before anything is compiled.

    Args:
        batch: all rows that will be trained on.
        steps: optimizer steps of the run.
        name: of the data.

    Raises:
        CromeError: where none of them would move a reward: all of weight 0, or ties that the objective learns nothing
            from, or of kinds whose weight is 0.
    """
    counted = batch.weight > 0
    if not counted.any():
        raise CromeError(f"{name}: every comparison has weight 0; give records with another weight")
    ties = np.array([(counted & (batch.kind == kind) & (batch.target == 0.5)).any() for kind in Kind])
    wins = np.array([(counted & (batch.kind == kind) & (batch.target != 0.5)).any() for kind in Kind])
    for present, target in ((wins, 1.0), (ties, 0.5)):
        if any(found["rewards"].any() for found in _slopes(method, steps, present, target)):
            return
    found = (("preferences", wins), ("ties", ties))
    there = [f"{kind.name.lower()} {what}" for what, some in found for kind in Kind if some[kind]]
    raise CromeError(
        f"method {method.name}: {_name_of(method.objective)} learns nothing from {name}, which holds "
        f"{', '.join(there)}; give other data, or change {method.binding}.objective or its weights"
    )


def _reads_pairs(method: Method, slopes: Sequence[dict[str, np.ndarray]]) -> bool:
    """Tell whether an objective takes the score of a slot for the log-odds of a pair: turned round, it is the same."""
    if reads_whole_batch(method.objective) or not any(found["rewards"].any() for found in slopes):
        return False
    scored, batch = _probe(method)
    turned = scored.replace(rewards=-scored.rewards), batch.replace(target=1.0 - batch.target)
    here, there = (method.objective(*given)[0] for given in ((scored, batch), turned))
    return bool(jnp.isclose(here, there, rtol=1e-5))


def _centres_log_odds(method: Method) -> bool:
    """Tell whether an objective's `centring` is on: where it is off, a pair's loss runs straight far from zero.

    Turned round, the square of log-odds is the same, so that `_reads_pairs` does not see it.
    """
    if "centring" not in inspect.signature(method.objective).parameters:
        return False
    scored, batch = _probe(method)
    slope = jax.jit(jax.grad(lambda rewards: method.objective(scored.replace(rewards=rewards), batch)[0]))
    far, farther = (slope(jnp.full_like(scored.rewards, log_odds)) for log_odds in (1e3, 2e3))
    return bool((far != farther).any())


def _slopes(
    method: Method, steps: int, present: np.ndarray | None = None, target: float | None = None
) -> list[dict[str, np.ndarray]]:
    """Differentiate an objective by what it may read, at comparisons of each kind, early, half way and at the end.

    Args:
        steps: optimizer steps of the run.
        present: which kinds there are; None takes all.
        target: of the comparisons; None makes neutral ones ties, and others not.
    """
    scored, batch = _probe(method, present, target)
    differentiate = jax.jit(jax.grad(lambda scored, step: method.objective(scored.replace(step=step), batch)[0]))
    try:
        slopes = [differentiate(scored, jnp.asarray(step, jnp.int32)) for step in (0, steps // 2, steps)]
    except CromeError as e:
        raise CromeError(f"method {method.name}: {e}") from None
    read = ("rewards", "length_rewards", "features")
    return [{name: np.asarray(getattr(slope, name)) for name in read} for slope in slopes]


def _probe(method: Method, present: np.ndarray | None = None, target: float | None = None) -> tuple[Scored, Batch]:
    """Make up two comparisons of each kind, in a row each, and scores as the method's head gives them; see `_slopes`.

    Both rows have the same lengths: what compares responses of one length among themselves finds two on either side.
    """
    kinds = len(Kind)
    slots = 2 * kinds
    left = np.tile(np.arange(0, slots, 2, dtype=np.int32), (2, 1))
    number = lambda value: np.full((2, kinds), value, np.float32)  # noqa: E731
    usual = np.where(np.arange(kinds) == Kind.NEUTRAL, 0.5, 1.0)
    places = np.tile(np.arange(slots, dtype=np.int32), (2, 1))
    batch = Batch(
        tokens=np.arange(2 * slots, dtype=np.int32).reshape(2, slots),
        positions=np.zeros_like(places),
        group_ids=np.ones_like(places),
        response_ids=places + 1,
        response_ends=places,
        left=left,
        right=np.full_like(left, -1) if method.head == "pairwise" else left + 1,
        target=number(usual if target is None else target),
        weight=number(1.0 if present is None else present),
        margin=number(0.0),
        kind=np.tile(np.arange(kinds, dtype=np.int32), (2, 1)),
    )
    values = np.tile(np.linspace(0.0, 1.0, slots, dtype=np.float32), (2, 1))
    features = np.stack([values, np.array([[-1.0], [-2.0]], np.float32) * values], axis=-1)
    scored = Scored(rewards=values, features=features, lengths=1.0 + 8.0 * values**2)
    if method.head == "odin":
        scored = scored.replace(length_rewards=values[:, ::-1], heads_cosine=np.float32(0.5))
    return jax.tree.map(jnp.asarray, (scored, batch))


def _name_of(objective: Objective) -> str:
    return getattr(getattr(objective, "func", objective), "__name__", "the objective")
