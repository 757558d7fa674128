"""config.json as it is published, in the form of transformers 4 and 5, as the numbers of a decoder; or refused."""

import json

import pytest

from crome_jax.errors import CromeError
from crome_jax.models.presets import PRESETS
from crome_jax.weights.backbones import context_length
from crome_jax.weights.folder_configs import read_folder_config

LLAMA_3_1_8B = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "vocab_size": 128256,
}  # fmt: skip
PUBLISHED = {
    "llama3_1_8b": LLAMA_3_1_8B,
    "llama3_2_1b": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    },
    "smollm2_135m": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 576,
        "intermediate_size": 1536, "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05,
        "rope_interleaved": False, "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True,
        "vocab_size": 49152,
    },
    "smollm2_1_7b": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 8192, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32,
        "num_hidden_layers": 24, "num_key_value_heads": 32, "pad_token_id": 2, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 130000, "tie_word_embeddings": True, "vocab_size": 49152,
    },
    "qwen2_5_0_5b": {
        "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 32768, "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
    },
    "qwen2_5_7b": {
        "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
        "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 131072, "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": 152064,
    },
    "qwen3_0_6b": {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
        "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
    },
    "qwen3_32b": {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 5120, "intermediate_size": 25600, "max_position_embeddings": 40960, "max_window_layers": 64,
        "model_type": "qwen3", "num_attention_heads": 64, "num_hidden_layers": 64, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "use_sliding_window": False, "vocab_size": 151936,
    },
    "gemma2_9b": {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584,
        "intermediate_size": 14336, "model_type": "gemma2", "num_attention_heads": 16, "num_hidden_layers": 42,
        "num_key_value_heads": 8, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
        "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000,
    },
    "gemma2_27b": {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 128,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 4608,
        "intermediate_size": 36864, "model_type": "gemma2", "num_attention_heads": 32, "num_hidden_layers": 46,
        "num_key_value_heads": 16, "query_pre_attn_scalar": 144, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
        "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000,
    },
    "gemma3_270m": {
        "_sliding_window_pattern": 6, "architectures": ["Gemma3ForCausalLM"], "attention_bias": False,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640, "intermediate_size": 2048,
        "layer_types": [*["sliding_attention"] * 5, "full_attention"] * 3, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 18, "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "rope_theta": 1000000.0, "sliding_window": 512, "use_bidirectional_attention": False, "vocab_size": 262144,
    },
    "gemma3_1b": {
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
        "cache_implementation": "hybrid", "final_logit_softcapping": None, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6, "vocab_size": 262144,
    },
    "gemma3_12b": {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {
            "hidden_size": 3840, "intermediate_size": 15360, "model_type": "gemma3_text", "num_attention_heads": 16,
            "num_hidden_layers": 48, "num_key_value_heads": 8,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
    },
    "gemma3_4b": {  # All that its file says of the text part.
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
        "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
    },
    "gemma3_27b": {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {
            "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
            "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16,
            "query_pre_attn_scalar": 168, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    },
}  # fmt: skip


def read(folder, content):
    (folder / "config.json").write_text(json.dumps(content))
    return read_folder_config(folder)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_gives_the_preset(name, tmp_path):
    config = read(tmp_path, PUBLISHED[name])
    assert config.decoder == PRESETS[name].cfg
    assert not config.classifier


def test_the_form_of_transformers_5_says_the_same(tmp_path):
    content = {k: v for k, v in LLAMA_3_1_8B.items() if k not in ("rope_scaling", "rope_theta")}
    content["rope_parameters"] = LLAMA_3_1_8B["rope_scaling"] | {"rope_theta": 500000.0}
    assert read(tmp_path, content).decoder == PRESETS["llama3_1_8b"].cfg
    content = {k: v for k, v in PUBLISHED["gemma3_27b"]["text_config"].items() if k != "rope_scaling"}
    content["rope_parameters"] = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    content |= {"layer_types": [*["sliding_attention"] * 5, "full_attention"] * 10 + ["sliding_attention"] * 2}
    assert read(tmp_path, content).decoder == PRESETS["gemma3_27b"].cfg


def test_a_classifier_is_known_by_its_architecture(tmp_path):
    assert read(tmp_path, LLAMA_3_1_8B | {"architectures": ["LlamaForSequenceClassification"]}).classifier


def test_how_long_a_text_may_be_is_read_where_the_file_says_it(tmp_path):
    for content, context in ((LLAMA_3_1_8B, 131_072), (PUBLISHED["gemma3_4b"], 131_072)):
        read(tmp_path, content)
        assert context_length(str(tmp_path)) == context


def test_layers_that_repeat_in_no_block_are_one_block(tmp_path):
    windows = {"use_sliding_window": True, "max_window_layers": 21, "sliding_window": 512}
    decoder = read(tmp_path, PUBLISHED["qwen2_5_0_5b"] | windows).decoder
    assert decoder.pattern == ("global",) * 21 + ("local",) * 3
    assert decoder.window == 512


YARN = {"rope_type": "yarn", "factor": 4.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, r"model_type is 'mamba' \(MambaForCausalLM\)"),
        ({"model_type": "gemma3", "text_config": None}, r"'num_hidden_layers' is missing|'hidden_size' is missing"),
        ({"attention_bias": True}, r"attention_bias is True; supported is False"),
        ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor is 0\.5; supported is 1"),
        ({"rope_scaling": YARN}, r"rope is scaled by 'yarn'; supported are default, linear, llama3"),
        ({"rope_scaling": {"rope_type": "linear"}}, r"linear scaling of rope has no 'factor'"),
        ({"rope_scaling": "linear"}, r"describes no decoder"),
        ({"hidden_act": "gelu"}, r"the activation is 'gelu'; supported are silu, gelu_pytorch_tanh"),
        ({"hidden_size": None}, r"'hidden_size' is missing"),
        ({"hidden_size": "wide"}, r"describes no decoder"),
        ({"num_hidden_layers": 0}, r"describes no decoder \(layers is 0\)"),
        ({"num_key_value_heads": 5}, r"describes no decoder \(32 query heads cannot share 5"),
        ({"layer_types": ["full_attention"] * 31}, r"layer_types has 31 entries for 32 layers"),
        ({"layer_types": ["chunked_attention"] * 32}, r"layer_types names 'chunked_attention'"),
        ({"quantization_config": {"bits": 4}}, r"the weights are quantised"),
        ({"model_type": ["llama"]}, r"model_type is \['llama'\]"),
        ({"architectures": [None]}, r"architectures is \[None\], not a list of names"),
        ({"rope_theta": -1}, r"describes no decoder \(rope_base is -1\.0, not a number above 0"),
        ({"rms_norm_eps": -1e-5}, r"describes no decoder \(norm_eps is"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, r"describes no decoder \(rope_factor is 0\.0"),
    ],
)
def test_what_cannot_be_a_decoder_is_named(changes, message, tmp_path):
    with pytest.raises(CromeError, match=rf"config\.json: .*({message})"):
        read(tmp_path, LLAMA_3_1_8B | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sliding_window": 0}, r"window is 0, not a number above 0"),
        ({"sliding_window": "a"}, r"window is 'a', not a number above 0"),
        ({"sliding_window": 1.5}, r"window is 1\.5, not a whole number"),
        ({"attn_logit_softcapping": 0}, r"attention_cap is 0\.0, not a number above 0"),
        ({"query_pre_attn_scalar": -2}, r"query_scale is "),
        ({"query_pre_attn_scalar": 0}, r"division by zero|negative power"),
    ],
)
def test_numbers_of_gemma_that_make_no_sense_are_named(changes, message, tmp_path):
    with pytest.raises(CromeError, match=rf"config\.json: describes no decoder \(.*({message})"):
        read(tmp_path, PUBLISHED["gemma2_9b"] | changes)


def test_adapters_alone_are_told_from_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CromeError, match=r"holds adapters alone \(adapter_config\.json\); merge them into their base"):
        read_folder_config(tmp_path)


def test_what_is_no_config_is_told(tmp_path):
    with pytest.raises(
        CromeError, match=r"holds neither config\.json nor model\.json; give the folder of a Hugging Face model"
    ):
        read_folder_config(tmp_path)
    for text in ("", "[]", "{"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CromeError, match=r"config\.json: (cannot be read|holds no JSON object)"):
            read_folder_config(tmp_path)
