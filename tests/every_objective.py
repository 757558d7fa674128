"""Every objective, by name, with its arguments as tests give them: what all of them are held to reads this list."""

import functools

from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.bsr import bsr
from crome_jax.objectives.crome import crome
from crome_jax.objectives.davidson import davidson
from crome_jax.objectives.mmd import mmd
from crome_jax.objectives.odin import odin
from crome_jax.objectives.plackett_luce import plackett_luce
from crome_jax.objectives.rao_kupper import rao_kupper
from crome_jax.objectives.schedules import linear

OBJECTIVES = {
    "bradley_terry": bradley_terry,
    "bradley_terry smoothed": functools.partial(bradley_terry, label_smoothing=0.1, margin=0.3),
    "crome": crome,
    "crome weighted": functools.partial(crome, causal_weight=0.5, neutral_weight=2.0),
    "crome scheduled": functools.partial(crome, neutral_weight=functools.partial(linear, last=8)),
    "crome centred": functools.partial(crome, centring=0.01),
    "rao_kupper": rao_kupper,
    "davidson": davidson,
    "plackett_luce": plackett_luce,
    "bsr": bsr,
    "odin": odin,
    "mmd": functools.partial(mmd, bins=2),
    "mmd conditional": functools.partial(mmd, conditional=True, bins=2),
    "mmd biased": functools.partial(mmd, estimate="biased"),
}
