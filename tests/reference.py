"""Small random reward models of every family in transformers, and our numbers and weights for them."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
import torch
import transformers

from crome_jax.batch import Batch
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.data.vocabularies import Vocabulary
from crome_jax.groups import PreferenceGroup
from crome_jax.models import weights
from crome_jax.models.config import DecoderConfig

VOCAB = 101
PAD = 0
FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForSequenceClassification),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForSequenceClassification),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForSequenceClassification),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForSequenceClassification),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3TextForSequenceClassification),
}
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_ROPE |= {"original_max_position_embeddings": 16}


def draw_numbers(family: str, seed: int) -> dict:
    """Draw arguments of a family's transformers config; an odd seed has what the family rarely uses.

    Heads are odd in number, a head's width is apart from width / heads where the family lets it, windows are shorter
    than the tests' sequences. An odd seed stretches rope (Llama, Gemma 3) or has a window (Qwen).
    """
    rng = np.random.default_rng(seed)
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    kv_heads, rare = pick(1, 3), seed % 2 == 1
    heads = kv_heads * (1 if rare and kv_heads == 3 else 3)
    numbers = {
        "vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 1,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "hidden_size": heads * pick(8, 12),
        "num_hidden_layers": 3, "intermediate_size": pick(40, 56), "rms_norm_eps": pick(1e-5, 1e-6),
        "attn_implementation": "eager",  # The one of transformers' that knows soft caps.
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": pick(1e4, 1e5)}
    if family != "qwen2":
        numbers["head_dim"] = pick(8, 16)
    if family == "llama" and rare:
        rope |= LLAMA3_ROPE
    if family in ("qwen2", "qwen3") and rare:
        numbers |= {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    if family in ("gemma2", "gemma3"):
        numbers |= {"sliding_window": pick(5, 7), "query_pre_attn_scalar": pick(12, 24)}
        numbers["num_hidden_layers"] = 5 if family == "gemma2" else 7
    if family == "gemma2":
        numbers["attn_logit_softcapping"] = pick(0.5, 2.0)  # So low that it shows on logits this small.
    if family == "gemma3":
        stretched = {"rope_type": "linear", "factor": 8.0} if rare else {"rope_type": "default"}
        rope = {
            "full_attention": {"rope_theta": 1e5, **stretched},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        }
    return numbers | {"rope_parameters": rope}


def our_config(family: str, numbers: dict) -> DecoderConfig:
    """Say in our terms what `draw_numbers` says in transformers'."""
    width, heads, rope = numbers["hidden_size"], numbers["num_attention_heads"], numbers["rope_parameters"]
    gemma = family in ("gemma2", "gemma3")
    glob, local = (rope["full_attention"], rope["sliding_attention"]) if family == "gemma3" else (rope, rope)
    pattern = {"gemma2": ("local", "global"), "gemma3": ("local",) * 5 + ("global",)}.get(family, ("global",))
    if "max_window_layers" in numbers:
        pattern = ("global", "local", "local")
    llama3 = {"rope_trained": 16, "rope_low_turns": 1.0, "rope_high_turns": 4.0}
    return DecoderConfig(
        family=family,
        vocab_size=numbers["vocab_size"],
        width=width,
        layers=numbers["num_hidden_layers"],
        heads=heads,
        kv_heads=numbers["num_key_value_heads"],
        head_width=numbers.get("head_dim", width // heads),
        ffn_width=numbers["intermediate_size"],
        rope_base=glob["rope_theta"],
        local_rope_base=local["rope_theta"] if "local" in pattern else 1e4,
        rope_factor=glob.get("factor", 1.0),
        **(llama3 if glob["rope_type"] == "llama3" else {}),
        pattern=pattern,
        window=numbers.get("sliding_window"),
        norm_eps=numbers["rms_norm_eps"],
        norm_plus_one=gemma,
        post_norms=gemma,
        qkv_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "gemma3"),
        attention_cap=numbers.get("attn_logit_softcapping"),
        activation="gelu_tanh" if gemma else "silu",
        query_scale=numbers["query_pre_attn_scalar"] ** -0.5 if gemma else None,
        embedding_scale=width**0.5 if gemma else 1.0,
    )


@functools.cache
def reference(family: str, seed: int = 0, vocab: int = VOCAB):
    """Return a random transformers reward model in float32, and our numbers for it."""
    torch.manual_seed(seed)
    numbers = draw_numbers(family, seed) | {"vocab_size": vocab}
    config, model = CLASSES[family]
    theirs = model(config(**numbers))
    for p in theirs.parameters():
        # Norm weights start at one (or zero), biases at zero: a mistake in them would not show.
        torch.nn.init.normal_(p, std=0.2) if p.ndim == 1 else None
    # Larger than they start: attention that is nearly uniform hides mistakes, too.
    for name, p in theirs.named_parameters():
        torch.nn.init.normal_(p, std=0.3) if name.endswith(("q_proj.weight", "k_proj.weight", "score.weight")) else None
    return theirs.eval(), our_config(family, numbers)


def from_torch(state: dict[str, torch.Tensor], cfg: DecoderConfig) -> weights.Params:
    """Lay a transformers reward model's weights (or their gradients) out as ours."""
    state = {k: v.detach().float().numpy() for k, v in state.items()}
    names = {
        "attention_norm": "input_layernorm",
        "ffn_norm": "pre_feedforward_layernorm" if cfg.post_norms else "post_attention_layernorm",
        "attention_post_norm": "post_attention_layernorm",
        "ffn_post_norm": "post_feedforward_layernorm",
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
    }

    def layer(i, name):
        get = lambda n: state[f"model.layers.{i}.{n}"]  # noqa: E731
        if name in ("q", "k", "v"):
            return get(f"self_attn.{name}_proj.weight").reshape(-1, cfg.head_width, cfg.width).transpose(2, 0, 1)
        if name.endswith("_bias"):
            return get(f"self_attn.{name[0]}_proj.bias").reshape(-1, cfg.head_width)
        if name == "o":
            return get("self_attn.o_proj.weight").T.reshape(cfg.heads, cfg.head_width, cfg.width)
        return get(f"{names[name]}.weight") if name in names else get(f"mlp.{name}_proj.weight").T

    stacked = {name: np.stack([layer(i, name) for i in range(cfg.layers)]) for name in weights.declare_layers(cfg, 1)}
    params = {
        "embed": state["model.embed_tokens.weight"],
        **weights.split_layers(stacked, weights.layer_runs(cfg, "all")),
        "final_norm": state["model.norm.weight"],
        "head": state["score.weight"][0],
    }
    return jax.tree.map(jnp.asarray, params)


def padded(sequences: Sequence[Sequence[int]], side: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay sequences out as rows of `length` tokens, padded on a side; returns tokens and the mask of what is real."""
    tokens = np.full((len(sequences), length), PAD, np.int32)
    for row, ids in zip(tokens, sequences, strict=True):
        row[slice(length - len(ids), None) if side == "left" else slice(len(ids))] = ids
    return tokens, tokens != PAD


def plain_batch(tokens: np.ndarray, real: np.ndarray | None = None) -> Batch:
    """One response a row, after a one-token prompt, scored at its last token; padding on either side.

    Args:
        tokens: [B, T].
        real: [B, T], which of them are no padding; None for all.
    """
    b, t = tokens.shape
    real = np.ones((b, t), bool) if real is None else real
    first, end = real.argmax(axis=1), t - 1 - real[:, ::-1].argmax(axis=1)
    positions = np.where(real, np.arange(t) - first[:, None], 0)
    zeros, numbers = np.zeros((b, 1), np.int32), np.zeros((b, 1), np.float32)
    batch = Batch(
        tokens=tokens.astype(np.int32),
        positions=positions.astype(np.int32),
        group_ids=real.astype(np.int32),
        response_ids=(positions > 0).astype(np.int32),
        response_ends=end[:, None].astype(np.int32),
        left=zeros, right=zeros, kind=zeros, target=numbers, weight=numbers, margin=numbers,
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, batch)


def relative(ours, theirs) -> float:
    """Return how far off ours is, as a part of theirs."""
    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs)) / np.linalg.norm(np.asarray(theirs)))


CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENS = 256 + len(CONTROL)


def rendered(reader, groups: Sequence[PreferenceGroup]) -> list[str]:
    """Render every response of groups under its prompt by transformers' own chat template."""
    return [
        reader.apply_chat_template(
            [*({"role": m.role, "content": m.content} for m in group.prompt),
             {"role": "assistant", "content": response.text}],
            tokenize=False,
        )
        for group in groups
        for response in group.responses
    ]  # fmt: skip


def write_tokenizer(folder: Path | str) -> None:
    """Write the smallest tokenizer there is: one token a byte, and ChatML's."""
    vocab = {byte: i for i, byte in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    definition = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    definition.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    definition.decoder = tokenizers.decoders.ByteLevel()
    definition.add_special_tokens(list(CONTROL))
    vocabulary = Vocabulary(json.loads(definition.to_str()), eos=CONTROL[2], pad=CONTROL[0])
    Tokenizer(vocabulary).save(folder)
