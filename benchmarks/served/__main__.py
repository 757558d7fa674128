"""Rewards of an exported folder by other people's software, against those of `crome score`.

  crome export --checkpoint runs/x --out exported
  crome score --checkpoint runs/x < prompt_response.jsonl > scored.jsonl
  python benchmarks/served/__main__.py vllm exported scored.jsonl
  python benchmarks/served/__main__.py openrlhf exported scored.jsonl

It imports nothing of crome_jax: it is run where the other software is installed, and prints the largest difference.
Prompts are text, or messages. vLLM is asked by `LLM.classify` in float32. OpenRLHF's own loader of reward models is
called; its imports of deepspeed and flash_attn, which want a GPU and which this path does not call, are stood in for,
and it loads float32, where by itself it knows bfloat16 and float16 only.
"""

import importlib.machinery
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

Render = Callable[[object], list[str]]
"""From a tokenizer to the texts of all records."""


def by_vllm(folder: str, render: Render, architecture: str | None) -> list[float]:
    """Return vLLM's scores; `architecture` is what it is to take the folder's class for."""
    from vllm import LLM

    overrides = {"hf_overrides": {"architectures": [architecture]}} if architecture else {}
    engine = LLM(model=folder, runner="pooling", dtype="float32", enforce_eager=True, **overrides)
    return [answer.outputs.probs[0] for answer in engine.classify(render(engine.get_tokenizer()))]


def by_openrlhf(folder: str, render: Render, architecture: str | None) -> list[float]:
    """Return what OpenRLHF's reward model gives to a batch padded on the left, as it pads."""
    import torch
    import transformers

    for name in ("deepspeed", "flash_attn", "flash_attn.bert_padding", "flash_attn.utils.distributed"):
        stand_in = types.ModuleType(name)
        stand_in.__spec__ = importlib.machinery.ModuleSpec(name, None)  # transformers looks for it.
        for called in ("index_first_axis", "pad_input", "rearrange", "unpad_input", "all_gather"):
            setattr(stand_in, called, None)
        sys.modules[name] = stand_in
    # Modules alone: the packages around them start ray.
    root = Path(importlib.util.find_spec("openrlhf").submodule_search_locations[0])
    for name in ("openrlhf", "openrlhf.utils", "openrlhf.models"):
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    from openrlhf.models.model import get_llm_for_sequence_regression
    from openrlhf.utils import utils

    utils.convert_to_torch_dtype = lambda name: torch.float32
    model = get_llm_for_sequence_regression(folder, "reward", attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        render(tokenizer), padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
    )
    with torch.no_grad():
        return model(batch["input_ids"], attention_mask=batch["attention_mask"]).tolist()


def run(argv: Sequence[str]) -> None:
    """Score, and print how far the rewards are from those that are wanted."""
    if len(argv) not in (3, 4) or argv[0] not in ("vllm", "openrlhf"):
        raise SystemExit(f"{__doc__}\nusage: vllm|openrlhf FOLDER SCORED [ARCHITECTURE]")
    software, folder, scored, *architecture = argv
    records = [json.loads(line) for line in Path(scored).read_text(encoding="utf-8").splitlines()]

    def render(tokenizer: object) -> list[str]:
        texts = []
        for record in records:
            prompt = record["prompt"]
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            answer = {"role": "assistant", "content": record["response"]}
            texts.append(tokenizer.apply_chat_template([*turns, answer], tokenize=False))
        return texts

    found = {"vllm": by_vllm, "openrlhf": by_openrlhf}[software](folder, render, next(iter(architecture), None))
    furthest = max(abs(reward - record["reward"]) for reward, record in zip(found, records, strict=True))
    print(f"{software}: {len(found)} rewards, the furthest {furthest:.1e} nats from those of crome score")


if __name__ == "__main__":  # vLLM starts processes that import this again.
    run(sys.argv[1:])
