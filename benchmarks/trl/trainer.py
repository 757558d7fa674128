"""TRL's RewardTrainer on the pairs of packed groups, with the settings that are best for it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from benchmarks.trl.timing import Timing
from crome_jax.models.weights import Trainable

Pair = dict[str, list[int]]
"""Token ids of the whole conversation, as TRL names them: chosen_ids and rejected_ids."""


class _Clock(transformers.TrainerCallback):
    """Times optimizer steps alone: from the beginning of the first to the end of the last."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.monotonic(), time.process_time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ended = time.monotonic(), time.process_time()


class _Counting(DataCollatorForPreference):
    """Counts the tokens of batches, padding too."""

    laid_out: int = 0

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        self.laid_out += batch["input_ids"].numel()
        return batch


def load_model(folder: Path, trainable: Trainable) -> torch.nn.Module:
    """Load the sequence classifier, its frozen weights without a gradient: those that crome_jax freezes."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    if trainable != "all":
        model.requires_grad_(False)
        layers = model.model.layers
        for part in (*layers[len(layers) - int(trainable) :], model.model.norm, model.score):
            part.requires_grad_(True)
    return model


def loss_of(folder: Path, pairs: Sequence[Pair]) -> float:
    """Return TRL's loss of the pairs before any step, each scored without padding, in nats."""
    model = load_model(folder, "all").eval()
    with torch.inference_mode():
        chosen, rejected = (
            torch.cat([model(input_ids=torch.tensor([pair[side]])).logits[:, 0] for pair in pairs])
            for side in ("chosen_ids", "rejected_ids")
        )
    return float(-torch.nn.functional.logsigmoid(chosen - rejected).mean())


def train(folder: Path, out: Path, pairs: Sequence[Pair], trainable: Trainable, batch: int) -> Timing:
    """Train one epoch of the pairs.

    Batches are of pairs of about the same length, and padded to the longest of their own; nothing is computed twice to
    save memory, nothing is saved or evaluated. Reward training has no form without padding in TRL.

    Args:
        batch: pairs of an optimizer step.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    args = RewardConfig(
        output_dir=str(out),
        per_device_train_batch_size=batch,
        num_train_epochs=1,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        max_length=None,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,  # The sampler reads `length`.
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    lengths = [max(map(len, pair.values())) for pair in pairs]
    dataset = Dataset.from_list([{**pair, "length": length} for pair, length in zip(pairs, lengths, strict=True)])
    collator = _Counting(pad_token_id=tokenizer.pad_token_id)
    clock = _Clock()
    trainer = RewardTrainer(
        load_model(folder, trainable),
        args,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=collator,
        callbacks=[clock],
    )
    trainer.train()
    tokens = sum(len(ids) for pair in pairs for ids in pair.values())
    seconds, cpu = (end - start for start, end in zip(clock.began, clock.ended, strict=True))
    return Timing(seconds, cpu, len(pairs), tokens, collator.laid_out - tokens)
