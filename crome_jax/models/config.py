"""One decoder, described by numbers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

LayerKind = Literal["global", "local"]


Base = Literal["float32", "int8", "nf4"]
"""How the matrices under adapters are kept."""

LORA_TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
"""The matrices of a layer that an adapter may be put beside."""


@dataclasses.dataclass(frozen=True)
class Lora:
    """Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685): W x becomes W x + (alpha / rank) B A x.

    A starts as PEFT's does, uniform within 1 / sqrt(inputs), B at zero: the first step sees the model as it was.

    Args:
        rank: r, rows of A and columns of B.
        alpha: times 1 / rank, the scale of what an adapter adds.
        targets: which matrices of each layer get one.
        dropout: probability with which a number that enters A is zeroed in training; the others are scaled up.
        base: how the frozen matrices of all layers are kept: as they are, or in eight or four bits (QLoRA, Dettmers et
            al. 2023, arXiv 2305.14314; see `quantized`).

    Raises:
        ValueError: naming the argument that makes no sense.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: Sequence[str] = LORA_TARGETS
    dropout: float = 0.0
    base: str = "float32"  # One of Base; a Literal would be checked by others before it is named here.

    def __post_init__(self):
        object.__setattr__(self, "targets", tuple(self.targets))  # A list, from JSON, has no hash.
        unknown = [target for target in self.targets if target not in LORA_TARGETS]
        if unknown or len(set(self.targets)) != len(self.targets) or not self.targets:
            raise ValueError(f"targets is {self.targets!r}; give some of {', '.join(LORA_TARGETS)}, each once")
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank!r}; give 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}; give at least 0 and less than 1")
        if self.base not in get_args(Base):
            raise ValueError(f"base is {self.base!r}; give one of {', '.join(get_args(Base))}")

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The numbers that make one decoder of the Llama, Qwen or Gemma families.

    The soft cap that Gemma 2 puts on the logits of its vocabulary is not among them: a reward has no such logits.

    Args:
        family: the name other software knows the architecture by ("llama", "qwen2", "qwen3", "gemma2", "gemma3").
        vocab_size: V, rows of the embedding table.
        width: D, width of the residual stream.
        layers: L.
        heads: H, query heads.
        kv_heads: K, key and value heads; divides H.
        head_width: E; apart from D / H.
        ffn_width: F.
        rope_base: base of the rotary frequencies on global layers.
        local_rope_base: the same on local layers.
        rope_factor: by how much the rotation of global layers is slowed down for longer texts; 1 not at all.
        rope_trained: the tokens for which the rotation was chosen at first, where only slow frequencies are slowed
            down further (Llama 3.1); None where all are (linear).
        rope_low_turns, rope_high_turns: frequencies that turn fewer times than the first in `rope_trained` tokens are
            slowed by the whole factor, those that turn more often than the second not at all.
        pattern: kinds of the repeating block of layers.
        window: how many positions back a local layer sees, itself included; None where every layer is global.
        norm_eps: added to the mean square before the root.
        norm_plus_one: the norm multiplies by (1 + w), not w.
        post_norms: the outputs of attention and feed-forward are normed before they are added.
        qkv_bias: queries, keys and values have a bias.
        qk_norm: queries and keys are normed over E.
        attention_cap: c, where attention logits z become c tanh(z / c); None where they stay.
        activation: of the feed-forward gate.
        query_scale: multiplies queries; None means E ** -0.5.
        embedding_scale: multiplies embeddings.
        lora: the adapters beside the matrices of the layers that would train without them; None for none.
    """

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    rope_base: float
    local_rope_base: float = 10_000.0
    rope_factor: float = 1.0
    rope_trained: int | None = None
    rope_low_turns: float = 1.0
    rope_high_turns: float = 4.0
    pattern: tuple[LayerKind, ...] = ("global",)
    window: int | None = None
    norm_eps: float = 1e-6
    norm_plus_one: bool = False
    post_norms: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    attention_cap: float | None = None
    activation: Literal["silu", "gelu_tanh"] = "silu"
    query_scale: float | None = None
    embedding_scale: float = 1.0
    lora: Lora | None = None

    def __post_init__(self):
        check_numbers(vars(self))
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key/value heads evenly")
        if "local" in self.pattern and self.window is None:
            raise ValueError("a pattern with local layers needs a window")
        if self.rope_low_turns >= self.rope_high_turns:
            raise ValueError(
                f"rope_low_turns = {self.rope_low_turns} is not below {self.rope_high_turns} = rope_high_turns"
            )

    def kind_of(self, layer: int) -> LayerKind:
        """Return whether layer number `layer` (from 0) is local or global."""
        return self.pattern[layer % len(self.pattern)]


def check_numbers(numbers: Mapping[str, Any]) -> None:
    """Check numbers of a decoder that files may have wrong: all are above 0 where they are said, and a window is whole.

    Raises:
        ValueError: naming the one that makes no sense.
    """
    for name in ("rope_base", "local_rope_base", "rope_factor", "norm_eps", "attention_cap", "query_scale", "window"):
        value = numbers.get(name)
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ValueError(f"{name} is {value!r}, not a number above 0")
    if not isinstance(numbers.get("window"), int | None):
        raise ValueError(f"window is {numbers['window']!r}, not a whole number")


def repeating_block(kinds: Sequence[LayerKind]) -> tuple[LayerKind, ...]:
    """Return the shortest block that the layers' kinds repeat, the last time perhaps in part."""
    n = len(kinds)
    period = next(p for p in range(1, n + 1) if all(kinds[i] == kinds[i % p] for i in range(n)))
    return tuple(kinds[:period])


def tiny(**changes) -> DecoderConfig:
    """Return a decoder of a few thousand parameters, for tests and dry runs."""
    numbers = {
        "family": "llama",
        "vocab_size": 512,
        "width": 32,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_width": 8,
        "ffn_width": 64,
        "rope_base": 10_000.0,
    }
    return DecoderConfig(**{**numbers, **changes})
