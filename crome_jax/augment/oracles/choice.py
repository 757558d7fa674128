"""Which oracle: chosen by name, opened for a run, closed after it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from crome_jax.augment.oracles.base import Oracle, SubmittingOracle
from crome_jax.augment.oracles.facts import spent_facts
from crome_jax.augment.oracles.offline import OfflineEditor
from crome_jax.augment.recipe import Recipe
from crome_jax.augment.verification import UNSURE
from crome_jax.errors import CromeError
from crome_jax.groups import PreferenceGroup

OFFLINE = "offline"


def _offline(groups: Sequence[PreferenceGroup], chat, run: str | None) -> contextlib.AbstractContextManager[Oracle]:
    return contextlib.nullcontext(OfflineEditor.of(groups))


def _chat(
    groups: Sequence[PreferenceGroup], chat, run: str | None
) -> contextlib.AbstractContextManager[SubmittingOracle]:
    from crome_jax.augment.oracles.chat.oracle import ChatOracle

    return ChatOracle(chat, run=run)


def _replay(
    groups: Sequence[PreferenceGroup], chat, run: str | None
) -> contextlib.AbstractContextManager[SubmittingOracle]:
    from crome_jax.augment.oracles.chat.oracle import ChatOracle
    from crome_jax.augment.oracles.chat.replay import Replay

    return ChatOracle(chat, Replay, run)


@contextlib.contextmanager
def _local(groups: Sequence[PreferenceGroup], chat, run: str | None) -> Iterator[SubmittingOracle]:
    from crome_jax.augment.oracles.chat.local import MODEL, serve
    from crome_jax.augment.oracles.chat.oracle import ChatOracle

    model = chat.model or MODEL
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serve(model, concurrency=chat.concurrency))
        here = dataclasses.replace(chat, model=model, base_url=url, api_key_env=None)
        yield stack.enter_context(ChatOracle(here, run=run))


ORACLES: Mapping[str, Callable[..., contextlib.AbstractContextManager[Oracle | SubmittingOracle]]] = {
    "chat": _chat,
    "local": _local,
    OFFLINE: _offline,
    "replay": _replay,
}
"""Who can be asked to rewrite the answers of a data set: from its groups, ChatSettings and the run's
name to the opened oracle."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What a run of augmentation is configured by.

    Args:
        recipe: how much is made.
        oracle: who makes it, one of ORACLES.
        chat: `ChatSettings` of an oracle that is a model.
        baseline: folder of a reward model trained on the human comparisons; what it is sure of is dropped. None keeps
            everything.
        unsure: threshold of that; see `verification.drop_sure`.
        unsure_kinds: kinds of comparisons that are dropped so; what permutations add is, whatever its kind.

    Raises:
        CromeError: where there is no such oracle, or it lacks its settings.
    """

    recipe: Recipe = Recipe()  # noqa: RUF009 (frozen)
    oracle: str = OFFLINE
    chat: object = None
    baseline: str | None = None
    unsure: float = UNSURE
    unsure_kinds: tuple[str, ...] = ("causal",)

    def __post_init__(self):
        if self.oracle not in ORACLES:
            raise CromeError(f"augmentation.oracle is {self.oracle!r}; give one of {', '.join(ORACLES)}")
        if self.oracle != OFFLINE and self.chat is None:
            raise CromeError(f"the oracle {self.oracle!r} wants ChatSettings; pass --gin_file=gin/augment/base.gin")
        if self.oracle in ("chat", "replay") and not self.chat.model:
            raise CromeError(f"the oracle {self.oracle!r} wants to know which model; pass --gin.MODEL=\"'NAME'\"")

    def open(
        self, groups: Sequence[PreferenceGroup], run: str | None = None
    ) -> contextlib.AbstractContextManager[Oracle | SubmittingOracle]:
        """Open the oracle for a data set; `run` names the run, over all whose processes and lives is counted."""
        return ORACLES[self.oracle](groups, self.chat, run)

    def settings(self) -> dict[str, Any]:
        """Return what decides what is made, as plain JSON types; what the oracle is, its own facts say."""
        kinds = {"unsure": self.unsure, "unsure_kinds": ", ".join(self.unsure_kinds)}
        filtered = {"baseline": self.baseline, **(kinds if self.baseline is not None else {})}
        return {"oracle": self.oracle, **dataclasses.asdict(self.recipe), **filtered}

    def facts(self, run: str) -> dict[str, Any]:
        """Return what an unfinished run has sent and spent; nothing where that is not kept."""
        if self._database is None:
            return {}
        from crome_jax.augment.oracles.chat.budget import spent_by

        return spent_facts(spent_by(self._database, run), self.chat)

    def finish(self, run: str) -> None:
        """Let a run be over: what is asked for an output of that name from now on is counted anew."""
        if self._database is not None:
            from crome_jax.augment.oracles.chat.budget import finish_run

            finish_run(self._database, run)

    @property
    def _database(self):
        """The database in which a run is counted, None where it is not."""
        if self.oracle not in ("chat", "local") or self.chat.cache is None:
            return None
        from crome_jax.augment.oracles.chat.database import Database

        return Database(self.chat.cache)


def augmentation(
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    oracle: str = OFFLINE,
    chat: object = None,
    baseline: str | None = None,
    unsure: float = UNSURE,
    unsure_kinds: tuple[str, ...] = ("causal",),
) -> Augmentation:
    """Return what a run is configured by: the function that gin binds."""
    return Augmentation(recipe, oracle, chat, baseline, unsure, unsure_kinds)
