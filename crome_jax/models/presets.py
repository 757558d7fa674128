"""The published sizes of every family, as numbers."""

import dataclasses
from typing import Any

from crome_jax.models.config import DecoderConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published size.

    Args:
        repository: of its instruct model (of the base model where there is no other) on Hugging Face; a folder that
            holds other numbers, as some base models' norm_eps, is read by its own config.json.
        cfg: the decoder's numbers.
        tied: whether its language model predicts tokens by the embedding; an output matrix of its own is no part of a
            reward model.
        parameters: of the published language model, its output matrix included, vision left out.
    """

    repository: str
    cfg: DecoderConfig
    tied: bool
    parameters: int


_FAMILIES: dict[str, dict[str, Any]] = {
    "smollm2": {"family": "llama", "vocab_size": 49_152, "rope_base": 1e5, "norm_eps": 1e-5},
    "llama3": {"family": "llama", "vocab_size": 128_256, "rope_base": 5e5, "norm_eps": 1e-5, "head_width": 128},
    "qwen2.5": {"family": "qwen2", "rope_base": 1e6, "head_width": 128, "qkv_bias": True},
    "qwen3": {"family": "qwen3", "vocab_size": 151_936, "rope_base": 1e6, "head_width": 128, "qk_norm": True},
    "gemma2": {
        "family": "gemma2", "vocab_size": 256_000, "rope_base": 1e4, "head_width": 256, "pattern": ("local", "global"),
        "window": 4096, "attention_cap": 50.0,
    },
    "gemma3": {
        "family": "gemma3", "vocab_size": 262_208, "rope_base": 1e6, "head_width": 256, "qk_norm": True,
        "pattern": ("local",) * 5 + ("global",), "window": 1024, "rope_factor": 8.0,
    },
}  # fmt: skip
_GEMMA = {"norm_plus_one": True, "post_norms": True, "activation": "gelu_tanh"}
_LLAMA_3_1 = {"rope_factor": 8.0, "rope_trained": 8192}
_LLAMA_3_2 = {"rope_factor": 32.0, "rope_trained": 8192}
_GEMMA_3_SMALL = {"vocab_size": 262_144, "window": 512, "rope_factor": 1.0}
_SMALL_QWEN, _LARGE_QWEN = {"vocab_size": 151_936}, {"vocab_size": 152_064}

# name, repository, family, (layers, width, heads, kv_heads, ffn_width), what else differs, tied, parameters
_SIZES: tuple[tuple[str, str, str, tuple[int, int, int, int, int], dict[str, Any], bool, int], ...] = (
    ("smollm2_135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2", (30, 576, 9, 3, 1536), {"head_width": 64},
     True, 134_515_008),
    ("smollm2_360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "smollm2", (32, 960, 15, 5, 2560), {"head_width": 64},
     True, 361_821_120),
    ("smollm2_1_7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "smollm2", (24, 2048, 32, 32, 8192),
     {"head_width": 64, "rope_base": 130_000.0}, True, 1_711_376_384),
    ("llama3_8b", "meta-llama/Meta-Llama-3-8B-Instruct", "llama3", (32, 4096, 32, 8, 14_336), {},
     False, 8_030_261_248),
    ("llama3_70b", "meta-llama/Meta-Llama-3-70B-Instruct", "llama3", (80, 8192, 64, 8, 28_672), {},
     False, 70_553_706_496),
    ("llama3_1_8b", "meta-llama/Llama-3.1-8B-Instruct", "llama3", (32, 4096, 32, 8, 14_336), _LLAMA_3_1,
     False, 8_030_261_248),
    ("llama3_1_70b", "meta-llama/Llama-3.1-70B-Instruct", "llama3", (80, 8192, 64, 8, 28_672), _LLAMA_3_1,
     False, 70_553_706_496),
    ("llama3_1_405b", "meta-llama/Llama-3.1-405B-Instruct", "llama3", (126, 16_384, 128, 8, 53_248), _LLAMA_3_1,
     False, 405_853_388_800),
    ("llama3_2_1b", "meta-llama/Llama-3.2-1B-Instruct", "llama3", (16, 2048, 32, 8, 8192),
     _LLAMA_3_2 | {"head_width": 64}, True, 1_235_814_400),
    ("llama3_2_3b", "meta-llama/Llama-3.2-3B-Instruct", "llama3", (28, 3072, 24, 8, 8192), _LLAMA_3_2,
     True, 3_212_749_824),
    ("qwen2_5_0_5b", "Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5", (24, 896, 14, 2, 4864),
     _SMALL_QWEN | {"head_width": 64}, True, 494_032_768),
    ("qwen2_5_1_5b", "Qwen/Qwen2.5-1.5B-Instruct", "qwen2.5", (28, 1536, 12, 2, 8960), _SMALL_QWEN,
     True, 1_543_714_304),
    ("qwen2_5_3b", "Qwen/Qwen2.5-3B-Instruct", "qwen2.5", (36, 2048, 16, 2, 11_008), _SMALL_QWEN,
     True, 3_085_938_688),
    ("qwen2_5_7b", "Qwen/Qwen2.5-7B-Instruct", "qwen2.5", (28, 3584, 28, 4, 18_944), _LARGE_QWEN,
     False, 7_615_616_512),
    ("qwen2_5_14b", "Qwen/Qwen2.5-14B-Instruct", "qwen2.5", (48, 5120, 40, 8, 13_824), _LARGE_QWEN,
     False, 14_770_033_664),
    ("qwen2_5_32b", "Qwen/Qwen2.5-32B-Instruct", "qwen2.5", (64, 5120, 40, 8, 27_648), _LARGE_QWEN,
     False, 32_763_876_352),
    ("qwen2_5_72b", "Qwen/Qwen2.5-72B-Instruct", "qwen2.5", (80, 8192, 64, 8, 29_568), _LARGE_QWEN,
     False, 72_706_203_648),
    ("qwen3_0_6b", "Qwen/Qwen3-0.6B", "qwen3", (28, 1024, 16, 8, 3072), {}, True, 596_049_920),
    ("qwen3_1_7b", "Qwen/Qwen3-1.7B", "qwen3", (28, 2048, 16, 8, 6144), {}, True, 1_720_574_976),
    ("qwen3_4b", "Qwen/Qwen3-4B", "qwen3", (36, 2560, 32, 8, 9728), {}, True, 4_022_468_096),
    ("qwen3_8b", "Qwen/Qwen3-8B", "qwen3", (36, 4096, 32, 8, 12_288), {}, False, 8_190_735_360),
    ("qwen3_14b", "Qwen/Qwen3-14B", "qwen3", (40, 5120, 40, 8, 17_408), {}, False, 14_768_307_200),
    ("qwen3_32b", "Qwen/Qwen3-32B", "qwen3", (64, 5120, 64, 8, 25_600), {}, False, 32_762_123_264),
    ("gemma2_2b", "google/gemma-2-2b-it", "gemma2", (26, 2304, 8, 4, 9216), {}, True, 2_614_341_888),
    ("gemma2_9b", "google/gemma-2-9b-it", "gemma2", (42, 3584, 16, 8, 14_336), {}, True, 9_241_705_984),
    ("gemma2_27b", "google/gemma-2-27b-it", "gemma2", (46, 4608, 32, 16, 36_864),
     {"head_width": 128, "query_scale": 144**-0.5}, True, 27_227_128_320),
    ("gemma3_270m", "google/gemma-3-270m-it", "gemma3", (18, 640, 4, 1, 2048), _GEMMA_3_SMALL, True, 268_098_176),
    ("gemma3_1b", "google/gemma-3-1b-it", "gemma3", (26, 1152, 4, 1, 6912), _GEMMA_3_SMALL, True, 999_885_952),
    ("gemma3_4b", "google/gemma-3-4b-it", "gemma3", (34, 2560, 8, 4, 10_240), {}, True, 3_880_263_168),
    ("gemma3_12b", "google/gemma-3-12b-it", "gemma3", (48, 3840, 16, 8, 15_360), {}, True, 11_766_034_176),
    ("gemma3_27b", "google/gemma-3-27b-it", "gemma3", (62, 5376, 32, 16, 21_504),
     {"head_width": 128, "query_scale": 168**-0.5}, True, 27_009_346_304),
)  # fmt: skip


def _config(family: str, size: tuple[int, int, int, int, int], changes: dict[str, Any]) -> DecoderConfig:
    numbers = dict(zip(("layers", "width", "heads", "kv_heads", "ffn_width"), size, strict=True))
    if family.startswith("gemma"):
        numbers |= _GEMMA | {"embedding_scale": float(numbers["width"]) ** 0.5}
    return DecoderConfig(**(_FAMILIES[family] | numbers | changes))


PRESETS = {
    name: Preset(repository, _config(family, size, changes), tied, parameters)
    for name, repository, family, size, changes, tied, parameters in _SIZES
}
"""Every size by the name of its file in gin/models/."""
