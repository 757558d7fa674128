"""The README.md of an exported reward model: where it comes from, how it was trained and measured, how it is used."""

import json
from pathlib import Path
from typing import Any

from crome_jax.data.pairs import REQUEST
from crome_jax.errors import CromeError
from crome_jax.files import place, read_json_object
from crome_jax.training.run_cards import MAKINGS_FILE, ModelCard
from crome_jax.weights.packages import BACKBONES

_USE = """```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()
conversation = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]
inputs = tokenizer.apply_chat_template(
    conversation, sanitize_control_tokens=True, return_dict=True, return_tensors="pt"
)
with torch.no_grad():
    reward = model(**inputs).logits[0, 0]
```"""


_USE_ADAPTER = _USE.replace(
    "model = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()",
    "base = AutoModelForSequenceClassification.from_pretrained(BACKBONE, num_labels=1)\n"
    "base.config.get_text_config().pad_token_id = tokenizer.pad_token_id\n"
    "model = PeftModel.from_pretrained(base, FOLDER).eval()",
).replace("import torch\n", "import torch\nfrom peft import PeftModel\n")


_PAIR = """conversation = [
    {"role": "user", "content": "..."},
    {"role": "assistant", "content": first},
    {"role": "user", "content": "REQUEST"},
    {"role": "assistant", "content": second},
]"""


def _use(pairwise: bool, adapter: bool) -> str:
    use = _USE_ADAPTER if adapter else _USE
    if not pairwise:
        return use
    lines = [_PAIR.replace("REQUEST", REQUEST) if line.startswith("conversation") else line for line in use.split("\n")]
    return "\n".join(lines).replace("    reward = ", "    first_is_better = ")


_REWARDS = (
    "It scores the last assistant's turn of a conversation. The difference of two rewards for one prompt is the "
    "log-odds that the first answer is preferred (Bradley-Terry); a reward by itself means nothing."
)
_PAIRS = (
    "It compares two answers to a prompt, written as one conversation: between them a user's turn asks for the second, "
    "in the words below and no others. The logit is the log-odds that the first answer is the better. Which stands "
    "first must not matter: compute both orders, and take half of the first logit less the second. That is what was "
    "evaluated. Of such log-odds d, the probability of a tie is 1 / (1 + 2 cosh(d / 2)), by Davidson's model."
)


_QLORA = (
    "The adapters were trained over the backbone's matrices in {base}, and that is what was evaluated. Over the "
    "backbone's own weights, as above, they give other rewards, the more so the fewer the bits; `crome export` without "
    "`--adapter` writes the model that was evaluated, whole."
)


_BFLOAT16 = (
    "In training and in what was evaluated, activations were bfloat16. Over the same weights, float32 arithmetic as "
    "above gives rewards that differ by what bfloat16 rounds (0.2% to 1.5% was seen); so does another implementation's "
    "bfloat16."
)


_FOLDED = (
    "The chat template has no place for a system turn. In training its text was written at the head of the first "
    "user's turn, with a blank line after it; write it there, as the template refuses or drops the role."
)


_VLLM_GEMMA3 = (
    "vLLM knows this class by another name: start it with "
    '`--hf-overrides \'{"architectures": ["Gemma3ForSequenceClassification"]}\'`.'
)


def render_model_card(
    run: Path | str,
    card: ModelCard,
    step: int,
    *,
    adapter: bool = False,
    folds_system: bool = False,
) -> str:
    """Write the model card of a run's checkpoint.

    Args:
        run: the run's folder, whose gin configuration is put in where it is there, and so is its evaluation where that
            is one of this checkpoint.
        card: its model.json.
        step: of the checkpoint.
        adapter: whether the folder holds adapters alone.
        folds_system: whether training wrote system turns at the head of the user's, as its chat template has no place
            for them.

    Raises:
        CromeError: where a file of the run is damaged.
    """
    run, pairwise, lora = place(run), card.head == "pairwise", card.config.lora
    parts = [
        "---\npipeline_tag: text-classification\ntags:\n- reward-model\n- crome_jax\n---",
        f"# {'Pairwise preference' if pairwise else 'Reward'} model: {card.method} on {Path(card.backbone).name}",
        _PAIRS if pairwise else _REWARDS,
        "## Use",
        _use(pairwise, adapter),
        "What is scored is the token that ends the last assistant's turn. It is the tokenizer's EOS; the chat template "
        "here writes nothing after it, and the padding token is another one, so that it is the last token whichever "
        "side is padded. BOS, where the model wants it, is written by the template: rendered text is encoded the same "
        "with and without `add_special_tokens`.",
        "In training, text that spells a control token was text. `sanitize_control_tokens=True` (transformers from "
        "5.23; earlier ones ignore it) keeps it so, though it encodes such a spelling apart from the space before it: "
        "the reward may then be a little other. Without it an answer that holds the template's end of turn, say, "
        "ends there for the model, and its reward is another one. No setting of the tokenizer's files can do this: "
        "`split_special_tokens` would take the template's own control tokens for text, too.",
        "In training an answer was encoded by itself. Where it starts with white space that the chat template keeps "
        "(ChatML's does), some tokenizers join that to the line break before it, and its reward is then another one.",
        *([_FOLDED] if folds_system else []),
        *([_BFLOAT16] if card.dtype == "bfloat16" else []),
        *([_QLORA.format(base=lora.base)] if adapter and lora.base != "float32" else []),
        *([_VLLM_GEMMA3] if card.config.family == "gemma3" and not adapter else []),
        "## Training",
        _table(_facts(card, step)),
        *_data(run),
    ]
    if card.backbone in BACKBONES:
        parts.append(f"Terms of the backbone: {BACKBONES[card.backbone].terms}")
    gin = run / "operative_config.gin"
    if gin.is_file():
        try:
            parts += ["Configuration:", f"```\n{gin.read_text(encoding='utf-8').strip()}\n```"]
        except (OSError, UnicodeDecodeError) as e:
            raise CromeError(f"{gin}: cannot be read ({e}); restore it from a copy, or move it away") from None
    parts += ["## Evaluation", _evaluation(run / "evaluation" / "report.json", card, step)]
    return "\n\n".join(parts) + "\n"


def _facts(card: ModelCard, step: int) -> list[tuple[str, Any]]:
    return [
        ("backbone", Path(card.backbone).name),
        ("SHA-256 of the backbone", card.backbone_fingerprint),
        ("method", card.method),
        ("trained layers", card.trainable),
        *([("LoRA", ", ".join(f"{k} {v}" for k, v in card.decoder["lora"].items()))] if card.config.lora else []),
        ("optimizer steps", step),
        ("tokens of a row", card.row_tokens),
        ("dtype of activations", card.dtype),
        ("SHA-256 of the training data as packed", card.data_fingerprint),
    ]


def _data(run: Path) -> list[str]:
    """Return, for each of the training data whose card said how it was made, what was asked for."""
    path = run / MAKINGS_FILE
    if not path.is_file():
        return []
    fix = "restore it from a copy, or move it away"
    parts = []
    for data, making in read_json_object(path, fix).items():
        if not isinstance(making, dict):
            raise CromeError(f"{path}: damaged ({data} is {making!r}); {fix}")
        asked = [(name.replace("_", " "), "none" if value is None else value) for name, value in making.items()]
        parts += [f"`crome augment` made the data `{Path(data).name}`:", _table(asked)]
    return parts


def _table(rows: list[tuple[str, Any]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _evaluation(path: Path, card: ModelCard, step: int) -> str:
    """Put the accuracies of report.json in a table, where it measured this checkpoint."""
    none = "None of this checkpoint was in the run's folder."
    if not path.is_file():
        return none
    report = read_json_object(path, "evaluate again, or delete it")
    lines = ["| model | split | accuracy, % | 95% interval | comparisons |", "|---|---|---|---|---|"]
    try:
        measured = [(row.get("optimizer steps"), row.get("training data")) for row in report["facts"]["runs"]]
        if (step, card.data_fingerprint) not in measured:
            return none
        for method, figures in report["methods"].items():
            for split, found in figures["splits"].items():
                accuracy, bounds = found["accuracy"], found["interval"]
                percent = "-" if accuracy is None else f"{100 * accuracy:.1f}"
                span = "-" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"
                lines.append(f"| {method} | {split} | {percent} | {span} | {found['comparisons']} |")
    except (AttributeError, KeyError, TypeError) as e:
        said = json.dumps(str(e))
        raise CromeError(f"{path}: is no report of `crome evaluate` ({said}); evaluate again, or delete it") from None
    return "\n".join(lines)
