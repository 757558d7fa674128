"""Held-out comparisons that a run is measured on whenever it is saved: what its best checkpoint is the best at."""

from collections.abc import Callable, Iterable

import numpy as np

from crome_jax.data.loading import fingerprint_groups, fitting_groups
from crome_jax.data.quarantine import Places, Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.evaluation.accuracy import pairwise_outcomes
from crome_jax.evaluation.pair_scoring import BOTH, gather_pairs, pack_pairs
from crome_jax.evaluation.scoring import RewardModel, gather_rewards, make_scorer, pack_for_scoring, score_rows
from crome_jax.groups import PreferenceGroup
from crome_jax.models.weights import Params
from crome_jax.training.mesh import Attention
from crome_jax.training.progress import Progress

SIGN = {"accuracy": 1.0, "loss": -1.0}
"""What is measured, and whether more of it is better."""


def make_validation(
    path: str, model: RewardModel, quarantine: Quarantine | None, attention: Attention = "auto"
) -> tuple[Callable[[Params, Callable[[], bool]], dict[str, float] | None], str]:
    """Read and pack what a run is measured on.

    Args:
        path: groups or preference records, as `train` reads them; every process reads them whole.
        model: as it is before training; the trained parameters are given to what is returned.
        quarantine: where records go that cannot be used; None makes the first one an error.
        attention: which implementation; the run's.

    Returns:
        A function of the trained parameters, and of what tells after each batch whether to give up; it then returns
        None. Else it returns `accuracy`, the fraction of the comparisons with a preferred side that it gets right, and
        `loss`, their mean -log sigmoid(difference of rewards) in nats. And the fingerprint of the groups.

    Raises:
        CromeError: where the data cannot be read, or no comparison in it has a preferred side.
    """
    places: Places = {}
    groups = list(read_groups(path, quarantine=quarantine, places=places))
    form = BOTH if model.pairwise else None
    groups = fitting_groups(groups, model.tokenizer, model.shape, quarantine, forms=[form], places=places)
    check_decided(groups, path, fix="give train.validation other data")
    pack, gather = (pack_pairs, gather_pairs) if model.pairwise else (pack_for_scoring, gather_rewards)
    rows = pack(groups, model.tokenizer, model.shape, name=path)
    scorer = make_scorer(model.cfg, model.mesh, model.dtype, attention)

    def measure(trained: Params, give_up: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        progress = _Unless(give_up, rows.batch.tokens.size)
        try:
            values = score_rows(scorer, {**model.params, **trained}, rows, model.mesh, progress=progress)
        except _GivenUp:
            return None
        outcomes = pairwise_outcomes(groups, gather(rows, values, groups)).decided()
        loss = -np.log(np.maximum(outcomes.probability, 1e-12)).mean()
        return {"accuracy": float(outcomes.correct.mean()), "loss": float(loss)}

    return measure, fingerprint_groups(groups)


def check_decided(groups: Iterable[PreferenceGroup], name: str, what: str = "comparison", *, fix: str) -> None:
    """Raise CromeError, calling the data `name` and its comparisons `what`, where none prefers a side."""
    if not any(comparison.target != 0.5 for group in groups for comparison in group.comparisons):
        raise CromeError(f"{name}: holds no {what} with a preferred side; {fix}")


class _GivenUp(Exception):
    pass


class _Unless(Progress):
    """Says nothing of how far it is, and goes on unless it is told not to."""

    def __init__(self, give_up: Callable[[], bool], tokens: int):
        super().__init__("validation", tokens, "token", silent=True)
        self._give_up = give_up

    def advance(self, by: int, facts: str = "") -> None:
        super().advance(by, facts)
        if self._give_up():
            raise _GivenUp


def rank(by: str, measured: dict[str, float]) -> float:
    """Return a number that is the higher the better a checkpoint is by a metric."""
    return SIGN[by] * measured[by]
