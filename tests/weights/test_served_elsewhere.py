"""Exported folders in the hands of others: TRL itself, and what OpenRLHF's and vLLM's code asks of a folder."""

import dataclasses
import json
import pydoc

import datasets
import numpy as np
import pytest
import torch
import transformers
import trl
from reference import FAMILIES, TOKENS, from_torch, reference, write_tokenizer
from safetensors import safe_open
from toy import mesh_of, text_groups
from trl.experimental.utils import get_reward

from crome_jax.data.packing import RowShape
from crome_jax.data.tokenizers import load_tokenizer
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.weights.export import write_folder

GROUPS = text_groups(3)


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request, tmp_path_factory):
    """A folder that was exported, and our rewards of the first two responses of every group, [groups, 2]."""
    folder = tmp_path_factory.mktemp(request.param)
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    theirs, cfg = reference(request.param, 0, TOKENS)
    params = from_torch(theirs.state_dict(), cfg)
    write_folder(folder / "out", params, cfg, tokenizer, context=4096, card="# A card\n")
    two = [dataclasses.replace(group, responses=group.responses[:2], comparisons=()) for group in GROUPS]
    model = RewardModel(params, cfg, tokenizer, RowShape(256, 8, 8), mesh_of(1, 1, 1))
    return folder / "out", np.stack(score_groups(model, two).rewards)


def conversations(r):
    return [
        [*({"role": m.role, "content": m.content} for m in group.prompt),
         {"role": "assistant", "content": group.responses[r].text}]
        for group in GROUPS
    ]  # fmt: skip


def encoded(folder, side="right"):
    """Encode all conversations as one batch, the chosen and then the rejected ones."""
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [reader.apply_chat_template(c, tokenize=False) for r in (0, 1) for c in conversations(r)]
    return reader, reader(texts, padding=True, padding_side=side, add_special_tokens=False, return_tensors="pt")


def test_trl_evaluates_it_as_its_own_and_gets_our_rewards(exported, tmp_path):
    folder, ours = exported
    trainer = trl.RewardTrainer(
        model=str(folder),
        args=trl.RewardConfig(
            output_dir=str(tmp_path), per_device_eval_batch_size=2, report_to="none", use_cpu=True, bf16=False
        ),
        train_dataset=(pairs := datasets.Dataset.from_dict({"chosen": conversations(0), "rejected": conversations(1)})),
        eval_dataset=pairs,
    )
    found = trainer.evaluate()
    margins = ours[:, 0] - ours[:, 1]
    # Means of batches of two and of one; figures that TRL logs.
    by_batch = [slice(0, 2), slice(2, 3)]
    mean = lambda values: np.mean([values[at].mean() for at in by_batch])  # noqa: E731
    np.testing.assert_allclose(found["eval_margin"], mean(margins), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found["eval_mean_reward"], mean(ours), atol=1e-4, rtol=1e-4)
    assert found["eval_min_reward"] <= found["eval_mean_reward"] <= found["eval_max_reward"]


def test_trl_s_get_reward_is_ours(exported):
    folder, ours = exported
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    reader, batch = encoded(folder)
    with torch.no_grad():
        _, found, _ = get_reward(model, batch["input_ids"], reader.pad_token_id, 1)
    np.testing.assert_allclose(found.numpy(), ours.T.ravel(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_openrlhf_s_reading_of_the_head_is_ours(exported, side):
    # OpenRLHF/OpenRLHF, openrlhf/models/model.py: get_llm_for_sequence_regression takes the head that
    # config.value_head_prefix names (without it, "value_head" by some versions' default), puts it on the last hidden
    # states, with positions counted along the attention mask, and takes the value at the mask's last 1. `mean` and
    # `std` would normalise the reward.
    folder, ours = exported
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    assert not hasattr(model.config, "mean")
    assert not hasattr(model.config, "std")
    head = getattr(model, model.config.value_head_prefix)
    _, batch = encoded(folder, side)
    mask = batch["attention_mask"]
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    ends = mask.shape[1] - 1 - mask.fliplr().argmax(dim=1, keepdim=True)
    with torch.no_grad():
        hidden = model(**batch, position_ids=positions, output_hidden_states=True).hidden_states[-1]
        found = head(hidden).squeeze(-1).gather(1, ends)[:, 0]
    np.testing.assert_allclose(found.numpy(), ours.T.ravel(), atol=1e-4, rtol=1e-4)


def test_openrlhf_s_data_set_leaves_a_rendered_conversation_as_it_is(exported):
    # openrlhf/datasets/reward_dataset.py (read, not run): strips line breaks, appends EOS where the text does not end
    # with it, and writes EOS over the last token.
    folder, _ = exported
    reader, _ = encoded(folder)
    for text in (reader.apply_chat_template(c, tokenize=False) for c in conversations(0)):
        assert text.rstrip("\n").endswith(reader.eos_token)
        assert reader(text, add_special_tokens=False).input_ids[-1] == reader.eos_token_id


VLLM = ("Gemma2ForCausalLM", "Gemma3ForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Classes of vLLM's registry (vllm/model_executor/models/registry.py) that the families here need."""


def test_a_folder_has_what_vllm_s_classify_asks_for(exported):
    # vllm-project/vllm: registry.py replaces the suffix ForSequenceClassification by ForCausalLM;
    # models/adapters.py::as_seq_cls_model puts a linear layer `score` without bias, [num_labels, hidden_size], on the
    # last token, and makes it from the head of the language model where the configuration has `method` or
    # `classifier_from_token`; the pooler leaves the score as it is where problem_type is "regression", and takes its
    # sigmoid otherwise.
    folder, _ = exported
    config = json.loads((folder / "config.json").read_text())
    (architecture,) = config["architectures"]
    # Of Gemma 3's text model vLLM knows no such name; the model card says what to start it with.
    architecture = architecture.replace("Gemma3Text", "Gemma3")
    assert architecture.replace("ForSequenceClassification", "ForCausalLM") in VLLM
    assert (config["num_labels"], config["problem_type"]) == (1, "regression")
    assert not {"method", "classifier_from_token"} & config.keys()
    activation = config["sentence_transformers"]["activation_fn"]
    assert activation.startswith("torch.nn.modules.")  # No others are loaded.
    assert isinstance(pydoc.locate(activation)(), torch.nn.Identity)
    with safe_open(folder / "model.safetensors", "np") as tensors:
        score = tensors.get_tensor("score.weight")
        assert {name.split(".")[0] for name in tensors.keys()} == {"model", "score"}  # noqa: SIM118
    assert (score.shape, score.dtype) == ((1, config["hidden_size"]), np.float32)
