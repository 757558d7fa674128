"""What a run may spend: tokens and dollars, reserved before a request is sent and settled when its reply is there."""

import asyncio

from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.errors import CromeError


class Budget:
    """Lets a request be sent only if, whatever its reply, the budget holds.

    Tokens of a prompt are estimated until the endpoint says how many they were, so that the budget can be passed by
    what the estimates of the last requests are wrong by. Of an attempt that timed out or broke the prompt is counted,
    as estimated: the endpoint may have worked on it. One that the endpoint turned away is not.

    Attributes:
        prompt_tokens, reply_tokens: spent so far, as the endpoint counts them.
    """

    def __init__(self, settings: ChatSettings):
        self._settings = settings
        self.prompt_tokens = self.reply_tokens = 0
        self._reserved: list[int] = [0, 0]
        self._settled = asyncio.Event()

    @property
    def dollars(self) -> float | None:
        """Dollars spent so far, None where no price is known."""
        return self._settings.cost(self.prompt_tokens, self.reply_tokens)

    async def reserve(self, prompt_tokens: int, reply_tokens: int) -> None:
        """Set aside what a request may cost at most; wait for replies under way where they decide whether it fits.

        Raises:
            CromeError: where it does not fit, which ends the run.
        """
        wanted = (prompt_tokens, reply_tokens)
        while not self._fits(wanted, self._reserved):
            if not self._fits(wanted, (0, 0)) or not any(self._reserved):
                spent = f"{self.prompt_tokens + self.reply_tokens:,} tokens"
                if self.dollars is not None:
                    spent += f", ${self.dollars:.2f}"
                raise CromeError(
                    f"the budget is spent: {spent}; every reply that came is kept, so raise "
                    "ChatSettings.token_budget or money_budget and run the same command again"
                )
            self._settled.clear()
            await self._settled.wait()
        self._reserved = [held + more for held, more in zip(self._reserved, wanted, strict=True)]

    def release(self, prompt_tokens: int, reply_tokens: int) -> None:
        """Give back what was set aside."""
        self._reserved[0] -= prompt_tokens
        self._reserved[1] -= reply_tokens
        self._settled.set()

    def spend(self, prompt_tokens: int, reply_tokens: int) -> None:
        """Count what a reply did cost."""
        self.prompt_tokens += prompt_tokens
        self.reply_tokens += reply_tokens

    def _fits(self, wanted: tuple[int, int], reserved: tuple[int, int] | list[int]) -> bool:
        prompt = self.prompt_tokens + reserved[0] + wanted[0]
        reply = self.reply_tokens + reserved[1] + wanted[1]
        tokens, money = self._settings.token_budget, self._settings.money_budget
        return (tokens is None or prompt + reply <= tokens) and (
            money is None or self._settings.cost(prompt, reply) <= money
        )
