"""Adapters in PEFT's hands, loaded as the model card says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from reference import rendered

from crome_jax.groups import PreferenceGroup


def load_adapter(base: Path, adapter: Path):
    """Return transformers' tokenizer and PEFT's model."""
    reader = transformers.AutoTokenizer.from_pretrained(adapter)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    # The base's own padding is another token, in which the tokenizer does not pad.
    model.config.get_text_config().pad_token_id = reader.pad_token_id
    return reader, peft.PeftModel.from_pretrained(model, adapter).eval()


def encoded(reader, groups: Sequence[PreferenceGroup]):
    """Encode every response of groups under its prompt, as one padded batch."""
    return reader(rendered(reader, groups), padding=True, add_special_tokens=False, return_tensors="pt")


def peft_rewards(base: Path, adapter: Path, groups: Sequence[PreferenceGroup]) -> np.ndarray:
    """Return the rewards of every response of groups."""
    reader, model = load_adapter(base, adapter)
    with torch.no_grad():
        return model(**encoded(reader, groups)).logits[:, 0].numpy()
