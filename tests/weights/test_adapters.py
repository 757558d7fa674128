"""An exported adapter folder, to PEFT, is the model that was trained: over a language model, and one of pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import safetensors.numpy
import torch
import transformers
from peft_folders import encoded, load_adapter
from reference import FAMILIES, TOKENS, from_torch, reference, write_tokenizer
from toy import mesh_of, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.data.tokenizers import load_tokenizer
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.models import weights
from crome_jax.models.config import Lora
from crome_jax.weights.adapters import write_adapter
from crome_jax.weights.export import write_folder

SHAPE = RowShape(128, 8, 8)
GROUPS = text_groups(2)
PICTURES = {
    "hidden_size": 16, "num_hidden_layers": 7, "num_attention_heads": 2, "intermediate_size": 20, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def with_pictures(theirs):
    """Return a classifier of pictures and text, as Gemma 3's from 4B on, whose text part is a text model's."""
    config = transformers.Gemma3Config(
        text_config=theirs.config.to_dict(), vision_config=PICTURES, mm_tokens_per_image=1, num_labels=1
    )
    whole = transformers.Gemma3ForSequenceClassification(config)
    whole.model.language_model.load_state_dict(theirs.model.state_dict())
    return whole


def draw_adapters(theirs, plain, trainable):
    """Return weights with adapters drawn beside those of the upper layers, and their numbers."""
    cfg = dataclasses.replace(plain, lora=Lora(rank=3, alpha=5.0))
    stacked = from_torch(theirs.state_dict(), plain)
    layers = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), stacked["upper"], stacked["last"])
    cut = weights.split_layers(layers, weights.layer_runs(cfg, trainable))
    rng = np.random.default_rng(0)
    adapters = jax.tree.map(
        lambda w: jnp.asarray(0.2 * rng.normal(size=w.shape), jnp.float32),
        weights.declare_adapters(cfg, trainable)["adapters"],
        is_leaf=weights.is_weight,
    )
    params = {k: v for k, v in stacked.items() if k not in ("upper", "last")} | cut | {"adapters": adapters}
    params["head"] = jnp.asarray(rng.normal(size=cfg.width), jnp.float32)
    return params, cfg


BASES = [*FAMILIES, "gemma3 of pictures", "gemma3 of pictures, all layers"]


@pytest.mark.parametrize(
    "family",
    [pytest.param(base, marks=() if base in ("llama", "gemma3 of pictures") else pytest.mark.slow) for base in BASES],
)
def test_peft_loads_the_adapters_with_the_same_rewards(family, tmp_path):
    pictures = "pictures" in family
    theirs, plain = reference(family.split()[0], 0, TOKENS)
    (with_pictures(theirs) if pictures else theirs).save_pretrained(tmp_path / "base")
    write_tokenizer(tmp_path / "base")
    tokenizer = load_tokenizer(tmp_path / "base")
    params, cfg = draw_adapters(theirs, plain, "all" if "all" in family else plain.layers - 1)
    model = RewardModel(params, cfg, tokenizer, SHAPE, mesh_of(1, 1, 1))
    expected = np.concatenate(score_groups(model, GROUPS).rewards)
    write_adapter(
        tmp_path / "adapter", params, cfg, tokenizer, base=str(tmp_path / "base"), context=256, card="# A card\n"
    )
    reader, model = load_adapter(tmp_path / "base", tmp_path / "adapter")
    saved = safetensors.numpy.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert set(saved) == set(peft.get_peft_model_state_dict(model))
    assert not [name for name, _ in model.named_parameters() if "lora" in name and "vision" in name]
    inputs = encoded(reader, GROUPS)
    with torch.no_grad():
        found = model(**inputs).logits[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    write_folder(tmp_path / "merged", params, cfg, tokenizer, context=256, card="")
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        np.testing.assert_allclose(whole(**inputs).logits[:, 0].numpy(), expected, rtol=1e-4, atol=1e-4)
