"""What a model's rows have no room for, found before any model scores anything."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from crome_jax.data.loading import tokenize_groups
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.distinct import distinct_prompts
from crome_jax.evaluation.pair_scoring import BOTH
from crome_jax.evaluation.reward_models import TextForm
from crome_jax.groups import PreferenceGroup

OnBad = Callable[[PreferenceGroup, DataError], None]


def check_texts(
    groups: Mapping[str, Sequence[PreferenceGroup]], forms: Iterable[TextForm], on_bad: Mapping[str, OnBad]
) -> None:
    """Encode every group in the form of every model, and forget it: what scoring would refuse is refused now.

    Models that take text alike are one. Scoring encodes again: kept, the tokens of all models would be in memory at
    once, and 1,000 prompts of 190 tokens, two answers included, take no more than 7 seconds on two busy cores.

    Args:
        groups: of each data set.
        forms: of the models, which may be made one at a time.
        on_bad: of each data set; called with a group (without its comparisons) as `scoring.score_groups` does.

    Raises:
        CromeError: where a model has no room for any group of a data set.
    """
    known = set()
    for form in forms:
        key = form.tokenizer.fingerprint, form.shape.tokens, form.pairwise
        if key in known:
            continue
        known.add(key)
        for name, some in groups.items():
            distinct = distinct_prompts(some)
            refuse = distinct.pass_on(some, on_bad[name])
            pairs = BOTH if form.pairwise else None
            fitting = tokenize_groups(distinct.groups, form.tokenizer, form.shape, pairs=pairs, on_bad=refuse)
            if not sum(1 for _ in fitting):
                problem = f"no prompt leaves room in a row of {form.shape.tokens} tokens"
                raise CromeError(f"{name}: {problem}; raise --row-tokens, or leave it out")
