"""Every published size: its parameters counted from the weights' declaration, and its gin file."""

from pathlib import Path

import pytest

from crome_jax.models import weights
from crome_jax.models.presets import PRESETS

FOLDER = Path(__file__).parents[2] / "gin" / "models"


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_counted_from_the_declaration_are_the_published_ones(name):
    # The published counts are what model pages and runtimes report of the files (the total of their safetensors
    # headers, llama.cpp's n_params, Keras Hub's presets), each found in at least one of them; Qwen 3 0.6B's and 1.7B's
    # without the copy of the embedding that their files hold, Gemma 3's larger ones without vision.
    preset = PRESETS[name]
    head, output = preset.cfg.width, preset.cfg.vocab_size * preset.cfg.width
    derived = weights.count(weights.declare(preset.cfg)) - head + (0 if preset.tied else output)
    assert derived == preset.parameters


@pytest.mark.parametrize("name", PRESETS)
def test_a_size_s_gin_file_says_its_parameters(name):
    preset = PRESETS[name]
    first = (FOLDER / f"{name}.gin").read_text().splitlines()[0]
    assert f" {preset.parameters:,} parameters, " in first
    assert f" {preset.cfg.layers} layers of width {preset.cfg.width}" in first


def test_every_gin_file_of_a_model_is_a_size():
    assert {path.stem for path in FOLDER.glob("*.gin")} == PRESETS.keys() | {"tiny"}


def test_layers_repeat_as_published():
    kinds = lambda name: [PRESETS[name].cfg.kind_of(layer) for layer in range(7)]  # noqa: E731
    assert kinds("gemma2_9b")[:4] == ["local", "global", "local", "global"]
    assert kinds("gemma3_1b") == [*["local"] * 5, "global", "local"]
    assert set(kinds("llama3_8b")) == {"global"}
