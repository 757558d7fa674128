"""Recorded replies in place of an endpoint: a run made again without a network, a key, or a cent."""

from crome_jax.augment.oracles.base import Declined
from crome_jax.augment.oracles.chat.budget import Budget
from crome_jax.augment.oracles.chat.cache import Cache, Completion, request_key, request_text
from crome_jax.augment.oracles.chat.prompts import Rendered
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.chat.traffic import Traffic
from crome_jax.errors import CromeError


class Replay:
    """Answers from a cache that an earlier run filled, with the same settings.

    What is not there is Declined, so that it can be counted; `check` raises where the settings do not allow for it.

    Args:
        settings: `cache` is the record; model, sampling parameters and prompts must be those of the recorded run, as a
            reply is found by them.
        prompts: version of the prompts.
        run: not looked at: nothing is spent.

    Raises:
        CromeError: where there is no record.
    """

    def __init__(self, settings: ChatSettings, prompts: str, run: str | None = None):
        if settings.cache is None:
            raise CromeError("ChatSettings.cache is None, and a replay reads what is there; name the folder")
        self._settings, self._prompts = settings, prompts
        self._cache = Cache(settings.cache)
        if not self._cache.folder.is_dir():
            raise CromeError(
                f"{settings.cache}: no such folder; name the cache of a recorded run in ChatSettings.cache"
            )
        self.budget, self.traffic = Budget(settings), Traffic()

    async def complete(self, rendered: Rendered, sample: int = 0) -> Completion | Declined:
        """Return the recorded reply."""
        body = self._settings.body(rendered, sample)
        found = self._cache.get(request_key(request_text(body, self._prompts, sample)))
        if found is None:
            self.traffic.count(failed="no recorded reply")
            return Declined("no recorded reply")
        self.traffic.count(cached=1, kept=1)
        return found.completion

    def check(self) -> None:
        """Raise CromeError where more replies are missing than may be, or no reply was there at all."""
        missing, found = self.traffic.failed.total(), self.traffic.cached
        if not missing or (found and missing <= self._settings.unanswered):
            return
        how = f"{self._settings.model}, temperature {self._settings.temperature}, prompts {self._prompts}"
        said = f"{self._settings.cache}: {missing} of {missing + found} replies are not recorded there ({how})"
        fix = "give the model, sampling and prompts of the run that was recorded"
        if found:
            fix += f", or, where that run got no more either, allow for it by ChatSettings.unanswered={missing}"
        raise CromeError(f"{said}; {fix}")

    async def close(self) -> None:
        """Do nothing: nothing is open."""
