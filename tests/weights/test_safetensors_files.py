"""Folders that transformers writes, read back exactly or refused by file and tensor."""

import copy
import json
import re
import shutil

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import safetensors.numpy
import transformers
from reference import FAMILIES, TOKENS, from_torch, reference, write_tokenizer

from crome_jax.data.tokenizers import load_tokenizer
from crome_jax.errors import CromeError
from crome_jax.models import weights
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.safetensors_files import WHOLE, TensorFiles

INDEX = "model.safetensors.index.json"
CASES = [(family, seed) for family in FAMILIES for seed in (0, 1)]


def save(model, folder, **options):
    """Write a model as transformers does, with a tokenizer that fits it."""
    model.save_pretrained(folder, **options)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a Llama classifier in one file."""
    return save(reference("llama", 0, TOKENS)[0], tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The same in several files with an index."""
    return save(reference("llama", 0, TOKENS)[0], tmp_path_factory.mktemp("sharded"), max_shard_size="20KB")


@pytest.fixture
def own(whole, tmp_path):
    """A copy of `whole`, to be damaged."""
    return shutil.copytree(whole, tmp_path / "own")


@pytest.fixture
def own_sharded(sharded, tmp_path):
    """A copy of `sharded`, to be damaged."""
    return shutil.copytree(sharded, tmp_path / "own_sharded")


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def with_tensors(folder, **changes):
    """Rewrite a folder's one file; None takes a tensor out."""
    path = folder / "model.safetensors"
    tensors = {**safetensors.numpy.load_file(path), **changes}
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items() if v is not None}, path)


def with_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_what_transformers_wrote_is_read(family, seed, tmp_path):
    model, cfg = reference(family, seed, TOKENS)
    save(model, tmp_path, **({"max_shard_size": "30KB"} if seed else {}))
    assert (tmp_path / INDEX).exists() == (seed == 1)
    base = load_backbone(str(tmp_path))
    assert base.cfg == cfg
    assert_equal(base.params, from_torch(model.state_dict(), cfg))
    assert base.tokenizer.fingerprint == load_tokenizer(tmp_path).fingerprint
    assert base.name == str(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_model_gets_a_head_of_zeros(family, tmp_path):
    classifier, _ = reference(family, 0, TOKENS)
    config = type(classifier.config)(**{**classifier.config.to_dict(), "tie_word_embeddings": False})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.model.load_state_dict(classifier.model.state_dict())
    base = load_backbone(str(save(model, tmp_path)))
    expected = from_torch(classifier.state_dict(), base.cfg)
    assert_equal(base.params, expected | {"head": np.zeros(base.cfg.width, np.float32)})


def test_a_decoder_without_any_head_is_read_too(tmp_path):
    model, cfg = reference("qwen3", 0, TOKENS)
    assert "embed_tokens.weight" in TensorFiles(save(model.model, tmp_path)).tensors
    base = load_backbone(str(tmp_path))
    np.testing.assert_array_equal(base.params["embed"], from_torch(model.state_dict(), cfg)["embed"])
    assert not base.params["head"].any()


def test_of_a_model_of_pictures_the_text_part_is_read(tmp_path):
    text, cfg = reference("gemma3", 0, TOKENS)
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = transformers.Gemma3Config(text_config=text.config.to_dict(), vision_config=vision)
    model = transformers.Gemma3ForConditionalGeneration(config)
    model.model.language_model.load_state_dict(text.model.state_dict())
    base = load_backbone(str(save(model, tmp_path)))
    assert base.cfg == cfg
    expected = from_torch(text.state_dict(), cfg)
    assert_equal(base.params, expected | {"head": np.zeros(cfg.width, np.float32)})


def test_bfloat16_is_read_as_its_values(tmp_path):
    model, cfg = reference("gemma2", 0, TOKENS)
    rounded = type(model)(copy.deepcopy(model.config))  # Saving writes its dtype into its config.
    rounded.load_state_dict(model.state_dict())
    base = load_backbone(str(save(rounded.bfloat16(), tmp_path)))
    assert_equal(base.params, from_torch(rounded.state_dict(), cfg))


@pytest.mark.parametrize("trainable", ["head", 1, 2])
def test_layers_are_cut_where_they_are_to_be_trained(trainable, sharded):
    base, all_of_it = load_backbone(str(sharded), trainable), load_backbone(str(sharded)).params
    stacked = jax.tree.map(lambda a, b: np.concatenate([a, b]), all_of_it["upper"], all_of_it["last"])
    cut = weights.split_layers(stacked, weights.layer_runs(base.cfg, trainable))
    assert_equal(base.params, {name: all_of_it[name] for name in ("embed", "final_norm", "head")} | cut)


def test_the_first_layers_get_a_new_head(whole):
    base = load_backbone(str(whole), layers=2)
    assert base.cfg.layers == 2
    assert base.params["upper"]["q"].shape[0] == 1
    assert not base.params["head"].any()


def test_the_fingerprint_is_that_of_weights_and_numbers(own, sharded):
    there = load_backbone(str(own)).fingerprint
    assert there == load_backbone(str(own)).fingerprint
    assert there != load_backbone(str(sharded)).fingerprint
    with_tensors(own, **{"score.weight": np.ones((1, load_backbone(str(own)).cfg.width), np.float32)})
    changed = load_backbone(str(own)).fingerprint
    assert changed != there
    with_config(own, rms_norm_eps=0.5)
    assert load_backbone(str(own)).fingerprint not in (there, changed)


Q, UP = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"
ONES = np.ones((3, 3), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({Q: None}, rf"own: tensor '{Q}' of shape \(\d+, \d+\) is missing"),
        ({"score.weight": None}, r"own: tensor 'score\.weight' of shape \(1, \d+\) is missing"),
        ({"model.embed_tokens.weight": None}, r"own: tensor 'model\.embed_tokens\.weight' is missing"),
        ({UP: ONES}, rf"model\.safetensors: tensor '{UP}' has shape \(3, 3\), expected \(\d+, \d+\)"),
        ({"score.weight": np.ones((2, 24), np.float32)}, r"tensor 'score\.weight' has shape \(2, 24\), expected \(1, "),
        ({"model.layers.0.self_attn.q_proj.bias": ONES}, r"q_proj\.bias' has no place in a llama decoder"),
        ({"model.layers.9.mlp.up_proj.weight": ONES}, r"'model\.layers\.9\.mlp\.up_proj\.weight' has no place"),
        ({"v_head.weight": ONES}, r"tensor 'v_head\.weight' has no place"),
        ({"model.norm.weight": None, "model.norm.bias": ONES}, r"tensor 'model\.norm\.weight' of shape"),
    ],
)
def test_a_tensor_that_is_wrong_is_named_before_any_is_read(changes, message, own, monkeypatch):
    with_tensors(own, **changes)
    monkeypatch.setattr(TensorFiles, "read", lambda *_: pytest.fail("read"))
    with pytest.raises(CromeError, match=message):
        load_backbone(str(own))


def test_what_is_not_finite_or_of_another_kind_is_named(own):
    width = load_backbone(str(own)).cfg.width
    with_tensors(own, **{"model.norm.weight": np.full(width, np.nan, np.float32)})
    with pytest.raises(CromeError, match=r"tensor 'model\.norm\.weight' holds numbers that are not finite"):
        _ = load_backbone(str(own)).params
    with_tensors(own, **{"model.norm.weight": np.ones(width, np.int8)})
    with pytest.raises(CromeError, match=r"tensor 'model\.norm\.weight' is of kind I8; only F64, F32, F16, BF16"):
        load_backbone(str(own))


def shards(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_one_file_comes_before_an_index_beside_it_as_in_transformers(own_sharded, own):
    (own_sharded / WHOLE).write_bytes((own / WHOLE).read_bytes())
    files = TensorFiles(own_sharded)
    assert {tensor.path.name for tensor in files.tensors.values()} == {WHOLE}
    assert files.paths == [own_sharded / WHOLE]


def test_an_index_that_does_not_fit_its_shards_is_told(own_sharded):
    first, second, *_ = shards(own_sharded)
    index = json.loads((own_sharded / INDEX).read_text())
    (own_sharded / first).unlink()
    held = [name for name, file in index["weight_map"].items() if file == first]
    assert len(held) < 4
    message = f"{INDEX}: names {first!r} for {', '.join(held)}, which is not in the folder; fetch it"
    with pytest.raises(CromeError, match=re.escape(message)):
        load_backbone(str(own_sharded))
    moved = next(name for name, file in index["weight_map"].items() if file not in (first, second))
    index["weight_map"] = {k: second for k, file in index["weight_map"].items() if file != first} | {moved: second}
    (own_sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(CromeError, match=rf"{INDEX}: says that {second} holds tensor '.*', which it does not"):
        load_backbone(str(own_sharded))
    index["weight_map"] = dict.fromkeys((Q, UP, "c", "d", "e"), "../elsewhere.safetensors")
    (own_sharded / INDEX).write_text(json.dumps(index))
    message = f"names '../elsewhere.safetensors' for {Q}, {UP}, c and 2 more, which is not in the folder"
    with pytest.raises(CromeError, match=re.escape(message)):
        load_backbone(str(own_sharded))
    for content in ("{}", '{"weight_map": 3}', "[", '{"weight_map": {"a": 1}}'):
        (own_sharded / INDEX).write_text(content)
        with pytest.raises(CromeError, match=rf"{INDEX}: (has no weight_map|cannot be read)"):
            load_backbone(str(own_sharded))


def test_a_folder_without_its_index_is_told(own_sharded):
    (own_sharded / INDEX).unlink()
    with pytest.raises(CromeError, match=r"holds model-00001-of-.* but neither model\.safetensors nor "):
        load_backbone(str(own_sharded))


def test_a_pickle_is_refused_with_the_way_to_convert_it(own):
    model = own / "model.safetensors"
    for name in ("pytorch_model.bin", "model.pt"):
        pickle = model.rename(own / name)
        with pytest.raises(CromeError, match=rf"{name}: a pickle.* only safetensors and GGUF are; convert it .*save_"):
            load_backbone(str(own))
        with pytest.raises(CromeError, match=rf"{name}: a pickle"):
            load_backbone(str(pickle))
        model = pickle
    model.unlink()
    with pytest.raises(CromeError, match=r"own: holds no model\.safetensors; give"):
        load_backbone(str(own))


def test_a_file_of_weights_is_not_enough(whole):
    with pytest.raises(CromeError, match=r"model\.safetensors: give the folder that holds it"):
        load_backbone(str(whole / "model.safetensors"))


def test_a_tokenizer_that_does_not_match_the_embedding_is_told(tmp_path):
    for rows in (TOKENS - 1, 2 * TOKENS):
        folder = tmp_path / str(rows)
        save(reference("llama", 0, rows)[0], folder)
        message = (
            rf"{rows}: the embedding has {rows} rows, but the tokenizer's ids go up to {TOKENS - 1}: it is another"
        )
        with pytest.raises(CromeError, match=message):
            load_backbone(str(folder))
    save(reference("llama", 0, TOKENS + 5)[0], tmp_path / "padded")
    assert load_backbone(str(tmp_path / "padded")).params["embed"].shape[0] == TOKENS + 5


def test_a_folder_without_a_tokenizer_is_told(own):
    (own / "tokenizer.json").unlink()
    with pytest.raises(CromeError, match=r"own: holds neither tokenizer\.json nor tokenizer\.model"):
        load_backbone(str(own))


@pytest.fixture(scope="module")
def damaged(whole, tmp_path_factory):
    """A folder to write damaged files into, and the whole file."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "folder")
    return folder, (whole / "model.safetensors").read_bytes()


@hypothesis.given(st.data())
def test_a_file_cut_short_is_refused(damaged, data):
    folder, content = damaged
    (folder / "model.safetensors").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CromeError, match=r"model\.safetensors: not a whole safetensors file"):
        TensorFiles(folder)


def test_a_shard_cut_short_says_in_which_tensor_and_where(own_sharded):
    first, *_ = shards(own_sharded)
    content = (own_sharded / first).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    parts = {name: part["data_offsets"] for name, part in json.loads(content[8:start]).items() if "_meta" not in name}
    for name, (begin, end) in parts.items():
        (own_sharded / first).write_bytes(content[: start + end - 3])
        message = (
            f"{first}: not a whole safetensors file (tensor {name!r} has {end - begin - 3:,} of {end - begin:,} bytes; "
            f"expected of the file {len(content):,}; found {start + end - 3:,} bytes); fetch it again"
        )
        with pytest.raises(CromeError, match=re.escape(message)):
            load_backbone(str(own_sharded))
    # Where the header ends too soon there is no tensor to name; where the file goes on too long none is cut.
    for damaged in (content[:20], content + b"more"):
        (own_sharded / first).write_bytes(damaged)
        with pytest.raises(CromeError, match=rf"{first}: not a whole safetensors file \(Error .*header"):
            load_backbone(str(own_sharded))


@hypothesis.given(st.data())
def test_a_damaged_file_is_refused_or_still_whole(damaged, data):
    folder, content = damaged
    head = 8 + int.from_bytes(content[:8], "little")
    content = bytearray(content)
    for at in data.draw(st.lists(st.integers(0, head - 1), min_size=1, max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content)
    try:
        base = load_backbone(str(folder))
    except CromeError as e:
        hypothesis.event("refused")
        message = str(e)
    else:
        message = str(folder)
        assert base.params["embed"].shape == (base.cfg.vocab_size, base.cfg.width)
    assert message.startswith(str(folder))
