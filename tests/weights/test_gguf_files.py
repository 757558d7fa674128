"""GGUF files written as llama.cpp's converter lays them out, read back exactly or refused by name."""

import dataclasses

import gguf
import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig, tiny
from crome_jax.models.weights import Params, Trainable, declare, init_params, layer_runs, split_layers
from crome_jax.weights import backbones
from crome_jax.weights.backbones import context_length, load_backbone
from crome_jax.weights.gguf_files import GGUFTensors, read_config
from crome_jax.weights.gguf_header import open_gguf
from crome_jax.weights.sources import FileSource, read_whole

LLAMA = tiny(vocab_size=48, width=32, layers=3, heads=4, kv_heads=2, head_width=16, rope_base=1e5, norm_eps=1e-5)
GEMMA3 = DecoderConfig(
    family="gemma3", vocab_size=48, width=32, layers=7, heads=2, kv_heads=1, head_width=24, ffn_width=40, rope_base=1e6,
    pattern=("local",) * 5 + ("global",), window=6, post_norms=True, qk_norm=True, activation="gelu_tanh",
    embedding_scale=32**0.5,
)  # fmt: skip
CONFIGS = {"llama": LLAMA, "gemma3": GEMMA3}
NAMES = {
    "attention_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
    "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
    "attention_post_norm": "post_attention_norm", "ffn_post_norm": "post_ffw_norm",
}  # fmt: skip


def some_params(cfg: DecoderConfig) -> Params:
    """Draw weights of which no two are equal, norms included."""
    leaves, treedef = jax.tree.flatten(jax.eval_shape(lambda: init_params(cfg, jax.random.key(0))))
    rng = np.random.default_rng(0)
    params = treedef.unflatten([rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])
    return {**params, "head": np.zeros(cfg.width, np.float32)}


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Interleave the halves of each head's rows, as the converter of Llama models does."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def tensors_of(cfg: DecoderConfig, params: Params) -> dict[str, np.ndarray]:
    """Lay weights out as tensors of [out, in], by their names in GGUF."""
    tensors = {"token_embd.weight": params["embed"], "output_norm.weight": params["final_norm"]}
    stacked = jax.tree.map(lambda a, b: np.concatenate([a, b]), params["upper"], params["last"])
    for name, weights in stacked.items():
        for layer, w in enumerate(weights):
            if name in ("q", "k", "v"):
                heads = w.shape[1]
                w = w.reshape(cfg.width, -1).T
                w = permute(w, heads) if cfg.family == "llama" and name != "v" else w
            elif w.ndim > 1:
                w = w.reshape(-1, w.shape[-1]).T
            tensors[f"blk.{layer}.{NAMES[name]}.weight"] = np.ascontiguousarray(w)
    return tensors


def metadata_of(cfg: DecoderConfig) -> dict[str, int | float | str]:
    numbers = {
        "embedding_length": cfg.width,
        "block_count": cfg.layers,
        "attention.head_count": cfg.heads,
        "attention.head_count_kv": cfg.kv_heads,
        "attention.key_length": cfg.head_width,
        "feed_forward_length": cfg.ffn_width,
        "attention.layer_norm_rms_epsilon": cfg.norm_eps,
        "rope.freq_base": cfg.rope_base,
    }
    return numbers | ({"attention.sliding_window": cfg.window} if cfg.window else {})


def write(path, architecture: str, metadata: dict, tensors: dict[str, np.ndarray], kinds: dict | None = None):
    """Write a GGUF file; `kinds` quantises the tensors it names."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in metadata.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{architecture}.{name}", value)
    for name, values in tensors.items():
        kind = (kinds or {}).get(name)
        writer.add_tensor(name, values if kind is None else gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_model(path, cfg: DecoderConfig, *, metadata=(), tensors=(), without=(), architecture=None, kinds=None):
    """Write a model's file with some of its parts changed or left out."""
    everything = {**metadata_of(cfg), **dict(metadata)}, {**tensors_of(cfg, some_params(cfg)), **dict(tensors)}
    metadata, tensors = ({k: v for k, v in part.items() if k not in without} for part in everything)
    return write(path, architecture or cfg.family, metadata, tensors, kinds)


def read(path, trainable: Trainable = "all", layers: int | None = None) -> tuple[DecoderConfig, Params]:
    """Read a file's numbers and weights, under a new head."""
    file = open_gguf(path)
    cfg = read_config(file)
    cfg = cfg if layers is None else dataclasses.replace(cfg, layers=layers)
    declared = declare(cfg, trainable)
    declared.pop("head")
    params = read_whole(declared, layer_runs(cfg, trainable), FileSource(GGUFTensors(file, cfg)))
    return cfg, params | {"head": np.zeros(cfg.width, np.float32)}


def assert_equal(ours: Params, theirs: Params):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", CONFIGS)
def test_what_was_written_is_read(tmp_path, family):
    cfg, params = read(write_model(tmp_path / "model.gguf", CONFIGS[family]))
    assert cfg == CONFIGS[family]
    assert_equal(params, some_params(cfg))


@pytest.mark.parametrize("trainable", ["head", 1, 2, 7])
def test_layers_are_cut_where_they_are_to_be_trained(tmp_path, trainable):
    _, params = read(write_model(tmp_path / "model.gguf", GEMMA3), trainable)
    whole = some_params(GEMMA3)
    stacked = jax.tree.map(lambda a, b: np.concatenate([a, b]), whole["upper"], whole["last"])
    cut = split_layers(stacked, layer_runs(GEMMA3, trainable))
    assert_equal(params, {name: whole[name] for name in ("embed", "final_norm", "head")} | cut)


def test_the_first_layers_of_a_file_can_be_read_alone(tmp_path):
    _, params = read(write_model(tmp_path / "model.gguf", LLAMA), layers=1)
    whole = some_params(LLAMA)
    first = jax.tree.map(lambda w: w[:1], whole["upper"])
    assert_equal(params, {name: whole[name] for name in ("embed", "final_norm", "head")} | {"last": first})


def test_quantised_tensors_are_read_as_their_values(tmp_path):
    kinds = {"token_embd.weight": gguf.GGMLQuantizationType.Q8_0, "blk.1.ffn_up.weight": gguf.GGMLQuantizationType.F16}
    _, params = read(write_model(tmp_path / "model.gguf", LLAMA, kinds=kinds))
    whole = some_params(LLAMA)
    up = whole["upper"]["up"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(params["upper"]["up"][1], up[1])
    np.testing.assert_array_equal(params["upper"]["up"][0], whole["upper"]["up"][0])
    # Q8_0 stores a number as at most 127 steps, off by up to half a one, and the step in float16, off by up to 2^-11.
    step = np.abs(whole["embed"]).max(axis=1, keepdims=True) / 127
    assert (np.abs(params["embed"] - whole["embed"]) <= (0.5 + 127 * 2**-11) * step).all()
    assert np.any(params["embed"] != whole["embed"])


def test_what_a_file_need_not_say_has_the_family_s_default(tmp_path):
    unsaid = ("rope.freq_base", "attention.key_length")
    cfg = dataclasses.replace(LLAMA, head_width=8)
    assert read(write_model(tmp_path / "a.gguf", cfg, without=unsaid))[0] == dataclasses.replace(cfg, rope_base=1e4)
    assert read(write_model(tmp_path / "b.gguf", GEMMA3, without=unsaid[:1]))[0].rope_base == 1e6


def test_how_long_a_text_may_be_is_read_where_the_file_says_it(tmp_path):
    said = write_model(tmp_path / "a.gguf", LLAMA, metadata={"context_length": 2048})
    assert context_length(str(said)) == 2048
    assert context_length(str(write_model(tmp_path / "b.gguf", LLAMA))) == 8192


def test_the_language_model_s_output_matrix_is_not_needed(tmp_path):
    output = {"output.weight": np.ones((48, 32), np.float32)}
    _, params = read(write_model(tmp_path / "model.gguf", LLAMA, tensors=output))
    assert_equal(params, some_params(LLAMA))


ONES = np.ones((32, 32), np.float32)
HALVES = np.geomspace(1, 32, 8).astype(np.float32)
NAN = np.where(np.arange(32) == 5, np.nan, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["blk.1.attn_k.weight"]}, r"tensor 'blk\.1\.attn_k\.weight' of shape \(32, 32\) is missing"),
        ({"without": ["token_embd.weight"]}, r"tensor 'token_embd\.weight' is missing"),
        ({"without": ["output_norm.weight"]}, r"tensor 'output_norm\.weight' of shape \(32,\) is missing"),
        (
            {"tensors": {"blk.2.ffn_down.weight": ONES}},
            r"tensor 'blk\.2\.ffn_down\.weight' has shape \(32, 32\), expected \(32, 64\)",
        ),
        (
            {"tensors": {"blk.0.attn_norm.weight": NAN}},
            r"'blk\.0\.attn_norm\.weight' holds numbers that are not finite",
        ),
        ({"tensors": {"blk.0.attn_q.bias": NAN}}, r"tensor 'blk\.0\.attn_q\.bias' has no place in a llama decoder"),
        ({"tensors": {"rope_freqs.weight": ONES[0]}}, r"'rope_freqs\.weight' has shape \(32,\), expected \(8,\)"),
        ({"tensors": {"rope_freqs.weight": HALVES}}, r"'rope_freqs\.weight' does not hold Llama 3's factors"),
        # One layer of them more than it says.
        ({"metadata": {"block_count": 2}}, r"tensor 'blk\.2\.[a-z_]+\.weight' has no place in a llama decoder"),
        ({"architecture": "mamba"}, r"architecture 'mamba'; supported are llama, qwen2, qwen3, gemma2, gemma3"),
        ({"without": ["block_count"]}, r"metadata 'llama\.block_count' is missing"),
        ({"metadata": {"rope.scaling.type": "yarn"}}, r"scaling\.type is 'yarn'; supported are 'none' and 'linear'"),
        ({"metadata": {"rope.scaling.type": "linear"}}, r"metadata 'llama\.rope\.scaling\.factor' is missing"),
        ({"metadata": {"rope.dimension_count": 8}}, r"rope\.dimension_count is 8; supported is 16"),
        ({"metadata": {"attention.head_count_kv": 3}}, r"describe no decoder \(4 query heads cannot share 3"),
        ({"metadata": {"rope.freq_base": -1.0}}, r"describe no decoder \(rope_base is -1\.0, not a number above 0"),
        ({"metadata": {"attention.head_count": 0}}, r"describe no decoder"),
        ({"metadata": {"block_count": 0}}, r"describe no decoder \(layers is 0\)"),
        ({"metadata": {"block_count": 3.0}}, r"describe no decoder \(layers is 3\.0\)"),
        ({"metadata": {"embedding_length": "wide"}}, r"describe no decoder"),
        ({"metadata": {"feed_forward_length": "deep"}}, r"describe no decoder \(ffn_width is 'deep'\)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    path = write_model(tmp_path / "model.gguf", LLAMA, **changes)
    with pytest.raises(CromeError, match=rf"model\.gguf: .*{message}"):
        read(path)


def test_what_a_file_lacks_shows_before_its_vocabulary_is_read(tmp_path):
    path = write_model(tmp_path / "model.gguf", LLAMA, without=["blk.1.attn_k.weight"])  # Nor has it a vocabulary.
    with pytest.raises(CromeError, match=r"'blk\.1\.attn_k\.weight' of shape \(32, 32\) is missing"):
        load_backbone(str(path))
    with pytest.raises(CromeError, match=r"architecture 'mamba'; supported are"):
        load_backbone(str(write_model(tmp_path / "other.gguf", LLAMA, architecture="mamba")))


def test_a_tensor_past_the_end_says_where_it_ends(tmp_path):
    path = write_model(tmp_path / "model.gguf", LLAMA)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CromeError, match=r"tensor '.*' ends at byte [\d,]+, past the [\d,]+ of the file"):
        open_gguf(path)


def test_a_kind_of_quantisation_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = write_model(tmp_path / "model.gguf", LLAMA)

    def refuse(data, kind):
        raise NotImplementedError

    monkeypatch.setattr(gguf.quants, "dequantize", refuse)
    with pytest.raises(CromeError, match=r"tensor 'token_embd\.weight' is of kind F32, which cannot be read"):
        read(path)


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(CromeError, match="no such file"):
        open_gguf(tmp_path / "absent.gguf")
    with pytest.raises(CromeError, match="cannot be read"):
        open_gguf(tmp_path)
    for content in (b"", b"GGUF", b"GGUF" + bytes(60), b"{}" * 100):
        (tmp_path / "other.gguf").write_bytes(content)
        with pytest.raises(CromeError, match=r"other\.gguf: not a whole GGUF file"):
            open_gguf(tmp_path / "other.gguf")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the folder of a small file, and its bytes."""
    folder = tmp_path_factory.mktemp("small")
    cfg = tiny(vocab_size=32, width=32, layers=1, heads=1, kv_heads=1, head_width=8, ffn_width=8)
    params = some_params(dataclasses.replace(cfg, layers=2))
    params = {**params, "upper": jax.tree.map(lambda w: w[:0], params["upper"])}
    return folder, write(folder / "whole.gguf", "llama", metadata_of(cfg), tensors_of(cfg, params)).read_bytes()


@hypothesis.given(st.data())
def test_a_file_cut_short_is_refused(small, data):
    folder, whole = small
    path = folder / "cut.gguf"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CromeError, match=r"cut\.gguf: not a whole GGUF file"):
        open_gguf(path)


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.data())
def test_a_damaged_file_is_refused_or_still_has_its_shapes(small, data):
    folder, whole = small
    head = whole.index(b"blk.0.ffn_down.weight") + 64  # what comes after describes nothing
    content = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, head), min_size=1, max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    path = folder / "damaged.gguf"
    path.write_bytes(content)
    try:
        cfg, params = read(path)
    except CromeError as e:
        hypothesis.event("refused")
        message = str(e)
    else:
        message = ""
        assert params["embed"].shape == (cfg.vocab_size, cfg.width)
    assert message == "" or message.startswith(str(path))


def test_a_file_whose_tokenizer_does_not_match_its_embedding_is_told_before_it_is_read_whole(monkeypatch):
    read = backbones.read_config
    monkeypatch.setattr(backbones, "read_config", lambda file: dataclasses.replace(read(file), vocab_size=300))
    monkeypatch.setattr(backbones, "GGUFTensors", lambda file, cfg: None)  # Would tell it of the tensor's shape.
    monkeypatch.setattr(backbones, "sha256_of", lambda path: pytest.fail("all of it was read"))
    with pytest.raises(CromeError, match=r"the embedding has 300 rows, but the tokenizer's ids go up to 49,151"):
        load_backbone("smollm2-135m")
