"""GGUF files of every family, made as llama.cpp's converter makes them, are the Hugging Face folders they came from."""

import dataclasses

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import CLASSES, FAMILIES, TOKENS, plain_batch, reference, relative, write_tokenizer

from crome_jax.data.vocabularies import read_folder_vocabulary
from crome_jax.models.decoder import rewards
from crome_jax.weights.backbones import load_backbone

CASES = [(family, seed) for family in FAMILIES for seed in (0, 1) if (family, seed) != ("qwen2", 1)]
CASES.remove(("qwen3", 1))  # Windows in Qwen's files are no part of the format.
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5}
LLAMA3 |= {"original_max_position_embeddings": 8192}


def llama3_factors(config) -> np.ndarray:
    """By how much each frequency is slowed, as the converter computes it from config.json."""
    rope, dim = config.rope_parameters, config.head_dim
    factors = []
    for frequency in 1.0 / rope["rope_theta"] ** (np.arange(0, dim, 2) / dim):
        length = 2 * np.pi / frequency
        low, high, trained = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
        if length < trained / high:
            factors.append(1.0)
        elif length > trained / low:
            factors.append(rope["factor"])
        else:
            smooth = (trained / length - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def convert(model, family: str, path) -> None:
    """Write what the converter writes: names by the gguf package's map, Llama's queries and keys permuted, 1 + w."""
    config = model.config
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if family != "qwen2":
        writer.add_key_length(config.head_dim)
    rope = config.rope_parameters
    if family == "gemma3":
        rope = rope["full_attention"]
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_freq_base(rope["rope_theta"])
    if family in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if family == "llama" and rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    ids = read_folder_vocabulary(path.parent).ids()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token.encode() for token in sorted(ids, key=ids.get)])
    writer.add_token_types([1] * 256 + [3] * (TOKENS - 256))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(TOKENS - 1)
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, values in model.state_dict().items():
        if name == "score.weight":
            continue
        values = values.numpy()
        if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, -1, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        if family in ("gemma2", "gemma3") and name.endswith("norm.weight"):
            values = values + 1
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def both(model, family: str, folder):
    """Import a model from its folder and from its GGUF file."""
    model.save_pretrained(folder)
    write_tokenizer(folder)
    convert(model, family, folder / "model.gguf")
    return load_backbone(str(folder)), load_backbone(str(folder / "model.gguf"))


def plain(family: str, seed: int):
    """Return a reference model whose numbers a GGUF file can say: queries are scaled by the width of a head."""
    model, _ = reference(family, seed, TOKENS)
    config = model.config.to_dict()
    if family in ("gemma2", "gemma3"):
        config["query_pre_attn_scalar"] = config["head_dim"]
    own = CLASSES[family][1](type(model.config)(**config))
    own.load_state_dict(model.state_dict())
    return own.eval()


def assert_same(folder, file):
    gemma = file.cfg.family in ("gemma2", "gemma3")
    assert file.cfg == dataclasses.replace(folder.cfg, norm_plus_one=False)
    ours, theirs = file.params, folder.params
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        name = path[-1].key
        if name != "head":
            np.testing.assert_array_equal(a, b + 1 if gemma and name.endswith("norm") else b)
    batch = plain_batch(np.random.default_rng(0).integers(1, TOKENS, (2, 20)))
    score = lambda params, cfg: jax.jit(lambda params: rewards(params, batch, cfg))(jax.tree.map(jnp.asarray, params))  # noqa: E731
    # 1 + w is rounded once more.
    found = score(ours | {"head": theirs["head"]}, file.cfg)
    assert relative(found, score(theirs, folder.cfg)) < (1e-5 if gemma else 1e-7)
    assert file.tokenizer.encode("ab \n☃") == folder.tokenizer.encode("ab \n☃")


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_a_gguf_file_is_the_folder_it_was_made_of(family, seed, tmp_path):
    assert_same(*both(plain(family, seed), family, tmp_path))


def test_rope_of_llama_3_is_recognised_by_its_factors(tmp_path):
    model, _ = reference("llama", 0, TOKENS)
    changes = {"rope_parameters": LLAMA3, "head_dim": 16, "max_position_embeddings": 131_072}
    config = type(model.config)(**{**model.config.to_dict(), **changes})
    folder, file = both(CLASSES["llama"][1](config).eval(), "llama", tmp_path)
    assert (file.cfg.rope_factor, file.cfg.rope_trained) == (8.0, 8192)
    assert_same(folder, file)


@pytest.mark.parametrize(("family", "layers", "scaled"), [("gemma2", 46, 24), ("gemma3", 62, 24), ("gemma2", 42, 12)])
def test_queries_of_the_largest_gemmas_are_scaled_by_width_over_heads(family, layers, scaled, tmp_path):
    config, cls = CLASSES[family]
    model = cls(config(
        vocab_size=TOKENS, pad_token_id=0, num_labels=1, hidden_size=48, num_attention_heads=2, num_key_value_heads=1,
        head_dim=12, intermediate_size=8, num_hidden_layers=layers, sliding_window=4, query_pre_attn_scalar=scaled,
    ))  # fmt: skip
    folder, file = both(model.eval(), family, tmp_path)
    assert file.cfg == dataclasses.replace(folder.cfg, norm_plus_one=False)
