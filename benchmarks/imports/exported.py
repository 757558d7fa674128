"""How far an exported model's rewards, by transformers' own pipeline, are from ours, on texts as people write them."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import transformers

from crome_jax.data.packing import RowShape
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.groups import Message, PreferenceGroup, Response
from crome_jax.training.mesh import make_mesh
from crome_jax.training.placing import place_params
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.export import write_folder

CONVERSATIONS = {
    "Why is the sky blue at noon and red in the evening?": (
        "Air scatters short waves more than long ones (Rayleigh, 1871): at noon the blue reaches you from everywhere.",
        "It reflects the sea.",
    ),
    "Write a Python function that reverses a list in place.": (
        "```python\ndef reverse(xs):\n    i, j = 0, len(xs) - 1\n    while i < j:\n"
        "        xs[i], xs[j] = xs[j], xs[i]\n        i, j = i + 1, j - 1\n```\n\nIt takes O(n) time, O(1) memory.",
        "Use `xs[::-1]`. 👍",
    ),
    "日本の首都はどこですか？": ("東京です。人口は約1,400万人です。", "京都です。"),
    "¿Cuántos días tiene febrero en 2028?": ("29, porque 2028 es bisiesto (2028 ÷ 4 = 507).", "28 días… ¿o 30?"),
    "Solve:\n\n\t3x + 5 = 20\r\n": ("3x = 15, so x = 5.  \n\n- check: 3·5 + 5 = 20 ✓", "x = 25/3 ≈ 8.33"),
    "ما هي عاصمة مصر؟": ("القاهرة هي عاصمة مصر.", "الإسكندرية 🙂"),
    "Summarise in one line: “naïve café owners can’t” — e\u0301 or é?": (
        "Both spell é; one in two code points.",
        "No.",
    ),
    "How do I kill a process that hangs?": ("Find it with `ps aux | grep NAME`, then `kill -TERM PID`.", "You cannot."),
}
"""Two answers to each prompt: several scripts, code, white space, emoji, numbers, accents in one code point and two."""


class Apart(NamedTuple):
    """How far theirs are from ours, in nats, of all texts, batches of 1 to 8 and padding on either side.

    Args:
        texts: how many.
        worst: largest difference.
        spread: standard deviation of our rewards, to see the difference beside.
    """

    texts: int
    worst: float
    spread: float


def compare_exported(name: str, folder: Path) -> Apart:
    """Export a backbone under a head drawn at random, and score the conversations here and there, in float32.

    Args:
        folder: that is not there yet.
    """
    base = load_backbone(name, "head")
    head = np.random.default_rng(0).normal(size=base.cfg.width) / np.sqrt(base.cfg.width)
    mesh = make_mesh()
    trained, frozen = place_params(base, "head", mesh, "scalar")
    params = {**frozen, **trained, "head": jnp.asarray(head, jnp.float32)}
    groups = [
        PreferenceGroup(str(i), (Message("user", prompt),), tuple(map(Response, answers)), ())
        for i, (prompt, answers) in enumerate(CONVERSATIONS.items())
    ]
    ours = np.concatenate(
        score_groups(RewardModel(params, base.cfg, base.tokenizer, RowShape(512), mesh), groups).rewards
    )
    write_folder(folder, params, base.cfg, base.tokenizer, context=2048, card="")
    classify = transformers.pipeline("text-classification", model=str(folder), function_to_apply="none")
    texts = [
        classify.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], tokenize=False
        )
        for prompt, answers in CONVERSATIONS.items()
        for answer in answers
    ]
    worst = 0.0
    for classify.tokenizer.padding_side in ("left", "right"):
        for size in range(1, 9):
            found = [each["score"] for each in classify(texts, add_special_tokens=False, batch_size=size)]
            worst = max(worst, float(np.abs(np.array(found) - ours).max()))
    return Apart(len(texts), worst, float(ours.std()))
