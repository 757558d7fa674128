"""The declaration of every weight, from which its initialisation, sharding, import and count derive."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from crome_jax.models.config import DecoderConfig

Trainable = Literal["all", "head"] | int
"""How much trains: everything, the reward head alone, or the head, the final norm and the last k layers."""

Head = Literal["scalar", "odin", "pairwise"]
"""What is read from a hidden state: a reward by one vector, or by one for quality beside one for length (ODIN); or, of
two answers in one response slot, the log-odds that the first is the better (PairPM)."""

Params = dict[str, Any]
"""embed [V, D]; layers stacked on their first axis, in three runs: `lower` (frozen), `upper` and `last` (one layer,
apart because only the scored tokens need its output); final_norm [D]; head [D], and in ODIN length_head [D], or
pair_head [D] in their place: a model that compares must not pass for one that gives rewards; with LoRA
`adapters`: of each run but `lower`, A and B beside its matrices (`q_a`, `q_b`, ...), stacked as they are."""

HEADS = frozenset({"head", "length_head", "pair_head"})
"""The names in Params of everything that reads a hidden state."""

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class Weight:
    """One array: its shape, the logical name of each of its axes, and how it starts."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    init: Initializer

    def __post_init__(self):
        if len(self.shape) != len(self.axes):
            raise ValueError(f"{len(self.shape)} dimensions, {len(self.axes)} axis names")


def is_weight(x: Any) -> bool:
    """Return whether a leaf of a declaration tree was reached."""
    return isinstance(x, Weight)


def layer_runs(cfg: DecoderConfig, trainable: Trainable) -> dict[str, range]:
    """Return which layers each run of Params holds; a run without layers is absent.

    Raises:
        ValueError: where more layers should train than there are.
    """
    if trainable == "all":
        lower = 0
    elif trainable == "head":
        lower = cfg.layers - 1
    elif isinstance(trainable, int) and not isinstance(trainable, bool) and 1 <= trainable <= cfg.layers:
        lower = cfg.layers - trainable
    else:
        raise ValueError(f"trainable is {trainable!r}; give 'all', 'head', or 1 to {cfg.layers} upper layers")
    runs = {"lower": range(lower), "upper": range(lower, cfg.layers - 1), "last": range(cfg.layers - 1, cfg.layers)}
    return {name: run for name, run in runs.items() if run}


def trained_names(trainable: Trainable, adapters: bool = False) -> frozenset[str]:
    """Return the top-level names of Params that train: with adapters, they and the heads."""
    if adapters:
        return frozenset({"adapters", *HEADS})
    if trainable == "all":
        return frozenset({"embed", "upper", "last", "final_norm", *HEADS})
    return HEADS if trainable == "head" else frozenset({"upper", "last", "final_norm", *HEADS})


def declare(cfg: DecoderConfig, trainable: Trainable = "all", head: Head = "scalar") -> dict[str, Any]:
    """Declare every weight of the reward model, in the tree that Params has."""
    return {
        "embed": Weight((cfg.vocab_size, cfg.width), ("vocab", "embed"), _normal(1.0 / math.sqrt(cfg.width))),
        **{name: declare_layers(cfg, len(run)) for name, run in layer_runs(cfg, trainable).items()},
        "final_norm": Weight((cfg.width,), ("norm",), _norm_init(cfg)),
        **declare_adapters(cfg, trainable),
        **declare_head(cfg, head),
    }


def declare_adapters(cfg: DecoderConfig, trainable: Trainable) -> dict[str, Any]:
    """Declare the adapters of the layers that would train without them, by run; none where cfg.lora says none.

    Raises:
        ValueError: where there are no such layers.
    """
    if cfg.lora is None:
        return {}
    if trainable == "head":
        raise ValueError("trainable is 'head', which leaves adapters no layer; give 'all', or how many upper layers")
    runs = {name: len(run) for name, run in layer_runs(cfg, trainable).items() if name != "lower"}
    return {"adapters": {name: _declare_adapters(cfg, n) for name, n in runs.items()}}


def _declare_adapters(cfg: DecoderConfig, n: int) -> dict[str, Weight]:
    layers, rank, tree = declare_layers(cfg, n), cfg.lora.rank, {}
    for name in cfg.lora.targets:
        inputs = 3 if name == "o" else 2  # The layers' axis, and those that are summed over.
        into, out = layers[name].shape[1:inputs], layers[name].shape[inputs:]
        bound = math.prod(into) ** -0.5
        start = lambda key, shape, dtype, bound=bound: jax.random.uniform(key, shape, dtype, -bound, bound)  # noqa: E731
        tree[f"{name}_a"] = Weight((n, *into, rank), (*layers[name].axes[:inputs], "rank"), start)
        tree[f"{name}_b"] = Weight(
            (n, rank, *out), ("layer", "rank", *layers[name].axes[inputs:]), jax.nn.initializers.zeros
        )
    return tree


def declare_head(cfg: DecoderConfig, head: Head) -> dict[str, Weight]:
    """Declare what reads rewards from the last hidden state."""
    # Zero: every reward, or pair, starts equal, so the first loss is log 2 whatever the backbone's scale.
    reading = Weight((cfg.width,), ("norm",), jax.nn.initializers.zeros)
    if head == "pairwise":
        return {"pair_head": reading}
    tree = {"head": reading}
    if head == "odin":
        # Next to nothing, yet no zero: two equal heads would get equal gradients of the preference loss.
        tree["length_head"] = Weight((cfg.width,), ("norm",), _normal(0.01 / math.sqrt(cfg.width)))
    return tree


def declare_layers(cfg: DecoderConfig, n: int) -> dict[str, Weight]:
    """Declare n layers stacked on their first axis."""
    d, h, k, e, f = cfg.width, cfg.heads, cfg.kv_heads, cfg.head_width, cfg.ffn_width
    norm = lambda width: Weight((n, width), ("layer", "norm"), _norm_init(cfg))  # noqa: E731
    tree = {
        "attention_norm": norm(d),
        "q": Weight((n, d, h, e), ("layer", "embed", "heads", "head"), _normal(d**-0.5)),
        "k": Weight((n, d, k, e), ("layer", "embed", "kv_heads", "head"), _normal(d**-0.5)),
        "v": Weight((n, d, k, e), ("layer", "embed", "kv_heads", "head"), _normal(d**-0.5)),
        "o": Weight((n, h, e, d), ("layer", "heads", "head", "embed"), _normal((h * e) ** -0.5)),
        "ffn_norm": norm(d),
        "gate": Weight((n, d, f), ("layer", "embed", "ffn"), _normal(d**-0.5)),
        "up": Weight((n, d, f), ("layer", "embed", "ffn"), _normal(d**-0.5)),
        "down": Weight((n, f, d), ("layer", "ffn", "embed"), _normal(f**-0.5)),
    }
    if cfg.qkv_bias:
        bias = lambda heads, axis: Weight((n, heads, e), ("layer", axis, "head"), jax.nn.initializers.zeros)  # noqa: E731
        tree |= {"q_bias": bias(h, "heads"), "k_bias": bias(k, "kv_heads"), "v_bias": bias(k, "kv_heads")}
    if cfg.qk_norm:
        tree |= {"q_norm": norm(e), "k_norm": norm(e)}
    if cfg.post_norms:
        tree |= {"attention_post_norm": norm(d), "ffn_post_norm": norm(d)}
    return tree


def _normal(std: float) -> Initializer:
    return jax.nn.initializers.truncated_normal(std)


def _norm_init(cfg: DecoderConfig) -> Initializer:
    return jax.nn.initializers.zeros if cfg.norm_plus_one else jax.nn.initializers.ones


def init_params(cfg: DecoderConfig, key: jax.Array, trainable: Trainable = "all", head: Head = "scalar") -> Params:
    """Draw every weight of the reward model from its declared initialiser, in float32."""
    return init_declared(declare(cfg, trainable, head), key)


def init_declared(declared: dict[str, Any], key: jax.Array) -> Params:
    """Draw every weight of a declaration tree from its initialiser, in float32."""
    leaves, treedef = jax.tree.flatten(declared, is_leaf=is_weight)

    def draw(key: jax.Array) -> Params:
        keys = jax.random.split(key, len(leaves))
        return treedef.unflatten(w.init(k, w.shape, jnp.float32) for w, k in zip(leaves, keys, strict=True))

    return jax.jit(draw)(key)  # One program, not one for every shape.


def scoring_head(params: Params) -> Any:
    """Return the weights [D] that score: of a pairwise model pairs, of any other responses."""
    return params["pair_head" if "pair_head" in params else "head"]


def count(declared: dict[str, Any]) -> int:
    """Return the number of parameters of a declaration."""
    return sum(math.prod(w.shape) for w in jax.tree.leaves(declared, is_leaf=is_weight))


def split_layers(stacked: dict[str, Any], runs: dict[str, range]) -> dict[str, dict[str, Any]]:
    """Cut layers stacked as [L, ...] into runs."""
    return {name: {k: v[run.start : run.stop] for k, v in stacked.items()} for name, run in runs.items()}


def partition(params: Params, trainable: Trainable) -> tuple[Params, Params]:
    """Return (trained, frozen): no gradient, optimizer state or master copy is kept for the second."""
    names = trained_names(trainable, "adapters" in params)
    trained = {name: value for name, value in params.items() if name in names}
    return trained, {name: value for name, value in params.items() if name not in names}
