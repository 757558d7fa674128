"""How layers are computed, never what: the result is the same, to rounding."""

import dataclasses
from collections.abc import Callable
from typing import Literal, get_args

import jax

from crome_jax.models.attention import LONGEST_DENSE, Implementation

Remat = Literal["none", "projections", "attention", "full"]
"""What of a repeating block of layers is kept for the gradient; the rest is computed again.

none: everything; most memory, nothing twice.
projections: what weights multiply into, and what an attention kernel gives: element-wise work is done twice.
attention: the block's input and what an attention kernel gives: the kernel is not run twice, the projections are.
full: the block's input; least memory, a third more FLOP.
"""

SAVED = "attention"
"""What a remat policy calls a kernel's output and log-sum-exp: with these two kept, it runs once per step."""

REMATS = get_args(Remat)


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the decoder is run.

    Args:
        attention: one of `attention.Implementation`.
        remat: what is kept for the gradient.
        unroll: repeating blocks of trained layers that one turn of the scan holds; None: 8 on a CPU, where the loop's
            copies cost a third of a training step, else 1. Of long rows, and where remat saves memory, one whatever is
            said (see `turns_of`).
        spread: wraps a function of (q, k, v [B, T, heads, E], ids [B, T]...) so that each device runs it on its own
            rows and heads, which a kernel needs on several devices; None where there is no mesh.
    """

    attention: Implementation = "xla"
    remat: Remat = "none"
    unroll: int | None = None
    spread: Callable[[Callable], Callable] | None = None

    @property
    def turns(self) -> int:
        """Return how many blocks a turn of the scan holds."""
        return (8 if jax.default_backend() == "cpu" else 1) if self.unroll is None else self.unroll

    def turns_of(self, tokens: int) -> int:
        """Return the same for rows of so many tokens.

        Several blocks in a turn take the memory of all of them: XLA's CPU backend computes first what it could compute
        again where it is needed. Of long rows the copies that they save are nothing beside the work.
        """
        return 1 if tokens > LONGEST_DENSE or self.remat != "none" else self.turns

    def remember(self, block: Callable) -> Callable:
        """Wrap a block of layers so that its gradient keeps what `remat` says."""
        if self.remat == "none":
            return block
        policies = jax.checkpoint_policies
        kernels = policies.save_only_these_names(SAVED)
        policy = {
            "projections": policies.save_from_both_policies(policies.dots_with_no_batch_dims_saveable, kernels),
            "attention": kernels,
            "full": policies.nothing_saveable,
        }[self.remat]
        # Within one turn of a scan the compiler cannot tell that it computes a thing twice; in several it could.
        return jax.checkpoint(block, policy=policy, prevent_cse=self.turns > 1)
